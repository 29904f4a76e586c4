"""Encoded images to one uint8 tensor, encoded labels to class numbers; what is wrong is said with its row."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from logitkd.data.cache import cached

__all__ = ["decode_images", "decode_labels"]


# Fewer images than this decode in less time than anybody notices.
CACHE_FROM = 5000
# To be raised when the same files come to other pixels here: what is in the cache is then not found.
DECODING = 1
# How Pillow names rows of 16 bits a channel that it cuts to 8 as it reads them (BMP's "BGR;16" is 16 bits a pixel).
WIDE = re.compile(r"\w+;16[BLN]")


def decode_images(values: Sequence[Any], place: Callable[[int], str]) -> Tensor:
    """Decode images of one size, or take them from the cache.

    Args:
        values: at least one; one a row: bytes of an image file, or ``{"bytes": ..., "path": ...}``; anything Pillow
            opens that has at most 8 bits a channel. Gray and palette images become RGB, an alpha channel is dropped.
        place: row -> where it is kept, for messages.

    Returns:
        ``(N, 3, H, W)`` uint8, RGB, contiguous.

    Raises:
        ValueError: an image that is missing, cannot be decoded, or has another size than the first.
    """
    encoded = [_encoded(value, row, place) for row, value in enumerate(values)]
    if len(encoded) < CACHE_FROM:
        return _decode_all(encoded, place)
    digest = hashlib.sha256(f"decoding {DECODING}, Pillow {PIL.__version__}, {len(encoded)} images".encode())
    for content in encoded:
        digest.update(len(content).to_bytes(8))
        digest.update(content)
    return cached(digest.hexdigest()[:32], lambda: _decode_all(encoded, place))


def _encoded(value: Any, row: int, place: Callable[[int], str]) -> bytes:
    path = None
    if isinstance(value, dict):
        value, path = value.get("bytes"), value.get("path")
    if value is not None:
        return value
    if path is None:
        raise ValueError(f"the image is missing (null) in {place(row)}.")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the image in {place(row)}: {error}.") from error


def _decode_all(encoded: Sequence[bytes], place: Callable[[int], str]) -> Tensor:
    # One thread: these images are so small that two threads wait for the interpreter lock as long as they work.
    first = _decode(encoded[0], 0, place)
    images = np.empty((len(encoded), *first.shape), dtype=np.uint8)
    for row, content in enumerate(encoded):
        pixels = _decode(content, row, place)
        if pixels.shape != first.shape:
            raise ValueError(
                f"images must all have one size (height x width), {_size(first)} as in {place(0)}, "
                f"got {_size(pixels)} in {place(row)}. Resize the data set first."
            )
        images[row] = pixels
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _decode(content: bytes, row: int, place: Callable[[int], str]) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode.startswith(("I", "F")):  # convert() would clip them at 255 without a word
                raise ValueError(f"pixels must have at most 8 bits a channel, got Pillow mode {image.mode}")
            if wide := WIDE.search(str(getattr(image, "tile", ""))):
                raise ValueError(f"pixels must have at most 8 bits a channel, got {wide[0]}")
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except Exception as error:  # Pillow's formats raise whatever they stumble over: OSError, SyntaxError, struct.error...
        raise ValueError(f"cannot decode the image in {place(row)}: {error}.") from error


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"


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
            raise ValueError(f"label {value} in {place(row)} must be in [0, {len(classes) - 1}] ({len(classes)} classes).")
        labels.append(value)
    return torch.tensor(labels, dtype=torch.int64)
