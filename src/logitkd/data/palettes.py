"""A color for each class: colors that people tell apart, then ever finer steps around the color circle."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

__all__ = ["Palette", "default_palette"]

Palette = tuple[tuple[int, int, int], ...]

# Sasha Trubetskoy, "List of 20 Simple, Distinct Colors" (2017), without black, white and gray, which say "nothing".
FIRST: Palette = (
    (230, 25, 75),
    (60, 180, 75),
    (255, 225, 25),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (70, 240, 240),
    (240, 50, 230),
    (210, 245, 60),
    (250, 190, 212),
    (0, 128, 128),
    (220, 190, 255),
    (170, 110, 40),
    (255, 250, 200),
    (128, 0, 0),
    (170, 255, 195),
    (128, 128, 0),
    (255, 215, 180),
    (0, 0, 128),
)
TURN = 0.618033988749895  # of a circle, the golden ratio: any number of such turns lie evenly on it


def default_palette(count: int, first: Sequence[tuple[int, int, int]] = ()) -> Palette:
    """Return ``count`` colors, always the same ones, each ``(red, green, blue)`` in [0, 255].

    Args:
        count: how many.
        first: colors to begin with.

    >>> default_palette(2)
    ((230, 25, 75), (60, 180, 75))
    >>> default_palette(2, [(1, 2, 3)])
    ((1, 2, 3), (60, 180, 75))
    """
    colors = [*first, *FIRST[len(first) :]][:count]
    for number in range(len(colors), count):
        brightness, saturation = ((0.95, 0.55), (0.65, 0.85), (0.8, 0.35))[number % 3]
        red, green, blue = colorsys.hsv_to_rgb(number * TURN % 1, saturation, brightness)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colors)
