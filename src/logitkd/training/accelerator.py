"""Device, precision and trackers: the one place that configures accelerate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import ProjectConfiguration

from logitkd.runs.config import TrainConfig

__all__ = ["open_accelerator", "resolve_device"]


def resolve_device(device: str) -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` means here.

    Raises:
        ValueError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ValueError(f"`device` must be auto, cpu, cuda or cuda:N, got {device!r}.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"`device` must exist, got {device!r}, but torch sees {torch.cuda.device_count()} GPUs. Use `device: auto`."
        )
    return found


@contextmanager
def open_accelerator(config: TrainConfig, folder: Path) -> Iterator[Accelerator]:
    """Yield an accelerator for one run, and leave no trace of it behind.

    Raises:
        ValueError: a tracker is unknown or not installed.
    """
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
        _check_trackers(accelerator, config)
        try:
            yield accelerator
        finally:
            accelerator.end_training()  # trackers write what they hold
    finally:
        if ours:  # accelerate fixes precision and device once a process; the next run here may want others
            os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()


def _check_trackers(accelerator: Accelerator, config: TrainConfig) -> None:
    started = {str(tracker) for tracker in accelerator.log_with}
    missing = [name for name in config.trackers if name not in started]
    if missing:  # accelerate drops them silently
        raise ValueError(f"`trackers` must be installed, but {', '.join(missing)} is not. Try `pip install {missing[0]}`.")
