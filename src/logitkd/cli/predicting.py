"""What ``logitkd predict`` prints: classes and probabilities of image files, as CSV or a JSON object a line."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from logitkd.prediction import Prediction

__all__ = ["PredictFlags", "show_predictions"]


@dataclass(frozen=True)
class PredictFlags:
    """What ``logitkd predict`` can be told.

    Args:
        format: csv, a line a class with a header, or json, an object a line for each image.
        top: so many classes of each image, the most probable first.
        batch_size: images at a time; changes memory and speed only.
        device: auto, cpu, cuda or cuda:N.
        trust_code: also import a package.module:callable that the run folder names from that folder; by default only from
            elsewhere.
    """

    format: Literal["csv", "json"] = "csv"
    top: int = 1
    batch_size: int = 256
    device: str = "auto"
    trust_code: bool = False


def show_predictions(found: Sequence[Prediction], form: str) -> None:
    """Print to standard output.

    Args:
        found: a prediction an image.
        form: ``csv`` or ``json``.
    """
    {"csv": _as_csv, "json": _as_json}[form](found)


def _as_csv(found: Sequence[Prediction]) -> None:
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(["file", "rank", "class", "probability"])
    for one in found:
        for rank, (name, probability) in enumerate(zip(one.classes, one.probabilities, strict=True), start=1):
            lines.writerow([one.file, rank, name, f"{probability:.6g}"])


def _as_json(found: Sequence[Prediction]) -> None:
    for one in found:
        shares = [float(f"{probability:.6g}") for probability in one.probabilities]
        print(json.dumps({"file": one.file, "classes": one.classes, "probabilities": shares}, ensure_ascii=False))
