"""What ``logitkd predict`` prints of images and texts, as CSV or a JSON object a line."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logitkd.tasks.answers import Answer

__all__ = ["show_predictions"]


def show_predictions(found: Sequence[Answer], form: str) -> None:
    """Print to standard output.

    Args:
        found: a prediction an image or text.
        form: ``csv`` or ``json``.
    """
    {"csv": _as_csv, "json": _as_json}[form](found)


def _as_csv(found: Sequence[Answer]) -> None:
    rows = [row for one in found for row in one.rows()]
    columns = max(rows, key=len, default={})  # a file of one text has no row, one of several has
    lines = csv.DictWriter(sys.stdout, list(columns), restval="", lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)


def _as_json(found: Sequence[Answer]) -> None:
    for one in found:
        print(json.dumps(one.record(), ensure_ascii=False))
