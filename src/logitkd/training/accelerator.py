"""Device, precision, trackers and processes (one, for now): the one place that configures accelerate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import ProjectConfiguration

from logitkd.runs.config import TrainConfig
from logitkd.runs.device import resolve_device

__all__ = ["check_one_process", "open_accelerator"]

SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")  # of torchrun; of MPI's launchers


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


def check_one_process() -> None:
    """Refuse a launcher of several processes: each would train the same run in the same folder.

    Raises:
        ValueError: the environment is a launcher's (``torchrun``'s, ``accelerate launch``'s, MPI's), or torch has a group of
            processes.
    """
    given = [f"{name}={os.environ[name]}" for name in SIZES if os.environ.get(name, "1") not in ("", "1")]
    if os.environ.get("LOCAL_RANK"):
        given.append(f"LOCAL_RANK={os.environ['LOCAL_RANK']}")
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        given.append(f"a torch.distributed group of {dist.get_world_size()}")
    if given:
        raise ValueError(
            f"training must be started in one process, got {', '.join(given)}, as launchers set it: several processes are not "
            "supported yet. Start it without `torchrun`, `accelerate launch` or `mpirun`; a variable left behind by one can be "
            "unset."
        )
