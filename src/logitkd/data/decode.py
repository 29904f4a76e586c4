"""Encoded images to one uint8 tensor; what is wrong is said with its row."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import ExifTags, Image
from torch import Tensor

from logitkd.data.cache import cached
from logitkd.data.fingerprint import DECODING

__all__ = ["check_encoded", "decode_images", "encoded", "is_turned", "open_image", "read_size"]


# Fewer images than this decode in less time than anybody notices.
CACHE_FROM = 5000
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
    contents = [encoded(value, row, place) for row, value in enumerate(values)]
    if len(contents) < CACHE_FROM:
        return _decode_all(contents, place)
    digest = hashlib.sha256(f"decoding {DECODING}, Pillow {PIL.__version__}, {len(contents)} images".encode())
    for content in contents:
        digest.update(len(content).to_bytes(8))
        digest.update(content)
    return cached(digest.hexdigest()[:32], lambda: _decode_all(contents, place))


def encoded(value: Any, row: int, place: Callable[[int], str]) -> bytes:
    """Return the bytes of an image file from what a column holds of it.

    Args:
        value: bytes, or ``{"bytes": ..., "path": ...}``.
        row: its row.
        place: row -> where it is kept, for messages.

    Raises:
        ValueError: it is missing or its file cannot be read.
    """
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


def _decode_all(contents: Sequence[bytes], place: Callable[[int], str]) -> Tensor:
    # One thread: these images are so small that two threads wait for the interpreter lock as long as they work.
    first = _decode(contents[0], 0, place)
    images = np.empty((len(contents), *first.shape), dtype=np.uint8)
    for row, content in enumerate(contents):
        pixels = _decode(content, row, place)
        if pixels.shape != first.shape:
            raise ValueError(
                f"images must all have one size (height x width), {_size(first)} as in {place(0)}, "
                f"got {_size(pixels)} in {place(row)}. For images of any size give `data.image_size`."
            )
        images[row] = pixels
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _decode(content: bytes, row: int, place: Callable[[int], str]) -> np.ndarray:
    return np.asarray(open_image(content, row, place))


def open_image(content: bytes, row: int, place: Callable[[int], str]) -> Image.Image:
    """Return the decoded image in Pillow's mode RGB; an alpha channel is dropped.

    Args:
        content: of an image file.
        row: its row.
        place: row -> where it is kept, for messages.

    Raises:
        ValueError: it cannot be decoded, or has more than 8 bits a channel.
    """
    with _naming(row, place), Image.open(io.BytesIO(content)) as image:
        _check_depth(image)
        image.load()  # before the file is closed
        return image if image.mode == "RGB" else image.convert("RGB")


def read_size(value: Any, row: int, place: Callable[[int], str]) -> tuple[int, int]:
    """Return the height and width of an image; of a file only its header is read.

    Args:
        value: as in :func:`encoded`.
        row: its row.
        place: row -> where it is kept, for messages.

    Raises:
        ValueError: it is missing, cannot be read, is no image, or has more than 8 bits a channel.
    """
    path = value.get("path") if isinstance(value, dict) and value.get("bytes") is None else None
    content = path if path is not None and Path(path).is_file() else io.BytesIO(encoded(value, row, place))
    with _naming(row, place), Image.open(content) as image:
        _check_depth(image)
        return image.height, image.width


def is_turned(value: Any, row: int, place: Callable[[int], str]) -> bool:
    """Whether an image's file asks for it to be turned when it is shown (EXIF), which nothing here does."""
    with _naming(row, place), Image.open(io.BytesIO(encoded(value, row, place))) as image:
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)  # of a PNG, it decodes the whole


def check_encoded(content: bytes, row: int, place: Callable[[int], str]) -> None:
    """Look at an image file's header only: raise ``ValueError`` where :func:`open_image` would before it reads pixels."""
    with _naming(row, place), Image.open(io.BytesIO(content)) as image:
        _check_depth(image)


@contextmanager
def _naming(row: int, place: Callable[[int], str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Pillow's formats raise whatever they stumble over: OSError, SyntaxError, struct.error...
        raise ValueError(f"cannot decode the image in {place(row)}: {error}.") from error


def _check_depth(image: Image.Image) -> None:
    if image.mode.startswith(("I", "F")):  # convert() would clip them at 255 without a word
        raise ValueError(f"pixels must have at most 8 bits a channel, got Pillow mode {image.mode}")
    if wide := WIDE.search(str(getattr(image, "tile", ""))):
        raise ValueError(f"pixels must have at most 8 bits a channel, got {wide[0]}")


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"
