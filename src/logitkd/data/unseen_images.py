"""Images of a person's own, in files and folders, shown as a run's evaluation shows its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from logitkd.checks import check_path
from logitkd.data.config import DataConfig
from logitkd.data.decode import decode_images, encoded, open_image
from logitkd.data.encoded import whole
from logitkd.data.images import ImageData, ImageSplit
from logitkd.data.loader import make_loader
from logitkd.data.unseen import Unseen

__all__ = ["FEW", "readable", "unseen_images"]

FEW = 256  # images that are decoded sooner than worker processes begin


def unseen_images(
    files: Sequence[str | Path],
    config: DataConfig,
    classes: Sequence[str],
    shown: tuple[Sequence[float], Sequence[float]],
    size: tuple[int, int] | None,
    batch_size: int,
    device: torch.device,
) -> Unseen:
    """Return images from files and, sorted, from folders of them.

    Args:
        files: paths of images and folders.
        config: of the run's data.
        classes: that the run knows.
        shown: mean and std that images are normalised by.
        size: height and width that each must have; none if any will do.
        batch_size: images a batch.
        device: where batches are.

    Raises:
        ValueError: there is none, or some cannot be read or have another size; each is named.
    """
    paths = readable(files, size)
    labels = torch.zeros(len(paths), dtype=torch.int64)  # nobody reads them
    column = [{"path": path} for path in paths]
    if config.image_size is None:
        split: Any = ImageSplit(decode_images(column, paths.__getitem__), labels)
    else:
        split = whole(column, labels, paths.__getitem__)
    images = ImageData(split, split, tuple(classes), tuple(shown[0]), tuple(shown[1]))
    config = replace(config, workers=0 if len(paths) <= FEW else config.workers)
    loader = make_loader(images, config, train=False, batch_size=batch_size, device=device)
    return Unseen([(path, None) for path in paths], loader)


def readable(files: Sequence[str | Path], size: tuple[int, int] | None) -> list[str]:
    """Return the path of each image, those in folders too.

    Args:
        files: of images and folders.
        size: height and width that each must have; none if any will do.

    Raises:
        ValueError: there is none, or some cannot be read or have another size; each is named.
    """
    paths, problems = [], []
    for path in files:
        try:
            check_path("files", path)
            paths += _inside(Path(path)) if os.path.isdir(path) else [os.fspath(path)]
        except ValueError as error:
            problems.append(str(error))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # a decoder frees the interpreter's lock
        problems += filter(None, threads.map(lambda path: _problem(path, size), paths))
    if problems:
        raise ValueError("\n".join([f"`files` must be images that can be read, got {len(problems)} that cannot:", *problems]))
    if not paths:
        raise ValueError("`files` must name at least one image, got none.")
    return paths


def _inside(folder: Path) -> list[str]:
    from logitkd.data.image_folder import images_under  # `datasets` comes with it: not for files alone

    return images_under(folder)


def _problem(path: str, size: tuple[int, int] | None) -> str | None:
    try:
        check_path("files", path)  # of a folder given: what is in it may have any name
        image = open_image(encoded({"path": path}, 0, lambda row: path), 0, lambda row: path)
    except ValueError as error:
        return str(error)
    if size in (None, (image.height, image.width)):
        return None
    return (
        f"{path} must be {size[0]}x{size[1]} pixels (height x width), the size that the run was trained on, "
        f"got {image.height}x{image.width}. A run that has `data.image_size` takes any."
    )
