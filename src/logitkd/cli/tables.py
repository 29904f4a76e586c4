"""Tables: drawn on a terminal, plain aligned columns in a pipe or file, where no row is broken and nothing cut off."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from logitkd.cli.pages import IN_A_PIPE

__all__ = ["plain", "show"]


def plain(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Return the table as text, columns two spaces apart, those named in ``right`` flush right.

    >>> print(plain(["method", "top-1"], [["ce", "9.5"], ["kd", "10.0"]], right=["top-1"]))
    method  top-1
    ce        9.5
    kd       10.0
    """
    widths = [max(len(line[i]) for line in [columns, *rows]) for i in range(len(columns))]

    def cell(text: str, width: int, column: str) -> str:
        return text.rjust(width) if column in right else text.ljust(width)

    lines = ["  ".join(map(cell, line, widths, columns)).rstrip() for line in [columns, *rows]]
    return "\n".join(lines)


def wrapped(columns: Sequence[str], rows: Sequence[Sequence[str]], most: int) -> list[list[str]]:
    """Return the rows, the last cell of each going on in rows of its own where the table would be wider than ``most``.

    >>> wrapped(["option", "meaning"], [["top_k", "size of the top group"]], 20)
    [['top_k', 'size of the'], ['', 'top group']]
    """
    left = sum(max(len(line[i]) for line in [columns, *rows]) + 2 for i in range(len(columns) - 1))
    done = []
    for row in rows:
        first, *more = textwrap.wrap(row[-1], max(most - left, 10)) or [""]
        done += [[*row[:-1], first], *([""] * (len(row) - 1) + [line] for line in more)]
    return done


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = (), *, prose: bool = False) -> None:
    """Print the table to standard output; ``prose`` says that the last column holds sentences, which may be wrapped."""
    console = Console(highlight=False)
    if not console.is_terminal:
        print(plain(columns, wrapped(columns, rows, IN_A_PIPE) if prose else rows, right))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column, justify="right" if column in right else "left", no_wrap=column in right or column == columns[0]
        )
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(table)
