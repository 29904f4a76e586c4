"""Images in class folders, ``SPLIT/CLASS/NAME``; those of a split without labels may lie anywhere in it.

The files are listed here, by a rule a person can hold in the head: what has an image's suffix is an image, and one that is
listed but not there (a link to a disk that is not mounted) is an error, never an image less. A builder of `datasets` would
leave such files out, and read a ``metadata.csv`` or an archive beside the images.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Image
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from logitkd.checks import listed
from logitkd.data.frames import ArrowColumn, Frame
from logitkd.data.splits import IMAGES, check_splits, class_folder_words, is_dangling, split_folders

__all__ = ["image_folder_frames", "images_under"]

IMAGE_SUFFIXES = frozenset(ImageFolder.EXTENSIONS)


def image_folder_frames(folder: Path, splits: Sequence[str], absent: str | None, unlabelled: bool) -> list[Frame]:
    """Return the frames of the named splits; see ``read_frames``.

    Raises:
        ValueError: no such split, ``absent`` is there, a file or folder that cannot be read, a split or a class without
            images, or an image in no class folder.
    """
    found = {split: _listing(path.absolute()) for split, path in _split_folders(folder, splits, absent).items()}
    _check_readable(found.values())
    return _frames(folder, found, unlabelled)


def images_under(folder: Path) -> list[str]:
    """Return the paths of the images in a folder, at any depth, sorted.

    Raises:
        ValueError: there are none, or something in it is listed but cannot be read.
    """
    listing = _listing(folder)
    _check_readable([listing])
    if not listing.images:
        raise ValueError(f"{folder} must hold images, got none in it or the folders in it. Is it the right folder?")
    return listing.images


def _split_folders(folder: Path, splits: Sequence[str], absent: str | None) -> dict[str, Path]:
    """Return the folder of each split; one whose class folders lie directly in it is the training split itself."""
    known = split_folders(folder)
    holds_classes = any(map(_is_image, folder.glob("*/*"))) or any(map(is_dangling, folder.iterdir()))
    if absent is not None and splits[0] not in known and holds_classes:
        return {splits[0]: folder}
    check_splits(splits, absent, class_folder_words(folder, IMAGES), known)
    return {split: folder / split for split in splits}


def _is_image(path: str | Path) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


@dataclass(frozen=True)
class _Listing:
    """What lies under the folder of a split.

    Args:
        folder: the split's.
        classes: the folders in it.
        images: paths of the images, in order, at any depth.
        unreadable: paths of images and of folders in it that are listed, but cannot be read.
    """

    folder: Path
    classes: list[str]
    images: list[str]
    unreadable: list[str]

    def misplaced(self) -> str | None:
        """Return the first image that is in no class folder."""
        start = len(str(self.folder)) + 1
        return next((path for path in self.images if path.count(os.sep, start) != 1), None)


def _listing(folder: Path) -> _Listing:
    unreadable: list[str] = []
    entries = list(_walk(str(folder), unreadable))
    images = sorted(path for path, is_folder in entries if not is_folder)
    return _Listing(folder, [os.path.basename(path) for path, is_folder in entries if is_folder], images, unreadable)


def _walk(folder: str, unreadable: list[str], around: tuple[str, ...] = ()) -> Iterator[tuple[str, bool]]:
    """Yield the path of each image under ``folder``, and of each folder right in it, and whether it is a folder.

    Hidden files and folders are none. Links are followed; one to a folder that it lies in is unreadable.
    """
    real, top = os.path.realpath(folder), not around
    if real in around:
        unreadable.append(folder)
        return
    try:
        with os.scandir(folder) as entries:
            inside = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        unreadable.append(folder)
        return
    for entry in inside:
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:  # links that lead to one another
            is_folder, is_file = False, False
        if is_folder:
            if top:
                yield entry.path, True
            yield from _walk(entry.path, unreadable, (*around, real))
        elif is_file and _is_image(entry.path):
            yield entry.path, False
        elif not is_file and (_is_image(entry.path) or (top and entry.is_symlink())):
            unreadable.append(entry.path)


def _check_readable(listings: Iterable[_Listing]) -> None:
    """Refuse what is listed but not there: without it a class would shrink, or be gone and the numbers of others shift."""
    lost = [path for listing in listings for path in sorted(listing.unreadable)]
    if not lost:
        return
    counts = Counter((os.path.dirname(path), _is_image(path)) for path in lost)
    places = []
    for (folder, images), count in counts.items():
        siblings = [name for name in os.listdir(folder) if not name.startswith(".") and _is_image(name) == images]
        places.append(f"{count} of {len(siblings)} {'images' if images else 'folders'} in {folder}")
    why = "cannot be opened: may you read it?"
    if os.path.islink(lost[0]):
        where = os.readlink(lost[0])
        why = f"is a link to {where}, which is not there: is a disk not mounted?"
        if os.path.isdir(lost[0]):
            why = f"is a link to {where}, a folder that it lies in itself."
    raise ValueError(
        f"all images and class folders must be readable, but these are not: {listed(places, 5)}. The first, {lost[0]}, {why}"
        " Bring them back, or remove them if they are not to be there."
    )


def _frames(folder: Path, found: Mapping[str, _Listing], unlabelled: bool) -> list[Frame]:
    first, *others = found
    if unlabelled and others and found[first].misplaced():
        labelled = _frames(folder, {split: found[split] for split in others}, unlabelled=False)
        images = {"image": _path_column(found[first].images)}
        return [_files_frame(folder, first, {"image": Image()}, images), *labelled]
    for split, listing in found.items():
        if misplaced := listing.misplaced():
            raise ValueError(
                f"{misplaced} is not in a class folder: images belong at {listing.folder}/CLASS/NAME (those to train on "
                "anywhere with `labels: none`)."
            )
        if not listing.images:
            raise ValueError(f"split `{split}` of {folder} is empty: no images at {listing.folder}/CLASS/NAME.")
    classes = _classes(folder, found.values())
    numbers = {name: number for number, name in enumerate(classes)}
    features = {"image": Image(), "label": ClassLabel(names=classes)}
    frames = []
    for split, listing in found.items():
        labels = pa.array([numbers[_class(path)] for path in listing.images], pa.int64())
        columns = {"image": _path_column(listing.images), "label": ArrowColumn(pa.chunked_array([labels]))}
        frames.append(_files_frame(folder, split, features, columns))
    return frames


def _class(image: str) -> str:
    return os.path.basename(os.path.dirname(image))


def _classes(folder: Path, listings: Iterable[_Listing]) -> list[str]:
    """Return the classes of all splits, sorted; one without any image is refused: it could only be left out."""
    named: set[str] = set()
    filled: set[str] = set()
    for listing in listings:
        named.update(listing.classes)
        filled.update(map(_class, listing.images))
    if empty := sorted(named - filled):
        raise ValueError(f"class folders must hold images, got none for {', '.join(empty)} in {folder}. Fill or remove them.")
    return sorted(filled)


def _path_column(paths: Sequence[str]) -> ArrowColumn:
    try:
        texts = pa.array(paths, pa.string())
    except UnicodeEncodeError:
        wrong = [path for path in paths if path.encode(errors="ignore").decode() != path]
        raise ValueError(
            f"the names of images and their folders must be UTF-8 text, got {len(wrong)} that are not, the first "
            f"{wrong[0]!a}. Rename them."
        ) from None
    return ArrowColumn(pa.chunked_array([pa.StructArray.from_arrays([texts], ["path"])]))


def _files_frame(folder: Path, split: str, features: Mapping[str, Any], columns: Mapping[str, ArrowColumn]) -> Frame:
    return Frame(
        where=f"{folder}, split `{split}`",
        features=features,
        read=lambda name: columns[name].values.to_pylist(),
        column=columns.__getitem__,
        place=lambda row: columns["image"][row]["path"],
    )
