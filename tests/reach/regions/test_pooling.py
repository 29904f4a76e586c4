"""Averaging over grids of cells, against slow loops."""

import pytest
import torch

from logitkd.reach.regions.pooling import average_to, pool_cells
from naive import bounds


def grid_by_loop(features, height, width):
    return [
        features[:, :, top:bottom, left:right].mean((2, 3))
        for top, bottom in bounds(features.shape[2], height)
        for left, right in bounds(features.shape[3], width)
    ]


def cells_by_loop(features, scales):
    return torch.stack([cell for m in scales for cell in grid_by_loop(features, m, m)], 1)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (4, 4), (7, 7), (8, 8), (5, 9), (12, 6)])
@pytest.mark.parametrize("scales", [(1,), (1, 2), (1, 4), (1, 2, 4), (1, 3, 5)])
def test_pooling_is_the_mean_of_each_cell(size, scales):
    features = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(pool_cells(features, scales), cells_by_loop(features, scales))


def test_nested_pooling_of_a_grid_finer_than_four():
    features = torch.randn(1, 2, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(pool_cells(features, (1, 2, 8), nested=True), cells_by_loop(features, (1, 2, 8)))


@pytest.mark.parametrize("grid", [(6, 8), (3, 2), (2, 8), (4, 3), (5, 5)])
def test_a_grid_need_not_be_square(grid):
    features = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    expected = torch.stack(grid_by_loop(features, *grid), 2).unflatten(2, grid)
    torch.testing.assert_close(average_to(features, grid), expected)
