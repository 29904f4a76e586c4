"""Where a source is and which splits it has, by its names alone: no file is opened, so mistakes show before time is spent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = [
    "IMAGES",
    "SHARD",
    "TEXTS",
    "Kind",
    "Labelled",
    "check_source",
    "check_splits",
    "check_subset",
    "class_folder_words",
    "eval_name",
    "find_folder",
    "is_dangling",
    "source_problems",
    "split_folders",
    "split_names",
    "split_tables",
]


@dataclass(frozen=True)
class Kind:
    """A kind of examples, as far as their files' names and messages go.

    Args:
        noun: what one is called.
        tables: suffixes of files that hold a row an example.
        embedded: sources that are no files, by name.
        subsets: whether the settings name a subset of a hub id.
    """

    noun: str
    tables: tuple[str, ...]
    embedded: tuple[str, ...] = ()
    subsets: bool = False


IMAGES = Kind("image", (".parquet",), ("digits",))
TEXTS = Kind("text", (".parquet", ".csv", ".tsv", ".jsonl", ".json"), subsets=True)


class Labelled(Protocol):
    """What the settings of labelled data say, of whatever kind; see those of images, ``DataConfig``."""

    @property
    def source(self) -> str:
        """A folder, a hub id, or what is embedded."""

    @property
    def train_split(self) -> str:
        """Name of the split to train on."""

    @property
    def eval_split(self) -> str:
        """Name of the split to evaluate on."""

    @property
    def eval_fraction(self) -> float | None:
        """The share of the training split to evaluate on instead."""

    @property
    def train_per_class(self) -> int | None:
        """How many training examples of each class to keep."""


HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SHARD = re.compile(r"(?P<split>.+?)(-(?P<shard>\d+)(-of-(?P<shards>\d+))?(-[0-9a-f]+)?)?")


def check_source(config: Labelled, kind: Kind = IMAGES) -> None:
    """Check the source of a run as far as names go; what is on the hub is not asked for.

    Raises:
        FileNotFoundError: no such source.
        ValueError: a folder without the splits named, or with the one that is to be made out of the other.
    """
    if config.source in ("", *kind.embedded):
        return
    folder = find_folder(config.source, kind)
    if folder is None:
        return
    splits, absent = split_names(config)
    if split_tables(folder, splits, absent, kind) is not None:
        return
    known = split_folders(folder)
    if absent is None or splits[0] in known or not known:  # else these are classes, if there are examples in them
        try:
            check_splits(splits, absent, class_folder_words(folder, kind), known, kind)
        except ValueError as error:
            texts = [path.name for path in sorted(folder.iterdir()) if path.suffix in TEXTS.tables]
            if kind is not IMAGES or not texts:
                raise
            raise ValueError(f"{error} Is {texts[0]} a table of texts? Then give `task: text`.") from error


def source_problems(config: Labelled, labels: str, kind: Kind) -> list[str]:
    """Return what is wrong with the source of a run and the examples to keep of it, a message each; no file is opened.

    Args:
        config: the run's data.
        labels: the run's, ``given`` or ``none``.
        kind: of the examples.
    """
    problems = []
    if labels == "none" and config.train_per_class is not None:
        rule = "`data.train_per_class` must be left out with `labels: none`"
        problems.append(f"{rule}: without labels no class can be counted.")
    try:
        check_source(config, kind)
    except (OSError, ValueError) as error:
        problems.append(str(error))
    return problems


def find_folder(source: str, kind: Kind = IMAGES) -> Path | None:
    """Return the folder that ``data.source`` is; ``None`` for a hub id.

    Args:
        source: the setting.
        kind: of the examples.

    Raises:
        FileNotFoundError: it can be neither.
        ValueError: it is a file.
    """
    folder = Path(source).expanduser()  # a shell expands ~, a recipe does not
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ValueError(f"`data.source` must be a folder, got the file {source}. Give the folder it is in.")
    if HUB_ID.fullmatch(source):
        return None
    embedded = "".join(f"`{name}`, " for name in kind.embedded)
    raise FileNotFoundError(
        f"`data.source` must be {embedded}an existing folder, or a hub id `owner/name`, got {source!r}: "
        "there is no such folder."
    )


def check_subset(source: str, subset: str | None) -> None:
    """Raise ``ValueError`` where a folder is to have a subset: only a hub id has some."""
    if subset is not None and Path(source).expanduser().is_dir():
        raise ValueError(
            f"`data.subset` must be left out where `data.source` is a folder, got {subset!r}. Give the subset's own folder."
        )


def split_names(config: Labelled) -> tuple[tuple[str, ...], str | None]:
    """Return the splits to load, and one that must not be there because it is made out of the first."""
    if config.eval_fraction is None:
        return (config.train_split, config.eval_split), None
    return (config.train_split,), config.eval_split


def eval_name(config: Labelled) -> str:
    """Return what the examples to evaluate on are called in results."""
    return config.eval_split if config.eval_fraction is None else f"{config.eval_fraction:g} of {config.train_split}"


def split_tables(folder: Path, splits: Sequence[str], absent: str | None, kind: Kind) -> list[list[Path]] | None:
    """Return the files of each named split that hold a row an example, in order; ``None`` where there are class folders.

    A folder of parquet files is one of tables. A file of another format beside sub-folders may be anything, a list of the
    labels, so it decides only where it is called as a split is.

    Raises:
        ValueError: no such split, ``absent`` is there, or a split is there in two formats.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(path for suffix in kind.tables for path in folder.glob(f"*{suffix}")):
        match = SHARD.fullmatch(path.stem)
        assert match is not None  # any name is at least a split
        files.setdefault(match["split"], []).append(path)
    decided = bool({*splits, absent} & set(files)) or any(
        path.suffix == ".parquet" for paths in files.values() for path in paths
    )
    if not files or (not decided and any(not name.startswith(".") for name in split_folders(folder))):
        return None
    check_splits(splits, absent, str(folder), files, kind)
    for split in splits:
        if len({path.suffix for path in files[split]}) > 1:
            raise ValueError(
                f"split `{split}` must be in files of one format, got {', '.join(path.name for path in files[split])} in "
                f"{folder}. Which is the right one? Move the others away."
            )
    return [files[split] for split in splits]


def split_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder of class folders: its splits, or the classes of its one split."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() or is_dangling(path))


def is_dangling(path: Path) -> bool:
    """Whether a path is a link to what is not there: unreadable, which is not the same as absent."""
    return path.is_symlink() and not path.exists()


def class_folder_words(folder: Path, kind: Kind) -> str:
    """Say which folder has splits for sub-folders, and why."""
    formats = ", ".join(suffix.removeprefix(".") for suffix in kind.tables)
    return f"{folder} (which has no {formats} files, so each sub-folder is a split)"


def check_splits(splits: Sequence[str], absent: str | None, where: str, known: Iterable[str], kind: Kind = IMAGES) -> None:
    """Check that a source, called ``where``, has the named ``splits``.

    Raises:
        ValueError: it lacks one, or the evaluation split ``absent`` to be made out of the training split is there already.
    """
    if absent is not None and absent in known:
        raise ValueError(
            f"`data.eval_fraction` must be left out where there is an evaluation split, and {where} has `{absent}`. To leave "
            f"that one untouched and hold out training {kind.noun}s all the same, give another name as `data.eval_split`."
        )
    for split in splits:
        if split not in known:
            raise ValueError(
                f"there is no split `{split}` in {where}. Splits there: {', '.join(sorted(known)) or 'none'}. Name them with "
                "`data.train_split` and `data.eval_split`. For one split only, evaluated on a share of it, give"
                " `data.eval_fraction`."
            )
