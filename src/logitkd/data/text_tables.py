"""Tables kept as text: csv, tsv and json lines, read strictly, so that what is damaged is named and nothing is guessed.

Python's own readers take a file as it stands. Those of `datasets` (pandas and pyarrow) guess types a piece of the file at a
time, take a text such as ``NA`` for a missing one, let broken quotes swallow rows, and no longer know a row's line.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Value

from logitkd.checks import listed, shown
from logitkd.data.frames import Frame, Mixed, file_and_row
from logitkd.data.utf8 import read_utf8

__all__ = ["READERS", "text_table_frame"]

INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # as a program writes it, in 64 bits; 01 and +1 are names
NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?(inf|nan)", re.IGNORECASE)
LONGEST = 2**31 - 1  # characters of a field: csv's own limit is 131,072
WORDS = {str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "an object"}


class _Table(NamedTuple):
    """A file of rows.

    Args:
        columns: the values of each column, ``None`` where one is missing.
        lines: where in the file each row begins, from 1; of a list in one piece, nothing.
        typed: whether a number is told from the same as text.
    """

    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int]
    typed: bool


def text_table_frame(folder: Path, split: str, paths: Sequence[Path]) -> Frame:
    """Return the frame of a split kept in files of one format.

    A column of json has the type of its values. One of csv is of integers or of numbers if all its values are, over all files,
    and else of strings; what is empty is missing.

    Raises:
        ValueError: a file that is not UTF-8, broken quotes, a row of other length than the header, a line that is no JSON
            object, or files of other columns; file and line are named.
    """
    tables = [READERS[path.suffix.lower()](path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if set(table.columns) != set(tables[0].columns):
            raise ValueError(f"{path} has other columns than {paths[0]}: the files of a split must agree.")
    if not tables[0].columns:
        raise ValueError(f"{folder}, split `{split}` is empty: it has no rows.")
    find = file_and_row([len(next(iter(table.columns.values()))) for table in tables])

    def place(row: int) -> str:
        file, number = find(row)
        lines = tables[file].lines
        return f"{paths[file]}, row {number}" + (f" (line {lines[number]})" if lines else "")

    columns = {}
    for name in tables[0].columns:
        values = [value for table in tables for value in table.columns[name]]
        columns[name] = values if tables[0].typed else _numbers(values)
    return Frame(
        where=f"{folder}, split `{split}`",
        features={name: _type(values, place) for name, values in columns.items()},
        read=columns.__getitem__,
        column=columns.__getitem__,
        place=place,
    )


def _type(values: Sequence[Any], place: Callable[[int], str]) -> Any:
    """Return the type of a column's values; where several differ, the first of each is named."""
    kinds = dict.fromkeys(type(value) for value in values if value is not None)
    if set(kinds) <= {str}:
        return Value("string")
    if set(kinds) <= {int, float}:
        return Value("float64" if float in kinds else "int64")
    if set(kinds) == {bool}:
        return Value("bool")
    firsts = (next(row for row, value in enumerate(values) if type(value) is kind) for kind in kinds)
    return Mixed(" and ".join(f"{WORDS[type(values[row])]} in {place(row)}" for row in firsts))


def _numbers(texts: Sequence[str]) -> list[Any]:
    """Return a column of text, as numbers if all are some; what is empty is missing."""
    there = [text for text in texts if text]
    kind: Callable[[str], Any] = str
    if there and all(map(INTEGER.fullmatch, there)):
        kind = int
    elif there and all(map(NUMBER.fullmatch, there)):
        kind = float
    return [kind(text) if text else None for text in texts]


def _read_csv(path: Path, delimiter: str) -> _Table:
    rows: list[list[str]] = []
    lines: list[int] = []
    start = 1
    with _fields_of_any_length():
        reader = csv.reader(io.StringIO(read_utf8(path), newline=""), delimiter=delimiter, strict=True)
        try:
            for row in reader:
                if row:  # not a line of nothing
                    rows.append(row)
                    lines.append(start)
                start = reader.line_num + 1
        except csv.Error as error:
            raise ValueError(
                f'{path} has broken quotes in the row that begins in line {start}: {error}. A field in quotes ("...") must be'
                ' followed by a separator or the end of the line, and a quote inside one is written twice ("").'
            ) from error
    if delimiter == "\t":
        _check_no_rows_inside(path, rows, lines)
    header, *rows = rows or [[]]
    if len(set(header)) < len(header):
        raise ValueError(f"{path} must have a header of different names, got {shown(header)}.")
    for row, line in zip(rows, lines[1:], strict=True):
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {line} must have {len(header)} fields as the header has ({listed(header)}), got {len(row)}. A"
                " separator inside a field needs quotes around the field."
            )
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return _Table(dict(zip(header, columns, strict=True)), lines[1:], typed=False)


def _check_no_rows_inside(path: Path, rows: Sequence[Sequence[str]], lines: Sequence[int]) -> None:
    """Refuse a field that has swallowed rows: one begins with a quote that is text, and a later one ends with one.

    A tab and a line end in one field are hardly ever meant; a comma and a line end of csv are.
    """
    for row, line in zip(rows, lines, strict=True):
        if any("\t" in field and "\n" in field for field in row):
            raise ValueError(
                f"{path} has broken quotes in the row that begins in line {line}: a field in quotes holds a tab and a line end,"
                " so it is probably several rows. A field that begins with a quote must be in quotes as a whole, each quote"
                ' inside it written twice ("").'
            )


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_json(path: Path) -> _Table:
    text = read_utf8(path)
    rows: list[Any] = []
    lines: list[int] = []
    where = str(path)
    try:
        if text.lstrip().startswith("["):
            rows = json.loads(text, object_pairs_hook=_object)
        else:
            for number, line in enumerate(text.split("\n"), 1):  # splitlines() would split at characters of a text, too
                if line.strip():
                    where = f"{path}, line {number}"
                    rows.append(json.loads(line, object_pairs_hook=_object))
                    lines.append(number)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where} is no JSON: {error}. A row is an object in a line of its own; a file may also be one list of objects."
        ) from error
    for row, value in enumerate(rows):
        if not isinstance(value, dict):
            where = f"line {lines[row]}" if lines else f"row {row}"
            raise ValueError(
                f'{path}, {where} must be an object such as {{"text": ..., "label": ...}}, got {shown(value, 60)}.'
            )
    names = dict.fromkeys(name for row in rows for name in row)
    return _Table({name: [row.get(name) for row in rows] for name in names}, lines, typed=True)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))
        raise ValueError(f"the key {shown(twice)} is there twice")
    return found


READERS: dict[str, Callable[[Path], _Table]] = {
    ".csv": partial(_read_csv, delimiter=","),
    ".tsv": partial(_read_csv, delimiter="\t"),
    ".jsonl": _read_json,
    ".json": _read_json,
}
