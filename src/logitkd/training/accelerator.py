"""Device, precision and trackers: the one place that configures accelerate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import ProjectConfiguration

from logitkd.runs.config import TrainConfig
from logitkd.runs.device import resolve_device

__all__ = ["open_accelerator"]


@contextmanager
def open_accelerator(config: TrainConfig, folder: Path) -> Iterator[Accelerator]:
    """Yield an accelerator for one run, and leave no trace of it behind."""
    device = resolve_device(config.device)
    ours = not PartialState._shared_state
    if ours and device.type == "cuda" and device.index is not None:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    try:
        accelerator = Accelerator(
            mixed_precision={"float32": "no", "bfloat16": "bf16"}[config.precision],
            cpu=device.type == "cpu",
            log_with=list(config.trackers) or None,
            project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)),
        )
        try:
            yield accelerator
        finally:
            accelerator.end_training()  # trackers write what they hold
    finally:
        if ours:  # accelerate fixes precision and device once a process; the next run here may want others
            os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
