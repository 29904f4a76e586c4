"""Images in class folders."""

from __future__ import annotations

from pathlib import Path

from datasets import Image
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from logitkd.data.class_folders import FileKind, files_under
from logitkd.data.splits import IMAGES

__all__ = ["IMAGE_FILES", "images_under"]

IMAGE_FILES = FileKind(IMAGES, frozenset(ImageFolder.EXTENSIONS), Image(), lambda paths: paths)


def images_under(folder: Path) -> list[str]:
    """Return the paths of the images in a folder, at any depth, sorted.

    Raises:
        ValueError: there are none, or something in it is listed but cannot be read.
    """
    return files_under(folder, IMAGE_FILES)
