"""Where a source is and which splits it has, by its names alone: no file is opened, so mistakes show before time is spent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logitkd.data.config import DataConfig

__all__ = [
    "SHARD",
    "check_source",
    "check_splits",
    "find_folder",
    "image_folder_words",
    "is_dangling",
    "parquet_shards",
    "split_folders",
    "split_names",
]

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SHARD = re.compile(r"(?P<split>.+?)(-(?P<shard>\d+)(-of-(?P<shards>\d+))?(-[0-9a-f]+)?)?")


def check_source(config: DataConfig) -> None:
    """Check the source of a run as far as names go; what is on the hub is not asked for.

    Raises:
        FileNotFoundError: no such source.
        ValueError: a folder without the splits named, or with the one that is to be made out of the other.
    """
    if config.source in ("", "digits"):
        return
    folder = find_folder(config.source)
    if folder is None:
        return
    splits, absent = split_names(config)
    if shards := parquet_shards(folder):
        check_splits(splits, absent, str(folder), shards)
        return
    known = split_folders(folder)
    if absent is None or splits[0] in known or not known:  # else these are classes, if there are images in them
        check_splits(splits, absent, image_folder_words(folder), known)


def find_folder(source: str) -> Path | None:
    """Return the folder that ``data.source`` is; ``None`` for a hub id.

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
    raise FileNotFoundError(
        f"`data.source` must be `digits`, an existing folder, or a hub id `owner/name`, got {source!r}: "
        "there is no such folder."
    )


def split_names(config: DataConfig) -> tuple[tuple[str, ...], str | None]:
    """Return the splits to load, and one that must not be there because it is made out of the first."""
    if config.eval_fraction is None:
        return (config.train_split, config.eval_split), None
    return (config.train_split,), config.eval_split


def parquet_shards(folder: Path) -> dict[str, list[Path]]:
    """Return the parquet files of each split, in order."""
    shards: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        match = SHARD.fullmatch(path.stem)
        assert match is not None  # any name is at least a split
        shards.setdefault(match["split"], []).append(path)
    return shards


def split_folders(folder: Path) -> list[str]:
    """Return the names of the folders in an image folder: its splits, or the classes of its one split."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() or is_dangling(path))


def is_dangling(path: Path) -> bool:
    """Whether a path is a link to what is not there: unreadable, which is not the same as absent."""
    return path.is_symlink() and not path.exists()


def image_folder_words(folder: Path) -> str:
    """Say which folder has splits for sub-folders, and why."""
    return f"{folder} (which has no parquet files, so each sub-folder is a split)"


def check_splits(splits: Sequence[str], absent: str | None, where: str, known: Iterable[str]) -> None:
    """Check that a source, called ``where``, has the named ``splits``.

    Raises:
        ValueError: it lacks one, or the evaluation split ``absent`` to be made out of the training images is there already.
    """
    if absent is not None and absent in known:
        raise ValueError(
            f"`data.eval_fraction` must be left out where there is an evaluation split, and {where} has `{absent}`. To leave "
            "that one untouched and hold out training images all the same, give another name as `data.eval_split`."
        )
    for split in splits:
        if split not in known:
            raise ValueError(
                f"there is no split `{split}` in {where}. Splits there: {', '.join(sorted(known)) or 'none'}. Name them with "
                "`data.train_split` and `data.eval_split`. For one split only, evaluated on a share of it, give"
                " `data.eval_fraction`."
            )
