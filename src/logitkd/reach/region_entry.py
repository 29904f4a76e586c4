"""Where the cells of a grid enter a model: behind its features, through its own code, without editing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from logitkd.reach.region_layout import CellLayout, guess_layouts
from logitkd.reach.replay import Replay
from logitkd.reach.signals import check_logits

__all__ = ["Entry", "Features", "ReplayEntry", "TimmEntry", "lacks_timm"]


class Features(NamedTuple):
    """What one pass of the backbone yields.

    Args:
        logits: the model's own, ``(N, C)``.
        values: the features that hold the cells.
        layout: how they do.
    """

    logits: Tensor
    values: Tensor
    layout: CellLayout


class Entry(Protocol):
    """A way into a model: ``run`` it whole, then ``enter`` cells behind its features."""

    def run(self, images: Tensor) -> Features:
        """Return logits and features of ``images``, from one pass."""

    def enter(self, cells: Tensor, layout: CellLayout, images: Tensor, prefix_tokens: Tensor | None = None) -> Tensor:
        """Return logits ``(M, C)`` of cells ``(M, D)``; ``prefix_tokens`` ``(M, P, D)``, where given, stay as they are."""

    def close(self) -> None:
        """Take out of the model what was put into it."""


def lacks_timm(model: nn.Module) -> list[str]:
    """Return what ``model`` lacks of timm's interface."""
    return [name for name in ("forward_features", "forward_head") if not callable(getattr(model, name, None))]


class TimmEntry:
    """A model with timm's interface: cells enter ``forward_head`` as maps or token sequences of their own."""

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model

    def run(self, images: Tensor) -> Features:
        """Return logits and features of ``images``, from one pass.

        Raises:
            TypeError: The features are no tensor.
            ValueError: They have an unknown layout.
        """
        features = self.model.forward_features(images)
        if not isinstance(features, Tensor):
            raise TypeError(
                f"`forward_features` must return one tensor, got {type(features).__name__}: pass `pool=` or `head=`, a module's"
                " path, to reach into the model elsewhere."
            )
        layout = self._layout(features, images)
        return Features(self.model.forward_head(features), features, layout)

    def enter(self, cells: Tensor, layout: CellLayout, images: Tensor, prefix_tokens: Tensor | None = None) -> Tensor:
        """Return logits ``(M, C)`` of cells ``(M, D)``; ``prefix_tokens`` ``(M, P, D)``, where given, stay as they are."""
        return self.model.forward_head(layout.of_cells(cells, prefix_tokens))

    def close(self) -> None:
        """Do nothing: nothing was put into the model."""

    def _layout(self, features: Tensor, images: Tensor) -> CellLayout:
        if features.ndim == 4:
            nhwc = str(getattr(self.model, "output_fmt", "NCHW")).rpartition(".")[2] == "NHWC"
            return CellLayout("NHWD" if nhwc else "NDHW")
        if features.ndim != 3:
            raise ValueError(
                f"`forward_features` must return a map (N, D, H, W) or tokens (N, L, D), got shape {tuple(features.shape)}."
            )
        prefix = getattr(self.model, "num_prefix_tokens", None)
        count = features.shape[1] - (prefix or 0)
        embed: Any = getattr(self.model, "patch_embed", None)
        candidates = [getattr(embed, "grid_size", None)]
        if hasattr(embed, "dynamic_feat_size"):  # images of other sizes than the model was built for
            candidates.insert(0, embed.dynamic_feat_size(tuple(images.shape[-2:])))
        side = round(count**0.5)
        candidates.append((side, side))
        for grid in candidates:
            if grid is not None and grid[0] * grid[1] == count:
                return CellLayout("NPLD", prefix or 0, (int(grid[0]), int(grid[1])))
        if prefix is None:  # a class token that the model does not tell of (volo)
            for layout in guess_layouts(features, images):
                if layout.kind == "NPLD":
                    return layout
        raise ValueError(
            f"region logits need the grid of the {count} patch tokens: `patch_embed.grid_size` is {candidates[-2]} and"
            f" {count} is no square."
        )


@dataclass(eq=False)
class ReplayEntry:
    """Any model: cells are averaged from what a module puts out or takes, and enter there or in front of a later module.

    Args:
        replay: of the model; its first cut is the module whose map is read, its last the one that cells enter.
        from_input: the map is what the first cut takes, not what it puts out.
        layout: how the map holds its cells.
        target: how the last cut takes one; that of the map where both are one cut.
        between: what the model's own code does to the map before it averages it, where cells enter behind that.
    """

    replay: Replay
    from_input: bool
    layout: CellLayout
    target: CellLayout
    between: Callable[[Tensor], Tensor] | None = None

    def run(self, images: Tensor) -> Features:
        """Return logits and features of ``images``, from one pass.

        Raises:
            TypeError: The model returns no tensor.
            ValueError: Its output is not ``(N, C)``, or the images have another size than at the first pass.
        """
        output, values = self.replay.run(images, into=self.from_input)
        features = values[0] if self.between is None else self.between(values[0])
        return Features(check_logits(output, "model"), features, self.layout)

    def enter(self, cells: Tensor, layout: CellLayout, images: Tensor, prefix_tokens: Tensor | None = None) -> Tensor:
        """Return logits ``(M, C)`` of cells ``(M, D)``; ``prefix_tokens`` ``(M, P, D)``, where given, stay as they are."""
        last = len(self.replay.paths) - 1
        into = self.from_input or last > 0
        return self.replay.resume(last, self.target.of_cells(cells, prefix_tokens), images, into=into)

    def close(self) -> None:
        """Take the switches out of the model."""
        self.replay.close()
