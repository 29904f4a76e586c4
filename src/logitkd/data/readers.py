"""Where labelled examples are kept: a local folder of tables or of class folders, or a Hugging Face hub id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import (
    DatasetDict,
    Features,
    Image,
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    get_dataset_config_names,
    load_dataset,
)

from logitkd.checks import listed, suggest
from logitkd.data.class_folders import class_folder_frames
from logitkd.data.frames import ArrowColumn, Frame, HubColumn, file_and_row
from logitkd.data.image_folder import IMAGE_FILES
from logitkd.data.splits import IMAGES, SHARD, TEXTS, Kind, check_splits, find_folder, split_tables
from logitkd.data.text_folder import TEXT_FILES
from logitkd.data.text_tables import READERS as TEXT_TABLES
from logitkd.data.text_tables import text_table_frame

__all__ = ["read_frames", "table_frame"]

FILES = {IMAGES: IMAGE_FILES, TEXTS: TEXT_FILES}


def read_frames(
    source: str,
    splits: Sequence[str],
    absent: str | None = None,
    *,
    unlabelled: bool = False,
    kind: Kind = IMAGES,
    subset: str | None = None,
) -> list[Frame]:
    """Return the frames of the named splits.

    Args:
        source: a folder or a hub id.
        splits: their names.
        absent: a split that is to be made out of the first one, so must not be there. A folder of class folders then
            is one split, whatever its name.
        unlabelled: whether the examples of the first split may lie in no class folder; where one does not, the frame has all
            examples under that folder and no labels.
        kind: of the examples.
        subset: of a hub id that has several.

    Raises:
        FileNotFoundError: no such source.
        ValueError: no such split (the message lists those there are), ``absent`` is there, or a file that cannot be read.
        ConnectionError: a hub id that cannot be reached.
    """
    folder = find_folder(source, kind)
    if folder is None:
        return _hub_frames(source, splits, absent, kind, subset)
    tables = split_tables(folder, splits, absent, kind)
    if tables is None:
        return class_folder_frames(folder, splits, absent, unlabelled, FILES[kind])
    found = list(zip(splits, tables, strict=True))
    for split, paths in found:
        _check_shards(folder, split, paths)
    return [TABLES[paths[0].suffix](folder, split, paths) for split, paths in found]


def _parquet_frame(folder: Path, split: str, paths: Sequence[Path]) -> Frame:
    # Read by pyarrow and typed by `datasets`: load_dataset("parquet") would first copy every file into its cache, and a
    # row of the copy no longer knows its file.
    tables = [_open_parquet(path) for path in paths]
    features = Features.from_arrow_schema(tables[0].schema_arrow)
    for path, table in zip(paths, tables, strict=True):
        if Features.from_arrow_schema(table.schema_arrow) != features:
            raise ValueError(f"{path} has other columns than {paths[0]}: the files of a split must agree.")
    find = file_and_row([table.metadata.num_rows for table in tables])

    def column(name: str) -> ArrowColumn:
        chunks: list[pa.Array] = []
        for path, table in zip(paths, tables, strict=True):
            try:
                chunks += table.read(columns=[name])[name].chunks
            except (OSError, pa.ArrowException) as error:
                raise ValueError(f"cannot read column `{name}` of {path}: {error}") from error
        return ArrowColumn(pa.chunked_array(chunks, type=tables[0].schema_arrow.field(name).type))

    def place(row: int) -> str:
        file, number = find(row)
        return f"{paths[file]}, row {number}"

    return Frame(f"{folder}, split `{split}`", features, lambda name: column(name).to_list(), column, place)


TABLES = dict.fromkeys(TEXT_TABLES, text_table_frame) | {".parquet": _parquet_frame}


def table_frame(path: Path) -> Frame:
    """Return the frame of one file of any name; raises as :func:`read_frames`."""
    return replace(TABLES[path.suffix.lower()](path.parent, path.name, [path]), where=str(path))


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} is not a readable parquet file: {error}") from error


def _check_shards(folder: Path, split: str, paths: Sequence[Path]) -> None:
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


def _hub_frames(
    source: str, splits: Sequence[str], absent: str | None, kind: Kind = IMAGES, subset: str | None = None
) -> list[Frame]:
    try:
        with _no_progress_bars():
            loaded = load_dataset(source) if subset is None else load_dataset(source, subset)
    except (OSError, ValueError) as error:  # ConnectionError and "not found" are OSErrors
        if kind.subsets and isinstance(error, ValueError):
            _check_subset(source, subset)
        raise ConnectionError(
            f"`data.source` {source!r} is no folder here, and cannot be loaded from the Hugging Face hub: "
            f"{str(error).rstrip('.')}. Check the spelling and the network, or download it once and give the local folder."
        ) from error
    assert isinstance(loaded, DatasetDict)
    check_splits(splits, absent, f"the hub's {source}", loaded, kind)
    return [_hub_frame(source, split, loaded[split]) for split in splits]


def _check_subset(source: str, subset: str | None) -> None:
    """Raise ``ValueError`` where a hub id has several subsets, and not the one that was asked for."""
    try:
        names = get_dataset_config_names(source)
    except (OSError, ValueError):  # it is something else
        return
    if subset not in names:
        raise ValueError(
            f"`data.subset` must be one of the subsets of the hub's {source}, {listed(names, 20)}, got {subset!r}."
            f"{suggest(subset or '', names)}"
        ) from None


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep the bars of `datasets` off the terminal inside the block: there is one bar, the run's."""
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


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
