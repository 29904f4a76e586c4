"""Where labelled images are kept: a local folder of parquet files, an image folder, or a Hugging Face hub id.

A source is read into a ``Frame`` per split: typed columns of values nobody has decoded yet, and a name for every row,
so that whatever is wrong with a row can be said with its file.
"""

from __future__ import annotations

import glob
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DatasetDict, Features, Image, load_dataset
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from logitkd.data.encoded import Column

__all__ = ["Frame", "check_absent", "read_frames"]

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
        column: column name -> the same values, read one at a time, by several processes too.
        place: row -> where it is kept, for messages about it.
    """

    where: str
    features: Mapping[str, Any]
    read: Callable[[str], list[Any]]
    column: Callable[[str], Column]
    place: Callable[[int], str]


@dataclass(frozen=True)
class ArrowColumn:
    """A column in memory as Arrow keeps it: no Python object a row, so that worker processes share its memory.

    Args:
        values: the whole column.
    """

    values: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int) -> Any:
        return self.values[row].as_py()


@dataclass(frozen=True)
class HubColumn:
    """A column of a hub data set, which `datasets` maps from its files on disk.

    Args:
        rows: that column alone, not decoded.
        name: the column's.
    """

    rows: Any
    name: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self.rows[row][self.name]


def read_frames(source: str, splits: Sequence[str], absent: str | None = None, *, unlabelled: bool = False) -> list[Frame]:
    """Return the frames of the named splits.

    Args:
        source: a folder or a hub id.
        splits: their names.
        absent: a split that is to be made out of the first one, so must not be there. A folder of class folders then
            is one split, whatever its name.
        unlabelled: whether the images of an image folder's first split may lie in no class folder; where one does not, the
            frame has all images under that folder and no labels.

    Raises:
        FileNotFoundError: no such source.
        ValueError: no such split (the message lists those there are), ``absent`` is there, or a file that cannot be read.
        ConnectionError: a hub id that cannot be reached.
    """
    folder = Path(source).expanduser()  # a shell expands ~, a recipe does not
    if folder.is_dir():
        if any(folder.glob("*.parquet")):
            shards = _parquet_shards(folder)
            check_absent(absent, str(folder), shards)
            return [_parquet_frame(folder, split, shards) for split in splits]
        return _image_folder_frames(folder, _split_folders(folder, splits, absent), unlabelled)
    if folder.exists():
        raise ValueError(f"`data.source` must be a folder, got the file {source}. Give the folder it is in.")
    if HUB_ID.fullmatch(source):
        return _hub_frames(source, splits, absent)
    raise FileNotFoundError(
        f"`data.source` must be `digits`, an existing folder, or a hub id `owner/name`, got {source!r}: "
        "there is no such folder."
    )


def check_absent(split: str | None, where: str, known: Iterable[str]) -> None:
    """Raise ``ValueError`` where the evaluation ``split`` to be made out of the training images is there already."""
    if split is not None and split in known:
        raise ValueError(
            f"`data.eval_fraction` must be left out where there is an evaluation split, and {where} has `{split}`. To leave "
            "that one untouched and hold out training images all the same, give another name as `data.eval_split`."
        )


def _missing_split(split: str, where: str, known: Sequence[str]) -> ValueError:
    return ValueError(
        f"there is no split `{split}` in {where}. Splits there: {', '.join(known) or 'none'}. Name them with "
        "`data.train_split` and `data.eval_split`. For one split only, evaluated on a share of it, give `data.eval_fraction`."
    )


def _parquet_shards(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each split, in order."""
    shards: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        match = SHARD.fullmatch(path.stem)
        assert match is not None  # any name is at least a split
        shards.setdefault(match["split"], []).append(path)
    return shards


def _parquet_frame(folder: Path, split: str, shards: Mapping[str, list[Path]]) -> Frame:
    # Read by pyarrow and typed by `datasets`: load_dataset("parquet") would first copy every file into its cache, and a
    # row of the copy no longer knows its file.
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

    def column(name: str) -> ArrowColumn:
        chunks: list[pa.Array] = []
        for path, table in zip(paths, tables, strict=True):
            try:
                chunks += table.read(columns=[name])[name].chunks
            except (OSError, pa.ArrowException) as error:
                raise ValueError(f"cannot read column `{name}` of {path}: {error}") from error
        return ArrowColumn(pa.chunked_array(chunks, type=tables[0].schema_arrow.field(name).type))

    def place(row: int) -> str:
        shard = bisect_right(ends, row)
        return f"{paths[shard]}, row {row - (ends[shard - 1] if shard else 0)}"

    return Frame(f"{folder}, split `{split}`", features, lambda name: column(name).values.to_pylist(), column, place)


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


def _split_folders(folder: Path, splits: Sequence[str], absent: str | None) -> dict[str, Path]:
    """Return the folder of each split; one whose class folders lie directly in it is the training split itself."""
    known = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if absent is not None and splits[0] not in known and _has_images(folder):
        return {splits[0]: folder}
    check_absent(absent, str(folder), known)
    for split in splits:
        if split not in known:
            raise _missing_split(split, f"{folder} (which has no parquet files, so each sub-folder is a split)", known)
    return {split: folder / split for split in splits}


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.glob("*/*"))


def _image_folder_frames(folder: Path, splits: Mapping[str, Path], unlabelled: bool) -> list[Frame]:
    first, *others = splits
    if unlabelled and others and _misplaced_image(splits[first]):
        labelled = _image_folder_frames(folder, {split: splits[split] for split in others}, unlabelled=False)
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
    return [_image_folder_frame(folder, split, loaded[split]) for split in splits]


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


def _image_folder_frame(folder: Path, split: str, rows: Any) -> Frame:
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


def _hub_frames(source: str, splits: Sequence[str], absent: str | None) -> list[Frame]:
    try:
        loaded = load_dataset(source)
    except (OSError, ValueError) as error:  # ConnectionError and "not found" are OSErrors
        raise ConnectionError(
            f"`data.source` {source!r} is no folder here, and cannot be loaded from the Hugging Face hub: "
            f"{str(error).rstrip('.')}. Check the spelling and the network, or download it once and give the local folder."
        ) from error
    assert isinstance(loaded, DatasetDict)
    check_absent(absent, f"the hub's {source}", loaded)
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
        read=lambda name: list(undecoded[name]),
        column=lambda name: HubColumn(undecoded.select_columns([name]), name),
        place=lambda row: f"the hub's {source}, split `{split}`, row {row}",
    )
