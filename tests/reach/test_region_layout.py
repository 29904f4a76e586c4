"""How features may hold cells: the likeliest guess first."""

from __future__ import annotations

import torch

from logitkd.reach.region_layout import CellLayout, guess_layouts


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
