"""Examples drawn for a person to look at: what they are, what is right, what the networks say. No page, only what is on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Entry", "Gallery", "Picture", "Scene", "spread"]


@dataclass(frozen=True)
class Picture:
    """An image with a title.

    Args:
        title: what is to be seen.
        content: a PNG or JPEG file.
        note: a few words below it.
    """

    title: str
    content: bytes
    note: str = ""


@dataclass(frozen=True)
class Scene:
    """One example in several pictures of one size.

    Args:
        title: which one it is.
        pictures: in their order.
    """

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Entry:
    """A line of the legend.

    Args:
        name: what the color stands for.
        color: red, green and blue in [0, 255]; none is the pattern of what counts nowhere.
        values: one for each of the legend's columns.
    """

    name: str
    color: Sequence[int] | None
    values: Sequence[str] = ()


@dataclass(frozen=True)
class Gallery:
    """What ``logitkd show`` puts on a page.

    Args:
        summary: the scores, in a sentence.
        chosen: which examples are drawn, in a sentence.
        columns: titles of what the legend says of each class.
        classes: the legend of what is right and what the networks say.
        marks: the legend of differences.
        scenes: the examples.
    """

    summary: str
    chosen: str
    columns: Sequence[str]
    classes: Sequence[Entry]
    marks: Sequence[Entry]
    scenes: Sequence[Scene]


def spread(count: int, total: int) -> list[int]:
    """Return ``count`` places evenly from the first of ``total`` to the last, or all of them.

    >>> spread(3, 9), spread(1, 9), spread(9, 2)
    ([0, 4, 8], [0], [0, 1])
    """
    if count >= total:
        return list(range(total))
    return [number * (total - 1) // max(count - 1, 1) for number in range(count)]
