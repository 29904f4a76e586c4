"""Small scenes and their masks in folders: discs and bars of a class's colour on a ground, with a frame of void."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

__all__ = ["COLORS", "IGNORE", "NAMES", "scene", "write_scenes", "write_table"]

NAMES = ("ground", "disc", "bar")
COLORS = ((60, 60, 60), (220, 40, 40), (40, 60, 220))
IGNORE = 255


def scene(number: int, height: int = 24, width: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return image ``(H, W, 3)`` and mask ``(H, W)``, uint8, of the scene of this number."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    y, x, radius = random.integers(height), random.integers(width), height // 4
    mask[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = 1
    left = random.integers(width - 4)
    mask[:, left : left + 4] = 2
    image = np.array(COLORS)[mask] + random.integers(-20, 20, (height, width, 3))
    mask[0] = IGNORE
    return image.clip(0, 255).astype(np.uint8), mask


def write_scenes(folder: Path, sizes: dict[str, int] | None = None, height: int = 24, width: int = 32) -> Path:
    """Write ``images/SPLIT/N.png`` and ``masks/SPLIT/N.png``; return the folder.

    Args:
        folder: to write to.
        sizes: of each split, how many scenes; by default 12 to train on and 5 of ``val``.
        height: of each.
        width: likewise.
    """
    first = 0
    for split, count in (sizes or {"train": 12, "val": 5}).items():
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            for kind, pixels in zip(("images", "masks"), scene(number, height, width), strict=True):
                Image.fromarray(pixels).save(folder / kind / split / f"{number}.png")
        first += 1000
    return folder


def write_table(folder: Path, sizes: dict[str, int] | None = None, without: tuple[int, ...] = ()) -> Path:
    """Write ``SPLIT.parquet`` with columns ``image`` and ``mask``; return the folder.

    Args:
        folder: to write to.
        sizes: as above.
        without: rows of the first split that have no mask.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    first = 0
    for split, count in (sizes or {"train": 12, "val": 5}).items():
        columns: dict[str, list[dict[str, object] | None]] = {"image": [], "mask": []}
        for row in range(count):
            for name, pixels in zip(columns, scene(first + row), strict=True):
                content = io.BytesIO()
                Image.fromarray(pixels).save(content, "PNG")
                absent = name == "mask" and first == 0 and row in without
                columns[name].append(None if absent else {"bytes": content.getvalue(), "path": f"{row}.png"})
        table = pa.table({name: pa.array(values, kind) for name, values in columns.items()})
        features = {"info": {"features": {name: {"_type": "Image"} for name in columns}}}
        pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), folder / f"{split}.parquet")
        first += 1000
    return folder
