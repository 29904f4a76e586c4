"""Examples in class folders, ``SPLIT/CLASS/NAME``; those of a split without labels may lie anywhere in it.

The files are listed here, by a rule a person can hold in the head: what has an image's suffix is an image, and one that is
listed but not there (a link to a disk that is not mounted) is an error, never an image less. A builder of `datasets` would
leave such files out, and read a ``metadata.csv`` or an archive beside the images. So it is with texts.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import ClassLabel

from logitkd.checks import listed
from logitkd.data.frames import ArrowColumn, Frame, ListedColumn
from logitkd.data.splits import Kind, check_splits, class_folder_words, is_dangling, split_folders
from logitkd.data.utf8 import is_unicode

__all__ = ["FileKind", "class_folder_frames", "files_frame", "files_under", "path_column"]


@dataclass(frozen=True)
class FileKind:
    """A kind of examples that are a file each.

    Args:
        kind: what they are; its noun names the column of them.
        suffixes: what their names end in, lower case.
        feature: the type of that column.
        column: paths ``{"path": ...}`` -> that column.
    """

    kind: Kind
    suffixes: frozenset[str]
    feature: Any
    column: Callable[[ArrowColumn], ListedColumn]

    def has(self, path: str | Path) -> bool:
        """Whether a path names one."""
        return os.path.splitext(path)[1].lower() in self.suffixes


def class_folder_frames(
    folder: Path, splits: Sequence[str], absent: str | None, unlabelled: bool, files: FileKind
) -> list[Frame]:
    """Return the frames of the named splits; see ``read_frames``.

    Raises:
        ValueError: no such split, ``absent`` is there, a file or folder that cannot be read, a split or a class without
            examples, or an example in no class folder.
    """
    found = {split: _listing(path.absolute(), files) for split, path in _split_folders(folder, splits, absent, files).items()}
    _check_readable(found.values(), files)
    return _frames(folder, found, unlabelled, files)


def files_under(folder: Path, files: FileKind) -> list[str]:
    """Return the paths of the examples in a folder, at any depth, sorted.

    Raises:
        ValueError: there are none, or something in it is listed but cannot be read.
    """
    listing = _listing(folder, files)
    _check_readable([listing], files)
    if not listing.paths:
        raise ValueError(f"{folder} must hold {files.kind.noun}s, got none in it or the folders in it. Is it the right folder?")
    return listing.paths


def _split_folders(folder: Path, splits: Sequence[str], absent: str | None, files: FileKind) -> dict[str, Path]:
    """Return the folder of each split; one whose class folders lie directly in it is the training split itself."""
    known = split_folders(folder)
    holds_classes = any(map(files.has, folder.glob("*/*"))) or any(map(is_dangling, folder.iterdir()))
    if absent is not None and splits[0] not in known and holds_classes:
        return {splits[0]: folder}
    check_splits(splits, absent, class_folder_words(folder, files.kind), known, files.kind)
    return {split: folder / split for split in splits}


@dataclass(frozen=True)
class _Listing:
    """What lies under the folder of a split.

    Args:
        folder: the split's.
        classes: the folders in it.
        paths: of the examples, in order, at any depth.
        unreadable: paths of examples and of folders in it that are listed, but cannot be read.
    """

    folder: Path
    classes: list[str]
    paths: list[str]
    unreadable: list[str]

    def misplaced(self) -> str | None:
        """Return the first example that is in no class folder."""
        start = len(str(self.folder)) + 1
        return next((path for path in self.paths if path.count(os.sep, start) != 1), None)


def _listing(folder: Path, files: FileKind) -> _Listing:
    unreadable: list[str] = []
    entries = list(_walk(str(folder), files, unreadable))
    paths = sorted(path for path, is_folder in entries if not is_folder)
    return _Listing(folder, [os.path.basename(path) for path, is_folder in entries if is_folder], paths, unreadable)


def _walk(folder: str, files: FileKind, unreadable: list[str], around: tuple[str, ...] = ()) -> Iterator[tuple[str, bool]]:
    """Yield the path of each example under ``folder``, and of each folder right in it, and whether it is a folder.

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
            yield from _walk(entry.path, files, unreadable, (*around, real))
        elif is_file and files.has(entry.path):
            yield entry.path, False
        elif not is_file and (files.has(entry.path) or (top and entry.is_symlink())):
            unreadable.append(entry.path)


def _check_readable(listings: Iterable[_Listing], files: FileKind) -> None:
    """Refuse what is listed but not there: without it a class would shrink, or be gone and the numbers of others shift."""
    lost = [path for listing in listings for path in sorted(listing.unreadable)]
    if not lost:
        return
    noun = files.kind.noun
    counts = Counter((os.path.dirname(path), files.has(path)) for path in lost)
    places = []
    for (folder, examples), count in counts.items():
        siblings = [name for name in os.listdir(folder) if not name.startswith(".") and files.has(name) == examples]
        places.append(f"{count} of {len(siblings)} {f'{noun}s' if examples else 'folders'} in {folder}")
    why = "cannot be opened: may you read it?"
    if os.path.islink(lost[0]):
        where = os.readlink(lost[0])
        why = f"is a link to {where}, which is not there: is a disk not mounted?"
        if os.path.isdir(lost[0]):
            why = f"is a link to {where}, a folder that it lies in itself."
    raise ValueError(
        f"all {noun}s and class folders must be readable, but these are not: {listed(places, 5)}. The first, {lost[0]}, {why}"
        " Bring them back, or remove them if they are not to be there."
    )


def _frames(folder: Path, found: Mapping[str, _Listing], unlabelled: bool, files: FileKind) -> list[Frame]:
    noun = files.kind.noun
    first, *others = found
    if unlabelled and others and found[first].misplaced():
        labelled = _frames(folder, {split: found[split] for split in others}, False, files)
        return [files_frame(folder, first, found[first].paths, None, files), *labelled]
    for split, listing in found.items():
        if misplaced := listing.misplaced():
            raise ValueError(
                f"{misplaced} is not in a class folder: {noun}s belong at {listing.folder}/CLASS/NAME (those to train on "
                "anywhere with `labels: none`)."
            )
        if not listing.paths:
            raise ValueError(f"split `{split}` of {folder} is empty: no {noun}s at {listing.folder}/CLASS/NAME.")
    classes = _classes(folder, found.values(), noun)
    return [files_frame(folder, split, listing.paths, classes, files) for split, listing in found.items()]


def _class(path: str) -> str:
    return os.path.basename(os.path.dirname(path))


def _classes(folder: Path, listings: Iterable[_Listing], noun: str) -> list[str]:
    """Return the classes of all splits, sorted; one without any example is refused: it could only be left out."""
    named: set[str] = set()
    filled: set[str] = set()
    for listing in listings:
        named.update(listing.classes)
        filled.update(map(_class, listing.paths))
    if empty := sorted(named - filled):
        raise ValueError(f"class folders must hold {noun}s, got none for {', '.join(empty)} in {folder}. Fill or remove them.")
    return sorted(filled)


def path_column(paths: Sequence[str | None], noun: str) -> ArrowColumn:
    """Return the column of files, ``None`` where one is absent; names that are not UTF-8 raise ``ValueError``."""
    try:
        texts = pa.array(paths, pa.string())
    except UnicodeEncodeError:
        wrong = [path for path in paths if path is not None and not is_unicode(path)]
        raise ValueError(
            f"the names of {noun}s and their folders must be UTF-8 text, got {len(wrong)} that are not, the first "
            f"{wrong[0]!a}. Rename them."
        ) from None
    return ArrowColumn(pa.chunked_array([pa.StructArray.from_arrays([texts], ["path"])]))


def files_frame(folder: Path, split: str, paths: Sequence[str], classes: Sequence[str] | None, files: FileKind) -> Frame:
    """Return the frame of files, with the class folder of each for its label unless ``classes`` are none."""
    noun = files.kind.noun
    there = path_column(paths, noun)
    features: dict[str, Any] = {noun: files.feature}
    columns = {noun: files.column(there)}
    if classes is not None:
        numbers = {name: number for number, name in enumerate(classes)}
        labels = pa.array([numbers[_class(path)] for path in paths], pa.int64())
        features["label"], columns["label"] = ClassLabel(names=list(classes)), ArrowColumn(pa.chunked_array([labels]))
    return Frame(
        where=f"{folder}, split `{split}`",
        features=features,
        read=lambda name: columns[name].to_list(),
        column=columns.__getitem__,
        place=lambda row: there[row]["path"],
    )
