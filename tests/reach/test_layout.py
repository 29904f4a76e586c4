"""How features may hold cells: the likeliest guess first."""

from __future__ import annotations

import pytest
import torch

from logitkd.reach.layout import CellLayout, grid_of, guess_layouts


def test_guesses_prefer_a_map_that_ran() -> None:
    images = torch.zeros(2, 3, 32, 16)
    assert [g.prefix for g in guess_layouts(torch.zeros(2, 9, 5), images)] == [
        1,
        7,
    ]  # 4 x 2 or 2 x 1, as the images; 3 x 3 is not
    first = next(guess_layouts(torch.zeros(2, 9, 5), images, [(2, 3)]))
    assert first == CellLayout("NPLD", 3, (2, 3))
    assert [g.kind for g in guess_layouts(torch.zeros(2, 5, 8), images)][-1] == "NDL"
    assert not list(guess_layouts(torch.zeros(2, 5), images))


@pytest.mark.parametrize(
    ("count", "size", "ran", "grid"),
    [
        (16, (64, 256), [], (2, 8)),  # not 4 x 4
        (144, (288, 512), [(72, 128), (9, 16)], (9, 16)),
        (144, (144, 256), [(9, 16), (12, 12)], (9, 16)),  # the one with the images' aspect
        (42, (100, 110), [(6, 7)], (6, 7)),  # sides that the stride does not divide: the patch embedding knows
        (42, (100, 110), [], None),
        (36, (100, 110), [(4, 9), (12, 3)], None),  # neither
        (16, (64, 64), [(4, 4), (2, 8)], (4, 4)),
        (8, (64, 128), [], (2, 4)),
        (1, (64, 64), [(1, 1)], None),
    ],
)
def test_a_grid_is_known_or_none(
    count: int, size: tuple[int, int], ran: list[tuple[int, int]], grid: tuple[int, int] | None
) -> None:
    assert grid_of(count, size, ran) == grid


def test_cells_as_prefix_tokens_alone() -> None:
    cells, own = torch.randn(3, 4), torch.randn(3, 3, 4)
    layout = CellLayout("NPD", 2)
    assert torch.equal(layout.of_cells(cells), cells[:, None].repeat(1, 2, 1))
    assert torch.equal(layout.of_cells(cells, own), own[:, :2])
