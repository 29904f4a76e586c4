"""Where the cells of a grid enter a model: behind its features, through its own code, without editing it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from logitkd.reach.layout import CellLayout, grid_of
from logitkd.reach.regions.sources import map_sizes
from logitkd.reach.replay.replay import Replay
from logitkd.reach.replay.tape import Memo
from logitkd.reach.replay.trace import plain, trace
from logitkd.reach.signals import checked_logits

__all__ = ["Entry", "Features", "ReplayEntry", "TimmEntry", "lacks_timm"]


class Features(NamedTuple):
    """What one pass of the backbone yields.

    Args:
        logits: the model's own, ``(N, C)``.
        values: the features that hold the cells.
        layout: how they do.
        memo: what the pass left for entering the model behind it.
    """

    logits: Tensor
    values: Tensor
    layout: CellLayout
    memo: Memo | None = None


class Entry(Protocol):
    """A way into a model: ``run`` it whole, then ``enter`` cells behind its features."""

    @property
    def model(self) -> nn.Module:
        """The model."""

    @property
    def behind(self) -> bool:
        """Whether cells enter behind the averaging, not in the place of the map."""

    def run(self, images: Tensor) -> Features:
        """Return logits and features of ``images``, from one pass."""

    def again(self, ran: Features, features: Tensor) -> Tensor:
        """Return the logits ``(N, C)`` of other features in place of those of a pass."""

    def enter(self, ran: Features, cells: Tensor, prefix_tokens: Tensor | None = None) -> Tensor:
        """Return logits ``(M, C)`` of a pass's cells ``(M, D)``; ``prefix_tokens`` ``(M, P, D)``, where given, stay."""

    def close(self) -> None:
        """Take out of the model what was put into it."""


def lacks_timm(model: nn.Module) -> list[str]:
    """Return what ``model`` lacks of timm's interface."""
    return [name for name in ("forward_features", "forward_head") if not callable(getattr(model, name, None))]


@dataclass(eq=False)
class TimmEntry:
    """A model with timm's interface: cells enter ``forward_head`` as maps or token sequences of their own.

    Args:
        model: the model.
        layout: how its features hold the cells.
        size: height and width of the images that ``layout`` is of.
    """

    model: Any
    layout: CellLayout
    size: tuple[int, ...]
    behind = False

    def __post_init__(self) -> None:
        self._layouts = {tuple(self.size): self.layout}

    def run(self, images: Tensor) -> Features:
        """Return logits and features of ``images``, from one pass.

        Raises:
            ValueError: the images have another size than at the first pass, and nothing tells the grid of their tokens.
        """
        features = self.model.forward_features(images)
        layout = self.layout
        if layout.kind == "NPLD":
            layout = self._layouts.get(tuple(images.shape[2:])) or self._layout_of(features, images)
        return Features(self.model.forward_head(features), features, layout)

    def again(self, ran: Features, features: Tensor) -> Tensor:
        """Return the logits ``(N, C)`` of other features in place of those of a pass."""
        return self.model.forward_head(features)

    def enter(self, ran: Features, cells: Tensor, prefix_tokens: Tensor | None = None) -> Tensor:
        """Return logits ``(M, C)`` of a pass's cells ``(M, D)``; ``prefix_tokens`` ``(M, P, D)``, where given, stay."""
        return self.model.forward_head(ran.layout.of_cells(cells, prefix_tokens))

    def close(self) -> None:
        """Do nothing: nothing was put into the model."""

    @torch.compiler.disable
    def _layout_of(self, features: Tensor, images: Tensor) -> CellLayout:
        """Return the layout of the tokens of images of another size."""
        count = features.shape[1] - self.layout.prefix
        grid = grid_of(count, (images.shape[-2], images.shape[-1]), map_sizes(trace(plain(self.model), images[:2])[0]))
        if grid is None:
            raise ValueError(
                f"region logits need the grid of the {count} patch tokens: neither a map that ran before nor the images of"
                f" {' x '.join(map(str, images.shape[2:]))} decide it."
            )
        self._layouts[tuple(images.shape[2:])] = layout = replace(self.layout, grid=grid)
        return layout


@dataclass(eq=False)
class ReplayEntry:
    """Any model: cells are averaged from what a module puts out or takes, and enter there or in front of a later module.

    Args:
        replay: of the model; its first cut is the module whose map is read, its last the one that cells enter.
        from_input: the map is what the first cut takes, not what it puts out.
        layout: how the map holds its cells.
        target: how the last cut takes one; that of the map where both are one cut.
    """

    replay: Replay
    from_input: bool
    layout: CellLayout
    target: CellLayout

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self.replay.model

    @property
    def behind(self) -> bool:
        """Whether cells enter behind the averaging, not in the place of the map."""
        return len(self.replay.paths) > 1

    def run(self, images: Tensor) -> Features:
        """Return logits and features of ``images``, from one pass.

        Raises:
            TypeError: The model returns no tensor.
            ValueError: Its output is not ``(N, C)``, or the images have another size than at the first pass.
        """
        output, values, memo = self.replay.run(images, into=self.from_input)
        return Features(checked_logits(output, "model"), values[0], self.layout, memo)

    def again(self, ran: Features, features: Tensor) -> Tensor:
        """Return the logits ``(N, C)`` of other features in place of those of a pass."""
        assert ran.memo is not None
        return self.replay.resume(ran.memo, 0, features, into=self.from_input)

    def enter(self, ran: Features, cells: Tensor, prefix_tokens: Tensor | None = None) -> Tensor:
        """Return logits ``(M, C)`` of a pass's cells ``(M, D)``; ``prefix_tokens`` ``(M, P, D)``, where given, stay."""
        assert ran.memo is not None
        last, value = len(self.replay.paths) - 1, self.target.of_cells(cells, prefix_tokens)
        return self.replay.resume(ran.memo, last, value, into=self.from_input or self.behind)

    def close(self) -> None:
        """Take the switches out of the model."""
        self.replay.close()
