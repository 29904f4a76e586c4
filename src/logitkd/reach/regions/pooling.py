"""Averaging a feature map over grids of cells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["average_to", "check_grid_sides", "pool_cells"]


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
    finest = max(4, *scales)
    source = average_to(features, (finest, finest)) if nested else features
    return torch.cat([average_to(source, (side, side)).flatten(2) for side in scales], dim=2).transpose(1, 2)  # (N, S, D)


def average_to(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return a map ``(N, D, H, W)`` averaged over the cells of a grid: ``(N, D, *grid)``.

    >>> average_to(torch.arange(4.0).reshape(1, 1, 2, 2), (1, 2)).flatten().tolist()
    [1.0, 2.0]
    """
    height, width = features.shape[-2:]
    if (height, width) == grid:
        return features
    if height % grid[0] == 0 and width % grid[1] == 0:
        # The same numbers as below; faster, and its gradient is deterministic on a GPU, which the other's is not.
        return F.avg_pool2d(features, (height // grid[0], width // grid[1]))
    return F.adaptive_avg_pool2d(features, grid)


def check_grid_sides(scales: Sequence[int]) -> tuple[int, ...]:
    """Return ``scales`` as a tuple; raise ``ValueError`` unless they are increasing whole numbers from 1."""
    scales = tuple(scales)
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in scales)
    if not whole or scales[:1] != (1,) or any(a >= b for a, b in itertools.pairwise(scales)):
        raise ValueError(f"`scales` must be increasing whole numbers that start with 1 (the image), got {scales}.")
    return scales
