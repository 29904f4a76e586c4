"""Small labelled images and the files they come in."""

import io
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage

SHAPES = ["circle", "square", "star"]
SIX = ["train/ant/1.png", "train/ant/2.png", "train/bee/1.png", "test/bee/7.png", "test/ant/9.png"]


def pixels(row: int, height: int = 6, width: int = 5) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def write_parquet(path: Path, rows, images=None, labels=None, label_type=None) -> Path:
    """One parquet file of the given rows: pixels(row), class row % 3, unless given otherwise."""
    rows = list(rows)
    columns = {
        "img": images if images is not None else [{"bytes": png(pixels(row)), "path": None} for row in rows],
        "kind": labels if labels is not None else [row % 3 for row in rows],
    }
    features = Features(
        {
            "img": Image(),
            "kind": label_type or ClassLabel(names=SHAPES),
        }
    )
    Dataset.from_dict(columns, features=features).to_parquet(path)
    return path


def write_mixed_folder(folder: Path, per_class: int = 5, splits=("train", "test")) -> Path:
    """An image folder whose images differ in size, mode and file format: gray, palette, RGBA, JPEG among them."""
    modes = ["RGB", "L", "P", "RGBA", "RGB"]
    for number, split in enumerate(splits):
        for kind, name in enumerate(SHAPES):
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            for row in range(per_class):
                seed = 1000 * number + 100 * kind + row
                picture = PILImage.fromarray(pixels(seed, 9 + 5 * row + kind, 40 - 3 * row)).convert(modes[row % 5])
                picture.save(place / (f"{row}.jpg" if row % 5 == 4 else f"{row}.png"))
    return folder


def write_image_folder(folder: Path, names) -> Path:
    """Write an image at each of the paths under ``folder``; the k-th shows row k."""
    for row, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels(row)))
    return folder
