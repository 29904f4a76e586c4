"""Images in class folders, ``SPLIT/CLASS/NAME``; those of a split without labels may lie anywhere in it."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Image, load_dataset
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from logitkd.data.frames import ArrowColumn, Frame
from logitkd.data.splits import check_splits, image_folder_words, split_folders

__all__ = ["image_folder_frames"]

IMAGE_SUFFIXES = frozenset(ImageFolder.EXTENSIONS)


def image_folder_frames(folder: Path, splits: Sequence[str], absent: str | None, unlabelled: bool) -> list[Frame]:
    """Return the frames of the named splits; see ``read_frames``.

    Raises:
        ValueError: no such split, ``absent`` is there, a split or a class without images, or an image in no class folder.
    """
    return _frames(folder, _split_folders(folder, splits, absent), unlabelled)


def _split_folders(folder: Path, splits: Sequence[str], absent: str | None) -> dict[str, Path]:
    """Return the folder of each split; one whose class folders lie directly in it is the training split itself."""
    known = split_folders(folder)
    if absent is not None and splits[0] not in known and _has_images(folder):
        return {splits[0]: folder}
    check_splits(splits, absent, image_folder_words(folder), known)
    return {split: folder / split for split in splits}


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.glob("*/*"))


def _frames(folder: Path, splits: Mapping[str, Path], unlabelled: bool) -> list[Frame]:
    first, *others = splits
    if unlabelled and others and _misplaced_image(splits[first]):
        labelled = _frames(folder, {split: splits[split] for split in others}, unlabelled=False)
        return [_loose_images_frame(folder, first, splits[first]), *labelled]
    for split, path in splits.items():
        misplaced = _misplaced_image(path)
        if misplaced:
            raise ValueError(
                f"{misplaced} is not in a class folder: images belong at {path}/CLASS/NAME (those to train on "
                "anywhere with `labels: none`)."
            )
        if not _has_images(path):
            raise ValueError(f"split `{split}` of {folder} is empty: no images at {path}/CLASS/NAME.")
    _check_class_folders(folder, list(splits.values()))
    patterns = {split: f"{glob.escape(str(path))}/*/*" for split, path in splits.items()}
    # Streaming yields the paths as they are; otherwise a copy of the listing would stay in the user's cache.
    loaded = load_dataset("imagefolder", data_files=patterns, drop_labels=False, drop_metadata=True, streaming=True)
    return [_frame(folder, split, loaded[split]) for split in splits]


def _check_class_folders(folder: Path, splits: Sequence[Path]) -> None:
    """Refuse a class without any image: it would be left out, and the numbers of the classes after it would shift."""
    found: dict[str, bool] = {}
    for split in splits:
        for path in split.iterdir():
            if path.is_dir() and not path.name.startswith("."):
                images = any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.iterdir())
                found[path.name] = found.get(path.name, False) or images
    empty = sorted(name for name, images in found.items() if not images)
    if empty:
        raise ValueError(f"class folders must hold images, got none for {', '.join(empty)} in {folder}. Fill or remove them.")


def _frame(folder: Path, split: str, rows: Any) -> Frame:
    paths, labels = [], []
    for value in rows.cast_column("image", Image(decode=False)):
        paths.append(value["image"]["path"])
        labels.append(value["label"])
    columns = {
        "image": _path_column(paths),
        "label": ArrowColumn(pa.chunked_array([pa.array(labels, pa.int64())])),
    }
    return _files_frame(folder, split, rows.features, columns)


def _loose_images_frame(folder: Path, split: str, path: Path) -> Frame:
    images = [str(file) for file in sorted(path.rglob("*")) if file.suffix.lower() in IMAGE_SUFFIXES]
    return _files_frame(folder, split, {"image": Image()}, {"image": _path_column(images)})


def _path_column(paths: Sequence[str]) -> ArrowColumn:
    return ArrowColumn(pa.chunked_array([pa.StructArray.from_arrays([pa.array(paths, pa.string())], ["path"])]))


def _files_frame(folder: Path, split: str, features: Mapping[str, Any], columns: Mapping[str, ArrowColumn]) -> Frame:
    return Frame(
        where=f"{folder}, split `{split}`",
        features=features,
        read=lambda name: columns[name].values.to_pylist(),
        column=columns.__getitem__,
        place=lambda row: columns["image"][row]["path"],
    )


def _misplaced_image(split: Path) -> Path | None:
    for path in sorted(split.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and len(path.relative_to(split).parts) != 2:
            return path
    return None
