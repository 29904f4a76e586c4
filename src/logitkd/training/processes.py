"""How many processes a run is started in: one, for now."""

from __future__ import annotations

import os

import torch.distributed as dist

__all__ = ["check_one_process"]

SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")  # of torchrun; of MPI's launchers


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
