"""What a source of labelled images is read into: typed columns of values nobody has decoded yet, and a name for every row.

So whatever is wrong with a row can be said with its file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from logitkd.data.encoded import Column

__all__ = ["ArrowColumn", "Frame", "HubColumn"]


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
