"""What an export is by the name of the task; a task that is not here cannot be exported."""

from __future__ import annotations

from typing import Any

from logitkd.exporting.images import Images
from logitkd.exporting.kind import Kind
from logitkd.exporting.masks import Masks
from logitkd.exporting.texts import Texts
from logitkd.runs.config import TrainConfig

__all__ = ["KINDS", "kind_of"]

KINDS: dict[str, Kind] = {"images": Images(), "text": Texts(), "segmentation": Masks()}


def kind_of(record: dict[str, Any]) -> Kind:
    """Return the kind of a run.

    Args:
        record: what its ``config.yaml`` says.

    Raises:
        ValueError: its task has none.
    """
    task = record["run"].get("task", TrainConfig.task)
    if task not in KINDS:
        raise ValueError(f"`export` must be given a run of the task {' or '.join(KINDS)}, got one of the task `{task}`.")
    return KINDS[task]
