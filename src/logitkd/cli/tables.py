"""Tables: drawn on a terminal, plain aligned columns in a pipe or file, where nothing is wrapped or cut off."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

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


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print the table to standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        print(plain(columns, rows, right))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column, justify="right" if column in right else "left", no_wrap=column in right or column == columns[0]
        )
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(table)
