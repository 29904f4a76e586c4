"""Multi-scale region logits of any classifier with timm's interface.

What SDD (Luo, "Scale Decoupled Distillation", CVPR 2024, 2403.13512) and iCD (Xue et al., AAAI 2026, 2509.12553) look at:
the last feature map is averaged over the cells of an m x m grid for each scale m, and each cell goes through the model's
own head. The model is not edited: a cell is handed to ``forward_head`` as a map (or token sequence) of its own.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from logitkd.reach.modes import eval_mode
from logitkd.reach.signals import Signals, agree, check_logits, gap

__all__ = ["RegionModel", "pool_cells"]


def pool_cells(features: Tensor, scales: Sequence[int] = (1, 2, 4), nested: bool = False) -> Tensor:
    """Average a feature map over the cells of each grid.

    Adaptive average pooling: cell i of m covers rows ``floor(i H / m)`` to ``ceil((i + 1) H / m)``, so cells overlap where
    m does not divide H, and repeat where the map is smaller than the grid.

    Args:
        features: Feature map, ``(N, D, H, W)``.
        scales: Grid sides m, increasing.
        nested: Pool a 4x4 grid (or the finest scale, if that is finer) from the map and every scale from that grid, as
            the authors' code does; where 4 does not divide the map, the result differs (region 0 is then not the mean).

    Returns:
        Cells, ``(N, S, D)``, S the sum of ``m * m``, in the order of the scales, each grid row by row.

    Source: `SPP` in `mdistiller/models/cifar/utils.py` of the authors' code (nested), METHODS of both papers.

    >>> image = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> pool_cells(image, (1, 2)).flatten().tolist()
    [7.5, 2.5, 4.5, 10.5, 12.5]
    """
    source = _pool(features, max(4, *scales)) if nested else features
    return torch.cat([_pool(source, side).flatten(2) for side in scales], dim=2).transpose(1, 2)  # (N, S, D)


def _pool(features: Tensor, side: int) -> Tensor:
    height, width = features.shape[-2:]
    if (height, width) == (side, side):
        return features
    if height % side == 0 and width % side == 0:
        # The same numbers as below; faster, and its gradient is deterministic on a GPU, which the other's is not.
        return F.avg_pool2d(features, (height // side, width // side))
    return F.adaptive_avg_pool2d(features, side)


class RegionModel(nn.Module):
    """A classifier that also yields the logits of its image regions; the classifier itself, ``.model``, stays as it is.

    One forward pass of the backbone serves both: ``logits`` are exactly what the model itself returns.

    Layouts, told apart by the features' shape and by timm's attributes ``output_fmt`` and ``num_prefix_tokens``:

    - Maps ``(N, D, H, W)``, or ``(N, H, W, D)`` where ``output_fmt`` says ``NHWC`` (swin).
    - Tokens ``(N, P + H W, D)`` of a vision transformer with P class, distillation or register tokens. Patch tokens are
      averaged over each cell. Where the head averages patch tokens, a cell is the head of its average. Where the head
      reads the class token, no token belongs to a cell: the cell's average takes the place of *every* prefix token. Region
      0 remains the model's own logits, read from the real class token.

    Batch normalisation inside the head, while training, normalises cells by the cells' own statistics, and only the
    model's own logits update its running statistics.

    The first forward pass checks on two images, in eval mode, that the head does average the map (see ``check``).

    Args:
        model: Any module with timm's ``forward_features`` and ``forward_head``.
        scales: Grid sides, increasing, the first 1 (the whole image).
        nested: Pool as the authors' code does, see ``pool_cells``. Region 0 is then pooled too and may differ from the
            logits, except where there are prefix tokens.

    Raises:
        TypeError: The model lacks timm's interface.
        ValueError: ``scales`` are not increasing whole numbers from 1.
    """

    def __init__(self, model: nn.Module, scales: Sequence[int] = (1, 2, 4), nested: bool = False) -> None:
        super().__init__()
        lacking = [name for name in ("forward_features", "forward_head") if not callable(getattr(model, name, None))]
        if lacking:
            raise TypeError(
                f"region logits need a model with timm's interface, {type(model).__name__} has no"
                f" {' and no '.join(f'`{name}`' for name in lacking)}: give it those methods (last feature map, and map to"
                " logits), or choose a method that reads plain logits."
            )
        scales = tuple(scales)
        whole = all(isinstance(side, int) and not isinstance(side, bool) for side in scales)
        if not whole or scales[:1] != (1,) or any(a >= b for a, b in itertools.pairwise(scales)):
            raise ValueError(f"`scales` must be increasing whole numbers that start with 1 (the image), got {scales}.")
        self.model = model
        self.scales = scales
        self.nested = nested
        self._checked = False
        self._head_norms: list[nn.Module] = []

    def forward(self, images: Tensor) -> Signals:
        """Return logits ``(N, C)`` and regions ``(N, S, C)`` of images ``(N, 3, H, W)``."""
        if not self._checked:
            self.check(images)
        model: Any = self.model
        features = model.forward_features(images)
        logits = model.forward_head(features)
        grid, prefix = self._grid(features, images)
        if self.nested and not prefix:
            return Signals(logits, self._head(pool_cells(grid, self.scales, nested=True), prefix))
        regions = logits.unsqueeze(1)
        if len(self.scales) > 1:
            cells = pool_cells(grid, self.scales[1:], self.nested)
            regions = torch.cat([regions, self._head(cells, prefix)], dim=1)
        return Signals(logits, regions)

    @torch.compiler.disable
    @torch.no_grad()
    def check(self, images: Tensor) -> None:
        """Check on the first two images that region logits mean what they say; leaves no trace in the model.

        The model's own logits must be its head on its features, and must not change when the map is replaced by its mean
        (the patch tokens by theirs): then the logits of a cell's mean are the logits of that cell.

        Raises:
            TypeError: The features are no tensor, or the logits are not.
            ValueError: The features have an unknown layout, or the head does something else than average.
        """
        model: Any = self.model
        images = images[:2]
        device = images.device.type
        # Older torch would keep a weight that autocast casts here, without gradient, for the training step that follows.
        autocast = torch.autocast(
            device,
            dtype=torch.get_autocast_dtype(device),
            enabled=torch.is_autocast_enabled(device),
            cache_enabled=False,
        )
        with eval_mode(model), autocast:
            logits = check_logits(model(images), "model")
            features = model.forward_features(images)
            if not isinstance(features, Tensor):
                raise TypeError(f"`forward_features` must return one tensor, got {type(features).__name__}.")
            grid, prefix = self._grid(features, images)
            with self._find_head_norms():
                headed = model.forward_head(features)
            own_prefix = features[:, :prefix] if prefix else None
            pooled = self._head(pool_cells(grid, (1,)), prefix, own_prefix)[:, 0]
        name = type(model).__name__
        if not logits.isfinite().all():
            raise ValueError(f"region logits need finite logits, got NaN or infinity from {name}: check its weights.")
        if not agree(headed, logits):
            raise ValueError(
                f"region logits need `forward_head(forward_features(x))` to be the model's own logits; {name}'s differ by"
                f" {gap(headed, logits)}: its `forward` does more than these two."
            )
        if not agree(pooled, logits):
            raise ValueError(
                f"region logits need a head that averages the last map; {name}'s logits change by {gap(pooled, logits)}"
                f" when the map {tuple(features.shape)} is replaced by its mean. Build it with `global_pool='avg'`"
                " (timm), or choose a method that reads plain logits."
            )
        self._checked = True

    def _grid(self, features: Tensor, images: Tensor) -> tuple[Tensor, int | None]:
        """Return the features as a map ``(N, D, H, W)`` (a view), and the number of prefix tokens, ``None`` for a map."""
        if features.ndim == 4:
            return (features.permute(0, 3, 1, 2) if self._is_nhwc() else features), None
        if features.ndim != 3:
            raise ValueError(
                f"`forward_features` must return a map (N, D, H, W) or tokens (N, L, D), got shape {tuple(features.shape)}."
            )
        prefix = int(getattr(self.model, "num_prefix_tokens", 0))
        height, width = self._token_grid(features.shape[1] - prefix, images)
        return features[:, prefix:].transpose(1, 2).unflatten(2, (height, width)), prefix

    def _is_nhwc(self) -> bool:
        return str(getattr(self.model, "output_fmt", "NCHW")).rpartition(".")[2] == "NHWC"

    def _token_grid(self, count: int, images: Tensor) -> tuple[int, int]:
        """Return rows and columns of ``count`` patch tokens."""
        embed: Any = getattr(self.model, "patch_embed", None)
        candidates = [getattr(embed, "grid_size", None)]
        if hasattr(embed, "dynamic_feat_size"):  # images of other sizes than the model was built for
            candidates.insert(0, embed.dynamic_feat_size(tuple(images.shape[-2:])))
        side = round(count**0.5)
        candidates.append((side, side))
        for grid in candidates:
            if grid is not None and grid[0] * grid[1] == count:
                return int(grid[0]), int(grid[1])
        raise ValueError(
            f"region logits need the grid of the {count} patch tokens: `patch_embed.grid_size` is {candidates[-2]} and"
            f" {count} is no square."
        )

    def _head(self, cells: Tensor, prefix: int | None, prefix_tokens: Tensor | None = None) -> Tensor:
        """Return logits ``(N, S, C)`` of cells ``(N, S, D)``; ``prefix_tokens``, where given, stay as they are."""
        model: Any = self.model
        count, regions, channels = cells.shape
        flat = cells.reshape(count * regions, channels)
        if prefix is not None:
            inputs = flat[:, None].expand(-1, prefix + 1, -1)  # (N S, P + 1, D)
            if prefix_tokens is not None:
                inputs = torch.cat([prefix_tokens, inputs[:, prefix:]], dim=1)
        elif self._is_nhwc():
            inputs = flat[:, None, None]  # (N S, 1, 1, D)
        else:
            inputs = flat[:, :, None, None]  # (N S, D, 1, 1)
        with _frozen_statistics(self._head_norms):
            logits = model.forward_head(inputs)
        return logits.unflatten(0, (count, regions))

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
