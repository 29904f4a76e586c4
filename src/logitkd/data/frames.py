"""Where labelled images are kept: a local folder of parquet files, an image folder, or a Hugging Face hub id.

A source is read into a ``Frame`` per split: typed columns of values nobody has decoded yet, and a name for every row,
so that whatever is wrong with a row can be said with its file.
"""

from __future__ import annotations

import glob
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DatasetDict, Features, Image, load_dataset
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

__all__ = ["Frame", "read_frames"]

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SHARD = re.compile(r"(?P<split>.+?)(-(?P<shard>\d+)(-of-(?P<shards>\d+))?(-[0-9a-f]+)?)?")
IMAGE_SUFFIXES = frozenset(ImageFolder.EXTENSIONS)


@dataclass(frozen=True)
class Frame:
    """One split as its source keeps it.

    Args:
        where: the split in words, for messages about the whole of it.
        features: the type of each column.
        read: column name -> its values, one a row; an image is ``{"bytes": ..., "path": ...}`` or bytes.
        place: row -> where it is kept, for messages about it.
    """

    where: str
    features: Mapping[str, Any]
    read: Callable[[str], list[Any]]
    place: Callable[[int], str]


def read_frames(source: str, splits: Sequence[str]) -> list[Frame]:
    """Return the frames of the named splits.

    Raises:
        FileNotFoundError: no such source.
        ValueError: no such split (the message lists those there are), or a file that cannot be read.
        ConnectionError: a hub id that cannot be reached.
    """
    folder = Path(source).expanduser()  # a shell expands ~, a recipe does not
    if folder.is_dir():
        if any(folder.glob("*.parquet")):
            return [_parquet_frame(folder, split) for split in splits]
        return _image_folder_frames(folder, splits)
    if folder.exists():
        raise ValueError(f"`data.source` must be a folder, got the file {source}. Give the folder it is in.")
    if HUB_ID.fullmatch(source):
        return _hub_frames(source, splits)
    raise FileNotFoundError(
        f"`data.source` must be `digits`, an existing folder, or a hub id `owner/name`, got {source!r}: "
        "there is no such folder."
    )


def _missing_split(split: str, where: str, known: Sequence[str]) -> ValueError:
    return ValueError(
        f"there is no split `{split}` in {where}. Splits there: {', '.join(known) or 'none'}. "
        "Name them with `data.train_split` and `data.eval_split`."
    )


def _parquet_frame(folder: Path, split: str) -> Frame:
    # Read by pyarrow and typed by `datasets`: load_dataset("parquet") would first copy every file into its cache, and a
    # row of the copy no longer knows its file.
    shards: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        match = SHARD.fullmatch(path.stem)
        assert match is not None  # any name is at least a split
        shards.setdefault(match["split"], []).append(path)
    if split not in shards:
        raise _missing_split(split, str(folder), sorted(shards))
    paths = shards[split]
    _check_shards(folder, split, paths)
    tables = [_open_parquet(path) for path in paths]
    features = Features.from_arrow_schema(tables[0].schema_arrow)
    for path, table in zip(paths, tables, strict=True):
        if Features.from_arrow_schema(table.schema_arrow) != features:
            raise ValueError(f"{path} has other columns than {paths[0]}: the files of a split must agree.")
    ends = list(accumulate(table.metadata.num_rows for table in tables))

    def read(column: str) -> list[Any]:
        values: list[Any] = []
        for path, table in zip(paths, tables, strict=True):
            try:
                values += table.read(columns=[column])[column].to_pylist()
            except (OSError, pa.ArrowException) as error:
                raise ValueError(f"cannot read column `{column}` of {path}: {error}") from error
        return values

    def place(row: int) -> str:
        shard = bisect_right(ends, row)
        return f"{paths[shard]}, row {row - (ends[shard - 1] if shard else 0)}"

    return Frame(f"{folder}, split `{split}`", features, read, place)


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} is not a readable parquet file: {error}") from error


def _check_shards(folder: Path, split: str, paths: list[Path]) -> None:
    """A download that stopped half-way must not train on half of the data."""
    matches = [match for path in paths if (match := SHARD.fullmatch(path.stem))]
    counts = {match["shards"] for match in matches}
    if counts == {None}:
        return
    numbers = sorted(int(match["shard"] or 0) for match in matches)  # one twice and one missing is the right count, too
    if len(counts) > 1 or numbers != list(range(int(counts.pop() or 0))):
        raise ValueError(
            f"the files of split `{split}` in {folder} are not one whole set: {', '.join(p.name for p in paths)}. "
            "Fetch the missing files or remove those that do not belong."
        )


def _image_folder_frames(folder: Path, splits: Sequence[str]) -> list[Frame]:
    known = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for split in splits:
        if split not in known:
            raise _missing_split(split, f"{folder} (which has no parquet files, so each sub-folder is a split)", known)
        misplaced = _misplaced_image(folder / split)
        if misplaced:
            raise ValueError(f"{misplaced} is not in a class folder: images belong at {folder / split}/CLASS/NAME.")
        if not any(path.suffix.lower() in IMAGE_SUFFIXES for path in (folder / split).glob("*/*")):
            raise ValueError(f"split `{split}` of {folder} is empty: no images at {folder / split}/CLASS/NAME.")
    _check_class_folders(folder, splits)
    patterns = {split: f"{glob.escape(str(folder / split))}/*/*" for split in splits}
    # Streaming yields the paths as they are; otherwise a copy of the listing would stay in the user's cache.
    loaded = load_dataset("imagefolder", data_files=patterns, drop_labels=False, drop_metadata=True, streaming=True)
    return [_image_folder_frame(folder, split, loaded[split]) for split in splits]


def _check_class_folders(folder: Path, splits: Sequence[str]) -> None:
    """Refuse a class without any image: it would be left out, and the numbers of the classes after it would shift."""
    found: dict[str, bool] = {}
    for split in splits:
        for path in (folder / split).iterdir():
            if path.is_dir() and not path.name.startswith("."):
                images = any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.iterdir())
                found[path.name] = found.get(path.name, False) or images
    empty = sorted(name for name, images in found.items() if not images)
    if empty:
        raise ValueError(f"class folders must hold images, got none for {', '.join(empty)} in {folder}. Fill or remove them.")


def _image_folder_frame(folder: Path, split: str, rows: Any) -> Frame:
    values = list(rows.cast_column("image", Image(decode=False)))
    return Frame(
        where=f"{folder}, split `{split}`",
        features=rows.features,
        read=lambda column: [value[column] for value in values],
        place=lambda row: values[row]["image"]["path"],
    )


def _misplaced_image(split: Path) -> Path | None:
    for path in sorted(split.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and len(path.relative_to(split).parts) != 2:
            return path
    return None


def _hub_frames(source: str, splits: Sequence[str]) -> list[Frame]:
    try:
        loaded = load_dataset(source)
    except (OSError, ValueError) as error:  # ConnectionError and "not found" are OSErrors
        raise ConnectionError(
            f"`data.source` {source!r} is no folder here, and cannot be loaded from the Hugging Face hub: "
            f"{str(error).rstrip('.')}. Check the spelling and the network, or download it once and give the local folder."
        ) from error
    assert isinstance(loaded, DatasetDict)
    for split in splits:
        if split not in loaded:
            raise _missing_split(split, f"the hub's {source}", sorted(loaded))
    return [_hub_frame(source, split, loaded[split]) for split in splits]


def _hub_frame(source: str, split: str, rows: Any) -> Frame:
    images = [name for name, feature in rows.features.items() if isinstance(feature, Image)]
    undecoded = rows
    for name in images:
        undecoded = undecoded.cast_column(name, Image(decode=False))
    return Frame(
        where=f"the hub's {source}, split `{split}`",
        features=rows.features,
        read=lambda column: list(undecoded[column]),
        place=lambda row: f"the hub's {source}, split `{split}`, row {row}",
    )
