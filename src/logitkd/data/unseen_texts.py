"""Texts of a person's own: files of one text, tables with the columns that a run read, lines of standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from logitkd.checks import check_path, listed
from logitkd.data.splits import TEXTS
from logitkd.data.utf8 import decode_utf8, is_unicode, read_text

__all__ = ["read_unseen"]

Row = tuple[Any, ...]  # one text, or the two of a pair


class _Source(NamedTuple):
    """Where texts are.

    Args:
        name: of the file; ``-`` for standard input, ``texts`` for texts at hand.
        many: whether it holds a text a row, and not one.
        read: returns the rows.
    """

    name: str
    many: bool
    read: Callable[[], list[Row]]


def read_unseen(
    files: Sequence[str | Path], texts: Sequence[Any] | None, columns: Sequence[str]
) -> tuple[list[tuple[str, int | None]], tuple[list[str], ...]]:
    """Return where each text comes from (a file and, where it holds several, the row, counted from 0), and the texts.

    Args:
        files: paths of texts (``.txt``), of folders of them, and of tables that have ``columns``; ``-`` is standard input, a
            text a line.
        texts: texts at hand in place of files, or pairs of them.
        columns: that the run read: one, or the two of pairs.

    Raises:
        ValueError: there is none, or some cannot be read or are empty; each such file is named.
    """
    if (texts is None) == (not files):
        raise ValueError(f"either `files` or `texts` must be given, got {'neither' if texts is None else 'both'}.")
    places: list[tuple[str, int | None]] = []
    found: list[Row] = []
    problems: list[str] = []
    sources = _sources(files, columns) if texts is None else [_Source("texts", True, partial(_given, texts, columns))]
    for source in sources:
        try:
            rows = source.read()
            _check(source, rows)
        except (OSError, ValueError) as error:
            problems.append(str(error))
            continue
        places += [(source.name, row if source.many else None) for row in range(len(rows))]
        found += rows
    if problems:
        raise ValueError("\n".join([f"`files` must be texts that can be read, got {len(problems)} that cannot:", *problems]))
    return places, tuple([row[number] for row in found] for number in range(len(columns)))


def _sources(files: Sequence[str | Path], columns: Sequence[str]) -> Iterator[_Source]:
    for file in map(str, files):
        path = Path(file)
        if file == "-":
            yield _Source(file, True, partial(_lines, columns))
        elif path.suffix.lower() in TEXTS.tables:
            yield _Source(file, True, partial(_table, path, columns))
        elif path.is_dir():
            inside = sorted(map(str, path.rglob("*.txt")))
            yield from (_Source(name, False, partial(_whole, name, columns)) for name in inside)
            if not inside:
                yield _Source(file, False, partial(_none, file))
        else:
            yield _Source(file, False, partial(_whole, file, columns))


def _none(folder: str) -> list[Row]:
    raise ValueError(f"{folder} must hold texts (.txt) to be read as a folder of them, got none. Name tables one by one.")


def _given(texts: Sequence[Any], columns: Sequence[str]) -> list[Row]:
    """Return texts at hand.

    Raises:
        ValueError: what a single text is, or of other kinds than the run's.
    """
    wanted = "texts" if len(columns) == 1 else f"pairs ({', '.join(columns)})"
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"`texts` must be a list of {wanted}, got one text. Put it into a list.")
    rows = [(text,) if len(columns) == 1 else text for text in texts]
    for number, row in enumerate(rows):
        fits = isinstance(row, (tuple, list)) and len(row) == len(columns)
        if not fits or not all(isinstance(text, str) for text in row):
            raise ValueError(f"`texts` must be {wanted}, as the run was trained on, got {texts[number]!r:.80} in row {number}.")
    return [tuple(row) for row in rows]


def _whole(file: str, columns: Sequence[str]) -> list[Row]:
    """Return the one text that a file is."""
    check_path("files", file)
    if Path(file).suffix.lower() != ".txt":
        raise ValueError(
            f"{file} must be a text (.txt), a table ({', '.join(TEXTS.tables)}), or - for standard input, got another file."
        )
    if len(columns) > 1:
        raise ValueError(
            f"{file} must be a table ({', '.join(TEXTS.tables)}) with the columns {' and '.join(columns)}, as the run was"
            " trained on pairs of texts, got a file of one text."
        )
    return [(read_text(Path(file)),)]


def _lines(columns: Sequence[str]) -> list[Row]:
    """Return the lines of standard input; the texts of a pair have a tab between them."""
    text = decode_utf8(sys.stdin.buffer.read(), "standard input").replace("\r\n", "\n")
    lines = text.removesuffix("\n").split("\n") if text else []  # splitlines() would split at characters of a text, too
    rows = [(line,) if len(columns) == 1 else tuple(line.split("\t")) for line in lines]
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(
                f"lines of standard input must be pairs, {' and '.join(columns)} with a tab between them, got {len(row) - 1}"
                f" tabs in row {number}."
            )
    return rows


def _table(path: Path, columns: Sequence[str]) -> list[Row]:
    """Return the rows of a table."""
    from logitkd.data.columns import text_columns  # `datasets` comes with it
    from logitkd.data.labels import values_of
    from logitkd.data.readers import table_frame

    check_path("files", str(path))
    frame = table_frame(path)
    text_columns(frame, columns, None)
    return list(zip(*(values_of(frame, name) for name in columns), strict=True))


def _check(source: _Source, rows: Sequence[Row]) -> None:
    """Raise ``ValueError`` unless there are texts and none is empty: a network would see the special tokens alone."""
    empty = [number for number, row in enumerate(rows) if not all(text and not text.isspace() for text in row)]
    halves = [number for number, row in enumerate(rows) if any(text and not is_unicode(text) for text in row)]
    if not rows:
        raise ValueError(f"{_named(source.name)} must hold a text, got none.")
    if empty:
        where = f", in {_rows(empty)}" if source.many else ""
        raise ValueError(f"{_named(source.name)} must hold no empty text, got {len(empty)}{where}. Fill or remove them.")
    if halves:
        where = f"{_rows(halves)} of {_named(source.name)}"
        raise ValueError(f"texts must be Unicode, got half of a character (a lone surrogate) in {where}.")


def _rows(numbers: Sequence[int]) -> str:
    return f"row{'s' * (len(numbers) > 1)} {listed(numbers, 5)}"


def _named(name: str) -> str:
    return {"-": "standard input", "texts": "`texts`"}.get(name, name)
