"""Encoded images to one uint8 tensor, encoded labels to class numbers; what is wrong is said with its row."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["decode_images", "decode_labels"]


def decode_images(values: Sequence[Any], place: Callable[[int], str], size: tuple[int, int] | None = None) -> Tensor:
    """Decode images of one size.

    Args:
        values: one a row: bytes of an image file, or ``{"bytes": ..., "path": ...}``; anything Pillow opens.
        place: row -> where it is kept, for messages.
        size: (height, width) every image must have; by default the first image's.

    Returns:
        ``(N, 3, H, W)`` uint8, RGB, contiguous.

    Raises:
        ValueError: an image that is missing, cannot be decoded, or has another size.
    """
    images: np.ndarray | None = None
    for row, value in enumerate(values):
        pixels = _decode(value, row, place)
        if size is None:
            size = pixels.shape[:2]
        if pixels.shape[:2] != size:
            raise ValueError(
                f"images must all have one size, {_words(size)} as the first one has, got {_words(pixels.shape)} "
                f"in {place(row)}. Resize the data set first."
            )
        if images is None:
            images = np.empty((len(values), *size, 3), dtype=np.uint8)
        images[row] = pixels
    assert images is not None, "the caller refuses empty splits"
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _words(size: tuple[int, ...]) -> str:
    return f"{size[0]}x{size[1]} (height x width)"


def _decode(value: Any, row: int, place: Callable[[int], str]) -> np.ndarray:
    encoded = value
    if isinstance(value, dict):
        encoded = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if encoded is None:
        raise ValueError(f"the image is missing (null) in {place(row)}.")
    try:
        with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's formats raise on bad input
        raise ValueError(f"cannot decode the image in {place(row)}: {error}") from error


def decode_labels(values: Sequence[Any], place: Callable[[int], str], classes: Sequence[str]) -> Tensor:
    """Turn labels into class numbers.

    Args:
        values: one a row: a class number, or a class name.
        place: row -> where it is kept, for messages.
        classes: the name of each class.

    Returns:
        ``(N,)`` int64 in ``[0, len(classes))``.

    Raises:
        ValueError: a label that is missing, out of range, or no class name.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    labels = []
    for row, value in enumerate(values):
        if value is None:
            raise ValueError(f"the label is missing (null) in {place(row)}.")
        if isinstance(value, str):
            if value not in numbers:
                raise ValueError(f"label {value!r} in {place(row)} is none of the {len(classes)} classes of training.")
            value = numbers[value]
        if not 0 <= value < len(classes):
            raise ValueError(
                f"label {value} in {place(row)} must be in [0, {len(classes) - 1}] ({len(classes)} classes)."
            )
        labels.append(value)
    return torch.tensor(labels, dtype=torch.int64)
