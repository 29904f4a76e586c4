"""What ``logitkd predict`` prints: classes and probabilities of images and texts, as CSV or a JSON object a line."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logitkd.prediction import Prediction

__all__ = ["show_predictions"]


def show_predictions(found: Sequence[Prediction], form: str) -> None:
    """Print to standard output.

    Args:
        found: a prediction an image or text.
        form: ``csv`` or ``json``.
    """
    {"csv": _as_csv, "json": _as_json}[form](found)


def _as_csv(found: Sequence[Prediction]) -> None:
    lines = csv.writer(sys.stdout, lineterminator="\n")
    rows = any(one.row is not None for one in found)  # images and files of one text have none
    lines.writerow(["file", *["row"] * rows, "rank", "class", "probability"])
    for one in found:
        place = [one.file, *[one.row] * rows]
        for rank, (name, probability) in enumerate(zip(one.classes, one.probabilities, strict=True), start=1):
            lines.writerow([*place, rank, name, f"{probability:.6g}"])


def _as_json(found: Sequence[Prediction]) -> None:
    for one in found:
        shares = [float(f"{probability:.6g}") for probability in one.probabilities]
        row = {} if one.row is None else {"row": one.row}
        print(json.dumps({"file": one.file, **row, "classes": one.classes, "probabilities": shares}, ensure_ascii=False))
