"""Small images with masks and the files they come in: blocks of one class each, and a column of pixels without one."""

import io
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Image
from PIL import Image as PILImage

VOID_NUMBER = 255
HEIGHT, WIDTH = 12, 16


def numbers(row: int, height: int = HEIGHT, width: int = WIDTH, classes: int = 3) -> np.ndarray:
    """The mask of scene ``row``: blocks of 3 x 4 pixels of one class each, the last column 255."""
    down, across = -(-height // 3), -(-width // 4)
    blocks = np.random.default_rng(row).integers(0, classes, (down, across), dtype=np.uint8)
    blocks.flat[:classes] = range(classes)  # every class is in every mask
    mask = np.kron(blocks, np.ones((3, 4), dtype=np.uint8))[:height, :width]
    mask[:, -1] = VOID_NUMBER
    return mask


def colours(mask: np.ndarray) -> np.ndarray:
    """An image that shows which class each pixel is of: 60, 120, 180 ... in red, its row and column in green and blue."""
    rows, columns = np.indices(mask.shape)
    return np.stack([np.where(mask == VOID_NUMBER, 0, 60 * (mask + 1)), 9 * rows % 256, 7 * columns % 256], 2).astype(np.uint8)


def png(array: np.ndarray, mode: str | None = None, palette: list[int] | None = None, **options) -> bytes:
    image = PILImage.fromarray(array)
    if mode == "P":
        image = PILImage.frombytes("P", image.size, array.tobytes())
        colors = palette or [0, 0, 0, 200, 0, 0, 0, 200, 0]
        image.putpalette((colors + [0] * 768)[: 3 * 2 ** options.get("bits", 8)])  # fewer colors would make fewer bits
    elif mode is not None:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "png", **options})
    return buffer.getvalue()


def write_masked_parquet(path: Path, masks, images=None, names=("image", "mask")) -> Path:
    """One parquet file of masks: arrays, encoded bytes or None; the images show them unless others are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    masks = list(masks)
    if images is None:
        images = [colours(mask if isinstance(mask, np.ndarray) else numbers(row)) for row, mask in enumerate(masks)]
    columns = {
        name: [
            {"bytes": png(one) if isinstance(one, np.ndarray) else one, "path": None} if one is not None else None
            for one in values
        ]
        for name, values in zip(names, (images, masks), strict=True)
    }
    Dataset.from_dict(columns, features=Features({name: Image() for name in names})).to_parquet(path)
    return path


def write_scenes(folder: Path, train: int = 5, val: int = 3, **options) -> Path:
    """A folder of parquet files, ``train`` and ``val``; options are those of :func:`numbers`."""
    write_masked_parquet(folder / "train.parquet", [numbers(row, **options) for row in range(train)])
    write_masked_parquet(folder / "val.parquet", [numbers(100 + row, **options) for row in range(val)])
    return folder


def write_scene_folders(folder: Path, places: dict[str, int], first: int = 0) -> Path:
    """Files of scenes: ``{"images/train": 5}`` writes 0.png, ... there, and their masks where ``masks`` stands in its place."""
    for place, count in places.items():
        for row in range(first, first + count):
            for kind, array in (("images", colours(numbers(row))), ("masks", numbers(row))):
                path = folder / place.replace("images", kind) / f"{row}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(array))
        first += count
    return folder
