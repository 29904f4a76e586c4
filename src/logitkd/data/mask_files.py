"""Images and masks as a source keeps them, encoded masks to class numbers, and what numbers there are in them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from logitkd.data.cache import cached
from logitkd.data.decode import encoded, read_size
from logitkd.data.encoded import Column

__all__ = ["DECODING", "LARGEST_CLASS", "Pairs", "content_hashes", "find_numbers", "is_absent", "mask_palette", "open_mask"]

# To be raised when the same files come to other numbers here: what is in the cache is then not found.
DECODING = 1
LARGEST_CLASS = 32766  # class numbers are kept as int16, with room for one more
CHANNELS = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes of one channel of whole numbers
HOW = (
    "A mask has one channel, in each pixel the number of its class: turn each color into its number, and save them with"
    ' `PIL.Image.fromarray(numbers.astype("uint8")).save("NAME.png")`.'
)


@dataclass(frozen=True)
class Pairs:
    """A split of images with masks as its source keeps it.

    Args:
        where: the split in words.
        images: the column of images.
        masks: that of masks, as long, with nothing in it where an image has none; ``None`` where there is no such column.
        place: row -> where its image is kept, for messages.
        mask_place: row -> where its mask is.
    """

    where: str
    images: Column
    masks: Column | None
    place: Callable[[int], str]
    mask_place: Callable[[int], str]

    def sizes(self, rows: Sequence[int]) -> Tensor:
        """Return height and width of each image, ``(N, 2)`` int64; only headers are read.

        Raises:
            ValueError: one is missing, cannot be read, is no image, or has more than 8 bits a channel.
        """
        with _threads() as threads:  # files are waited for
            return torch.tensor(list(threads.map(lambda row: read_size(self.images[row], row, self.place), rows)))


def is_absent(value: Any) -> bool:
    """Whether a column holds no mask in a row: null, or a file of neither content nor path."""
    return value is None or (isinstance(value, dict) and value.get("bytes") is None and value.get("path") is None)


def open_mask(value: Any, row: int, place: Callable[[int], str]) -> np.ndarray:
    """Return the numbers in a mask, ``(H, W)`` of an integer type.

    A palette image gives its numbers, not its colors, and one of 1 bit a pixel 0 and 1.

    Args:
        value: bytes of an image file, or ``{"bytes": ..., "path": ...}``.
        row: its row.
        place: row -> where it is kept, for messages.

    Raises:
        ValueError: it is missing, cannot be read or decoded, has several channels or fractions, or its numbers are not the ones
            that were written: JPEG, or gray of 2 or 4 bits.
    """
    content = encoded(value, row, place)
    try:
        with Image.open(io.BytesIO(content)) as image:
            problem = _problem(image)
            numbers = None if problem else _numbers(image)
    except Exception as error:  # Pillow's formats raise whatever they stumble over
        raise ValueError(f"cannot decode the mask in {place(row)}: {error}.") from error
    if numbers is None:
        raise ValueError(f"masks must be {problem} in {place(row)}. {HOW}")
    return numbers


def _numbers(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L")) // 255 if image.mode == "1" else np.asarray(image)


def _problem(image: Image.Image) -> str | None:
    if image.mode not in CHANNELS:
        return f"images of one channel of class numbers, got {image.mode} instead of indices (Pillow's mode)"
    if image.format == "JPEG":
        return "in a format that keeps every number, such as PNG, got JPEG"
    # Pillow stretches such numbers to 0..255, a program that wrote class numbers did not: nobody can tell which are meant.
    raw = {str(tile[3][0] if isinstance(tile[3], tuple) else tile[3]) for tile in getattr(image, "tile", [])}
    if image.mode == "L" and raw & {"L;2", "L;4"}:
        return "images of 8 or 16 bits a pixel, or with a palette, got gray of 2 or 4 bits"
    return None


def mask_palette(value: Any, row: int, place: Callable[[int], str]) -> list[tuple[int, int, int]] | None:
    """Return the colors of a mask's palette by their numbers; ``None`` if it has none, or only shades of gray."""
    try:
        with Image.open(io.BytesIO(encoded(value, row, place))) as image:
            parts = (image.getpalette("RGB") or []) if image.mode == "P" else []
    except OSError:  # no image, as decoding will say
        return None
    colors = [(parts[at], parts[at + 1], parts[at + 2]) for at in range(0, len(parts) - 2, 3)]
    return colors if any(len(set(color)) > 1 for color in colors) else None


def content_hashes(column: Column, rows: Sequence[int], place: Callable[[int], str]) -> list[bytes]:
    """Return the SHA-256 of each file, of nothing where one is absent.

    Raises:
        ValueError: one cannot be read.
    """

    def digest(row: int) -> bytes:
        value = column[row]
        return hashlib.sha256(b"" if is_absent(value) else encoded(value, row, place)).digest()

    with _threads() as threads:  # files are waited for, and hashing frees the lock
        return list(threads.map(digest, rows))


def find_numbers(column: Column, rows: Sequence[int], place: Callable[[int], str]) -> Tensor:
    """Return what numbers are in which masks, decoded now or when the same files were last looked at.

    Args:
        column: the masks as their source keeps them; some may be absent.
        rows: which to look at.
        place: row -> where it is kept, for messages.

    Returns:
        ``(M, 5)`` int64, a line for each number in each mask: its place in ``rows``, the mask's height and width, the number,
        and how many pixels have it.

    Raises:
        ValueError: as :func:`open_mask`.
    """

    def numbers(at: int) -> Tensor:
        row = rows[at]
        value = column[row]
        if is_absent(value):
            return torch.empty((0, 5), dtype=torch.int64)
        mask = open_mask(value, row, place)
        found, counts = _tally(mask)
        height, width = mask.shape
        return torch.tensor([[at, height, width, *pair] for pair in zip(found, counts, strict=True)])

    def decode_all() -> Tensor:
        with _threads() as threads:  # a decoder frees the interpreter's lock
            return torch.cat(list(threads.map(numbers, range(len(rows)))))

    digest = hashlib.sha256(f"masks, decoding {DECODING}, Pillow {PIL.__version__}, {len(rows)} of them".encode())
    for content in content_hashes(column, rows, place):
        digest.update(content)
    return cached(digest.hexdigest()[:32], decode_all)


def _tally(mask: np.ndarray) -> tuple[list[int], list[int]]:
    if mask.dtype == np.uint8:  # in a quarter of the time
        counts = np.bincount(mask.ravel(), minlength=256)
        (found,) = counts.nonzero()
        return found.tolist(), counts[found].tolist()
    found, counts = np.unique(mask, return_counts=True)
    return found.tolist(), counts.tolist()


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))
