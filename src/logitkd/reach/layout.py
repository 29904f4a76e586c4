"""How features hold a grid of cells, and what one cell looks like in the features' place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

__all__ = ["CellLayout", "grid_of", "guess_layouts"]

MOST_PREFIX_TOKENS = 8  # class, distillation and register tokens: what a guess tries


@dataclass(frozen=True)
class CellLayout:
    """How a tensor holds cells of D channels.

    Args:
        kind: the axes in their order. ``NDHW`` and ``NHWD`` are maps, ``NPLD`` P prefix tokens (class, distillation,
            registers) and L = H W patch tokens, ``NPD`` the prefix tokens alone, ``NDL`` a flat map, ``ND`` one cell without
            a grid.
        prefix: P; of ``ND``, whether the one cell is a prefix token.
        grid: H and W, where the axes do not tell.
        between: what the model's own code does to each number before it averages them.
    """

    kind: Literal["NDHW", "NHWD", "NPLD", "NPD", "NDL", "ND"]
    prefix: int = 0
    grid: tuple[int, int] = (1, 1)
    between: Callable[[Tensor], Tensor] | None = None

    def to_map(self, features: Tensor) -> Tensor:
        """Return the cells of ``features`` as a map ``(N, D, H, W)``, a view unless something is done ``between``.

        Raises:
            ValueError: there are more or fewer cells than ``grid`` has.
        """
        if self.between is not None:
            return self.between(replace(self, between=None).to_map(features))
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
            return cells if prefix_tokens is None or not self.prefix else prefix_tokens[:, 0]
        if self.kind == "NPD":
            return cells[:, None].expand(-1, self.prefix, -1) if prefix_tokens is None else prefix_tokens[:, : self.prefix]
        if self.kind == "NDL":
            return cells[:, :, None]
        if self.kind == "NDHW":
            return cells[:, :, None, None]
        if self.kind == "NHWD":
            return cells[:, None, None]
        tokens = cells[:, None].expand(-1, self.prefix + 1, -1)  # (M, P + 1, D)
        return tokens if prefix_tokens is None else torch.cat([prefix_tokens, tokens[:, self.prefix :]], dim=1)


def guess_layouts(
    features: Tensor, images: Tensor, grids: Sequence[tuple[int, int]] = (), prefix: int | None = None
) -> Iterator[CellLayout]:
    """Yield the ways in which ``features`` can be read as more than one cell, the likeliest first.

    Args:
        features: what a module takes or puts out.
        images: the batch, ``(N, 3, H, W)``.
        grids: heights and widths of maps that ran before, such as the patch embedding's, see ``grid_of``.
        prefix: number of prefix tokens, where the model says it.
    """
    if features.ndim == 4:
        if features.shape[2] * features.shape[3] > 1:
            yield CellLayout("NDHW")
        if features.shape[1] * features.shape[2] > 1:
            yield CellLayout("NHWD")
    elif features.ndim == 3:
        length, width = features.shape[1:]
        sides = (images.shape[-2], images.shape[-1])
        prefixes = range(min(MOST_PREFIX_TOKENS + 1, length)) if prefix is None else [prefix]
        guesses = [CellLayout("NPLD", each, grid) for each in prefixes if (grid := grid_of(length - each, sides, grids))]
        yield from sorted(guesses, key=lambda guess: guess.grid not in grids)
        if prefix is None and (grid := grid_of(width, sides, grids)):
            yield CellLayout("NDL", grid=grid)


def grid_of(count: int, sides: tuple[int, int], grids: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Return rows and columns of ``count`` patch tokens, more than one; ``None`` where nothing known decides them.

    ``sides`` are the images' height and width.

    They are the map of as many cells that ran before: of several such the one with the images' aspect. Where none ran, they
    have exactly the images' aspect, as of one stride for rows and columns.

    >>> grid_of(16, (64, 256), [])
    (2, 8)
    >>> grid_of(144, (144, 256), [(72, 128), (9, 16), (12, 12)])
    (9, 16)
    >>> grid_of(12, (70, 90), [])
    """
    if count < 2:
        return None
    height, width = sides
    ran = list(dict.fromkeys(grid for grid in grids if grid[0] * grid[1] == count))
    if len(ran) > 1:  # a side divided by the stride may be rounded, up or down
        ran = [(rows, columns) for rows, columns in ran if abs(rows * width - columns * height) < max(height, width)]
    elif not ran:
        ran = [(r, count // r) for r in range(1, count + 1) if count % r == 0 and r * width == count // r * height]
    return ran[0] if len(ran) == 1 else None
