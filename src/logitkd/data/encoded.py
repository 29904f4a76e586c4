"""A split of images of any size: encoded as their files are, decoded one at a time when they are needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from logitkd.data.decode import check_encoded, encoded, open_image

__all__ = ["Column", "EncodedSplit"]

PIECE = 4096  # images handed to the threads at once: bounds what waits in memory


class Column(Protocol):
    """The values of a column, read one at a time: bytes, or ``{"bytes": ..., "path": ...}``."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Any: ...


@dataclass(frozen=True)
class EncodedSplit:
    """One split, not decoded: rows of a column of encoded images or of paths to them.

    Args:
        column: the images as their source keeps them.
        rows: ``(N,)`` int64, the column's rows that make this split, in order.
        labels: ``(N,)`` int64 class numbers.
        place: row of the column -> where it is kept, for messages.
    """

    column: Column
    rows: Tensor
    labels: Tensor
    place: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Tensor) -> EncodedSplit:
        """Return the split of the examples that ``chosen``, a ``(N,)`` bool mask, marks."""
        return EncodedSplit(self.column, self.rows[chosen], self.labels[chosen], self.place)

    def image(self, index: int) -> Image.Image:
        """Return example ``index``, decoded, in Pillow's mode RGB.

        Raises:
            ValueError: it is missing, cannot be read or decoded, or has more than 8 bits a channel; its place is named.
        """
        row = int(self.rows[index])
        return open_image(encoded(self.column[row], row, self.place), row, self.place)

    def update(self, digest: Any) -> None:
        """Feed images (their encoded bytes, no pixels), labels and their order to a hash; look at each image's header.

        Raises:
            ValueError: an image that is missing, cannot be read, is no image, or has more than 8 bits a channel.
        """
        rows = self.rows.tolist()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # files are waited for, and hashing frees the lock
            for start in range(0, len(rows), PIECE):
                for part in threads.map(self._digest, rows[start : start + PIECE]):
                    digest.update(part)
        digest.update(self.labels.numpy().data)

    def _digest(self, row: int) -> bytes:
        content = encoded(self.column[row], row, self.place)
        check_encoded(content, row, self.place)
        return hashlib.sha256(content).digest()


def whole(column: Column, labels: Tensor, place: Callable[[int], str]) -> EncodedSplit:
    """Return the split of every row of ``column``."""
    return EncodedSplit(column, torch.arange(len(labels)), labels, place)
