"""How features hold a grid of cells, and what one cell looks like in the features' place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["CellLayout", "guess_layouts"]

MOST_PREFIX_TOKENS = 8  # class, distillation and register tokens: what a guess tries


@dataclass(frozen=True)
class CellLayout:
    """How a tensor holds cells of D channels.

    Args:
        kind: the axes in their order. ``NDHW`` and ``NHWD`` are maps, ``NPLD`` P prefix tokens (class, distillation,
            registers) and L = H W patch tokens, ``NDL`` a flat map, ``ND`` one cell without a grid.
        prefix: P.
        grid: H and W, where the axes do not tell.
    """

    kind: Literal["NDHW", "NHWD", "NPLD", "NDL", "ND"]
    prefix: int = 0
    grid: tuple[int, int] = (1, 1)

    def to_map(self, features: Tensor) -> Tensor:
        """Return the cells of ``features`` as a map ``(N, D, H, W)``, a view.

        Raises:
            ValueError: there are more or fewer cells than ``grid`` has.
        """
        if self.kind == "NDHW":
            return features
        if self.kind == "NHWD":
            return features.permute(0, 3, 1, 2)
        flat = features[:, self.prefix :].transpose(1, 2) if self.kind == "NPLD" else features  # (N, D, L)
        height, width = self.grid
        if flat.shape[-1] != height * width:
            raise ValueError(
                f"regions were set up for {height} x {width} patch tokens, got {flat.shape[-1]}: give images of one size."
            )
        return flat.unflatten(2, (height, width))

    def of_cells(self, cells: Tensor, prefix_tokens: Tensor | None = None) -> Tensor:
        """Return cells ``(M, D)`` as M features of one cell each; ``prefix_tokens`` ``(M, P, D)`` stay as they are if given.

        >>> CellLayout("NPLD", prefix=1).of_cells(torch.zeros(6, 4)).shape
        torch.Size([6, 2, 4])
        """
        if self.kind == "ND":
            return cells if prefix_tokens is None else prefix_tokens[:, 0]
        if self.kind == "NDL":
            return cells[:, :, None]
        if self.kind == "NDHW":
            return cells[:, :, None, None]
        if self.kind == "NHWD":
            return cells[:, None, None]
        tokens = cells[:, None].expand(-1, self.prefix + 1, -1)  # (M, P + 1, D)
        return tokens if prefix_tokens is None else torch.cat([prefix_tokens, tokens[:, self.prefix :]], dim=1)


def guess_layouts(features: Tensor, images: Tensor, grids: Sequence[tuple[int, int]] = ()) -> Iterator[CellLayout]:
    """Yield the ways in which ``features`` can be read as more than one cell, the likeliest first.

    Args:
        features: what a module takes or puts out.
        images: the batch, ``(N, 3, H, W)``: patch tokens form a grid of its aspect ratio.
        grids: heights and widths of maps that ran before; tokens that are as many as one of them, are that one.
    """
    if features.ndim == 4:
        if features.shape[2] * features.shape[3] > 1:
            yield CellLayout("NDHW")
        if features.shape[1] * features.shape[2] > 1:
            yield CellLayout("NHWD")
    elif features.ndim == 3:
        length, width = features.shape[1:]
        guesses = [
            CellLayout("NPLD", prefix, grid)
            for prefix in range(min(MOST_PREFIX_TOKENS + 1, length))
            if (grid := _grid_of(length - prefix, images, grids))
        ]
        yield from sorted(guesses, key=lambda guess: guess.grid not in grids)
        if grid := _grid_of(width, images, grids):
            yield CellLayout("NDL", grid=grid)


def _grid_of(count: int, images: Tensor, grids: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Return rows and columns of ``count`` patch tokens, more than one; ``None`` where they form no grid."""
    if count < 2:
        return None
    for grid in grids:
        if grid[0] * grid[1] == count:
            return grid
    height, width = images.shape[-2:]
    rows = round((count * height / width) ** 0.5)
    return (rows, count // rows) if rows and count % rows == 0 and rows * width == count // rows * height else None
