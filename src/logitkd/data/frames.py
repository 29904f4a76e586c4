"""What a source of labelled examples is read into: typed columns of values nobody has decoded yet, and a name for every row.

So whatever is wrong with a row can be said with its file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import pyarrow as pa

from logitkd.data.encoded import Column

__all__ = ["ArrowColumn", "Frame", "HubColumn", "ListedColumn", "Mixed", "file_and_row"]


@dataclass(frozen=True)
class Frame:
    """One split as its source keeps it.

    Args:
        where: the split in words, for messages about the whole of it.
        features: the type of each column.
        read: column name -> its values, one a row; an image is ``{"bytes": ..., "path": ...}`` or bytes.
        column: column name -> the same values, read one at a time, by several processes too.
        place: row -> where it is kept, for messages about it.
    """

    where: str
    features: Mapping[str, Any]
    read: Callable[[str], list[Any]]
    column: Callable[[str], Column]
    place: Callable[[int], str]


class ListedColumn(Column, Protocol):
    """A column that can be read at once, too."""

    def to_list(self) -> list[Any]:
        """Return all values."""


@dataclass(frozen=True)
class Mixed:
    """The type of a column whose values are of several types, or of one that no column should have.

    Args:
        words: which, for messages.
    """

    words: str


@dataclass(frozen=True)
class ArrowColumn:
    """A column in memory as Arrow keeps it: no Python object a row, so that worker processes share its memory.

    Args:
        values: the whole column.
    """

    values: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int) -> Any:
        return self.values[row].as_py()

    def to_list(self) -> list[Any]:
        """Return all values."""
        return self.values.to_pylist()


@dataclass(frozen=True)
class HubColumn:
    """A column of a hub data set, which `datasets` maps from its files on disk.

    Args:
        rows: that column alone, not decoded.
        name: the column's.
    """

    rows: Any
    name: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self.rows[row][self.name]


def file_and_row(sizes: Sequence[int]) -> Callable[[int], tuple[int, int]]:
    """Return a function from a row of a split to the number of its file and the row in that.

    Args:
        sizes: rows of each of the split's files.

    >>> file_and_row([2, 0, 3])(2)
    (2, 0)
    """
    ends = list(accumulate(sizes))

    def find(row: int) -> tuple[int, int]:
        file = bisect_right(ends, row)
        return file, row - (ends[file - 1] if file else 0)

    return find
