"""Multi-scale region logits of any classifier that averages its last map, or reads class tokens.

What SDD (Luo, "Scale Decoupled Distillation", CVPR 2024, 2403.13512) and iCD (Xue et al., AAAI 2026, 2509.12553) look at:
the last feature map is averaged over the cells of an m x m grid for each scale m, and each cell goes through the model's
own head. The model is not edited: a cell is handed to its own code as a map, token sequence or vector of its own
(``entry.py``); where, timm's interface says, or a search that proves itself (``search.py``).
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from logitkd.reach.inputs import Inputs, eval_mode
from logitkd.reach.regions.entry import Entry, Features
from logitkd.reach.regions.pooling import check_grid_sides, pool_cells
from logitkd.reach.regions.proof import full_precision
from logitkd.reach.regions.search import find_entry
from logitkd.reach.replay.trace import find_module
from logitkd.reach.signals import Signals

__all__ = ["RegionModel"]


class RegionModel(nn.Module):
    """A classifier that also yields the logits of its image regions; the classifier itself, ``.model``, stays as it is.

    One forward pass of the backbone serves both: ``logits`` are exactly what the model itself returns.

    Which models: any classifier whose head reads the average of its last map, or its class tokens.

    - timm's, by ``forward_features`` and ``forward_head``, where these two are the model and the head does average.
      ``output_fmt`` says ``NHWC`` (swin), ``num_prefix_tokens`` the number of prefix tokens.
    - Any other (a timm model whose head changes the map before it averages it, torchvision's, transformers' in a wrapper that
      returns logits, one's own), by the last module that averages a map, or behind the last module that puts one out where a
      function averages it; such modules hold a switch in place of their ``forward`` from then on, see ``Replay`` (``close``
      takes it out). A convolution as the head (squeezenet) averages class scores: there the last map is that of the classes.
      Where the search fails, ``pool`` or ``head`` say it; of a ``pool`` that a gate shares the last call counts.

    Layouts:

    - Maps ``(N, D, H, W)`` or ``(N, H, W, D)``.
    - Tokens ``(N, P + H W, D)`` of a vision transformer with P class, distillation or register tokens; H and W are those of
      the patch embedding's map, or have the images' aspect, or the model is refused. Patch tokens are
      averaged over each cell. Where the head averages patch tokens, a cell is the head of its average. Where the head
      reads the class token, no token belongs to a cell: the cell's average takes the place of *every* prefix token. Region
      0 remains the model's own logits, read from the real class token.

    Batch normalisation inside the head, while training, normalises cells by the cells' own statistics, and only the
    model's own logits update its running statistics.

    The first forward pass checks on two images, in eval mode and float32, that the head does average the map (see ``check``).

    Args:
        model: The classifier, called with images alone, ``model(images)``.
        scales: Grid sides, increasing, the first 1 (the whole image).
        nested: Pool as the authors' code does, see ``pool_cells``. Region 0 is then pooled too and may differ from the
            logits, except where there are prefix tokens.
        pool: Path of the module that takes the last map and averages it; cells enter there as maps of one cell.
        head: Path of the module that takes the average; cells enter there. With ``pool`` too, the map is what that one takes.

    Raises:
        ValueError: ``scales`` are not increasing whole numbers from 1, or ``pool`` or ``head`` is no module of the model.
        TypeError: ``model`` is a ``Teacher``.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    >>> signals = RegionModel(model, (1, 2))(torch.randn(2, 3, 8, 8))
    >>> signals.logits.shape, signals.regions.shape
    (torch.Size([2, 5]), torch.Size([2, 5, 5]))
    """

    def __init__(
        self,
        model: nn.Module,
        scales: Sequence[int] = (1, 2, 4),
        nested: bool = False,
        *,
        pool: str | None = None,
        head: str | None = None,
    ) -> None:
        super().__init__()
        if callable(getattr(model, "members", None)):
            raise TypeError(
                "`model` must be a plain network, got a teacher: it yields regions itself, Teacher(model, scales=...)."
            )
        self.scales = check_grid_sides(scales)
        for what, path in (("pool", pool), ("head", head)):
            if path is not None:
                find_module(model, path, f"`{what}`")
        self.model = model
        self.nested = nested
        self.pool, self.head = pool, head
        self._entry: Entry | None = None
        self._head_norms: list[nn.Module] = []

    def forward(self, images: Tensor) -> Signals:
        """Return logits ``(N, C)`` and regions ``(N, S, C)`` of images ``(N, 3, H, W)``."""
        if self._entry is None:
            self.check(images)
        assert self._entry is not None
        ran = self._entry.run(images)
        logits, layout = ran.logits, ran.layout
        grid = layout.to_map(ran.values)
        if grid.shape[-2:] == (1, 1):
            raise ValueError(
                "region logits need a last map of several cells, got a single one on images of"
                f" {images.shape[-2]} x {images.shape[-1]}: give images as large as the first."
            )
        if self.nested and not layout.prefix:
            return Signals(logits, self._logits_of(ran, pool_cells(grid, self.scales, nested=True)))
        regions = logits.unsqueeze(1)
        if len(self.scales) > 1:
            cells = pool_cells(grid, self.scales[1:], self.nested)
            regions = torch.cat([regions, self._logits_of(ran, cells)], dim=1)
        return Signals(logits, regions)

    def close(self) -> None:
        """Take out of the model what regions need; the next forward pass puts it in again."""
        if self._entry is not None:
            self._entry.close()
        self._entry = None

    @torch.compiler.disable
    @torch.no_grad()
    def check(self, images: Inputs) -> None:
        """Find out on the first two images where cells enter the model, and check that their logits mean what they say.

        The logits of a map must not change when it is replaced by its mean (the patch tokens by theirs): then the logits of a
        cell's mean are the logits of that cell. With timm's interface, the model's own logits must be the head of the
        features. All of that in float32, whatever autocast and the weights are.

        Raises:
            TypeError: The model returns no tensor, or wants more than images; or these are inputs by name.
            ValueError: The last map is a single cell, its layout or the grid of its tokens is not known, or the head does
                something else than average.

        Warns:
            UserWarning: The map has fewer cells than the finest grid.
        """
        self.close()
        if not isinstance(images, Tensor):
            raise TypeError(f"region logits need images, one tensor (N, 3, H, W), got inputs by name ({', '.join(images)}).")
        images = images[:2] if len(images) > 1 else torch.cat([images, images.flip(-1)])
        with full_precision(self.model, images) as images, eval_mode(self.model):
            entry = find_entry(self.model, images, self.pool, self.head)
            ran = entry.run(images)
            grid = ran.layout.to_map(ran.values)
            with self._find_head_norms():
                entry.enter(ran, pool_cells(grid, (1,))[:, 0])
        self._entry = entry
        self._warn_of_repeats(images, grid)

    def _warn_of_repeats(self, images: Tensor, grid: Tensor) -> None:
        """Warn where the map has fewer cells than the finest grid: it repeats them."""
        height, width = grid.shape[-2:]
        fitting = tuple(side for side in self.scales if side <= min(height, width))
        if fitting != self.scales:
            finest = self.scales[-1]
            warnings.warn(
                f"the last map of {type(self.model).__name__} has {height} x {width} cells on images of {images.shape[-2]} x"
                f" {images.shape[-1]}, so that a grid of {finest} x {finest} repeats them. Scales that fit: {fitting}"
                f' (`scales={fitting}`, `--method.scales "{list(fitting)}"`); or give larger images.',
                stacklevel=1,  # one place for all: a run's check and its first step say it once
            )

    def _logits_of(self, ran: Features, cells: Tensor) -> Tensor:
        """Return logits ``(N, S, C)`` of cells ``(N, S, D)`` of a pass."""
        assert self._entry is not None
        with _frozen_statistics(self._head_norms):
            logits = self._entry.enter(ran, cells.flatten(0, 1))
        return logits.unflatten(0, cells.shape[:2])

    @contextlib.contextmanager
    def _find_head_norms(self) -> Iterator[None]:
        """Note which batch normalisations run inside the block."""
        self._head_norms = []
        norms = [module for module in self.model.modules() if isinstance(module, _BatchNorm)]
        hooks = [norm.register_forward_hook(lambda module, *_: self._head_norms.append(module)) for norm in norms]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@contextlib.contextmanager
def _frozen_statistics(norms: list[nn.Module]) -> Iterator[None]:
    """Let batch normalisations in training mode use batch statistics without adding them to their running ones."""
    tracking: list[Any] = [norm for norm in norms if norm.training and norm.track_running_stats]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True
