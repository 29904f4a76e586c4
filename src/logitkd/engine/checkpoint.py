"""The state of a run in one file: everything needed to go on exactly where it stood.

One safetensors file holds the tensors (student, optimizer, random generators) and, as JSON in its header, the numbers
(position, accumulators, best so far, elapsed seconds). Being one file, it is replaced by one rename: at every moment
the folder holds either the old state or the new one, whole. No pickle is involved.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from logitkd.engine.files import write_atomic

__all__ = ["FILE", "Progress", "checkpoint_bytes", "load_checkpoint", "save_checkpoint", "student_bytes"]

FILE = "state.safetensors"
FORMAT = "logitkd-checkpoint-1"


@dataclass
class Progress:
    """Where a run stands.

    Args:
        epoch: the epoch in progress, from 1; ``epochs + 1`` when all are done.
        step: steps of that epoch already taken.
        seconds: wall-clock seconds of the run so far, over all its sittings.
        epoch_seconds: seconds of them spent in the epoch in progress.
        sums: sums over the examples seen in this epoch: each term, ``correct``, ``count`` and, where not
            all are, ``labelled``.
        best: best evaluation so far: ``top1`` and ``epoch``.
        last: metrics of the last finished epoch's line.
        metrics_size: bytes of ``metrics.jsonl`` that belong to this state; what lies beyond is from a lost sitting.
        threads: ``torch.get_num_threads()``, as it decides the order of sums on the CPU.
        device: the type of device the state was made on.
    """

    epoch: int = 1
    step: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    metrics_size: int = 0
    threads: int = 0
    device: str = "cpu"


def _detached(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # Cloned, because safetensors refuses tensors that share storage (tied weights).
    return {name: t.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}


def student_bytes(student: nn.Module) -> bytes:
    """Return the plain student's weights as a safetensors file."""
    return save(_detached(student.state_dict()), metadata={"format": "pt"})


def checkpoint_bytes(student: nn.Module, slots: int) -> int:
    """Return about how many bytes a checkpoint takes: weights plus ``slots`` optimizer copies of them."""
    size = sum(t.numel() * t.element_size() for t in student.state_dict().values())
    return size * (1 + slots) + 2**16


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {}
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            elif value is not None:
                raise TypeError(f"cannot checkpoint optimizer state `{name}` of type {type(value).__name__}.")
    return tensors


def _random_tensors(device: torch.device) -> dict[str, Tensor]:
    tensors = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def save_checkpoint(
    folder: Path,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    device: torch.device,
    connectors: nn.Module | None = None,
) -> None:
    """Replace the checkpoint in ``folder`` by the present state; ``connectors`` are what is trained beside the student.

    Raises:
        OSError: it could not be written; the previous checkpoint is untouched.
    """
    tensors = {f"student.{name}": tensor for name, tensor in student.state_dict().items()}
    if connectors is not None:
        tensors |= {f"connectors.{name}": tensor for name, tensor in connectors.state_dict().items()}
    tensors |= _optimizer_tensors(optimizer) | _random_tensors(device)
    metadata = {"format": FORMAT, "progress": json.dumps(asdict(progress))}
    content = save(_detached(tensors), metadata=metadata)
    folder.mkdir(exist_ok=True)
    write_atomic(folder / FILE, content)


def load_checkpoint(
    folder: Path,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    connectors: nn.Module | None = None,
) -> Progress | None:
    """Restore student, connectors, optimizer and random generators from ``folder``; ``None`` when it holds no checkpoint.

    Raises:
        ValueError: the file is damaged or does not belong to this student.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"the checkpoint {path} is damaged ({error}). Delete it to start the run again.") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this version of logitkd. Delete it to start the run again.")

    for role, module in (("student", student), ("connectors", connectors)):
        weights = {name.removeprefix(f"{role}."): t for name, t in tensors.items() if name.startswith(f"{role}.")}
        try:
            if module is not None:
                module.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"the checkpoint {path} does not fit the {role}: {error}") from error
    _restore_optimizer(optimizer, tensors)
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
    return Progress(**json.loads(metadata["progress"]))


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            like = parameters[int(index)]
            if tensor.shape == like.shape:  # the parameter's memory format, as in the run that was interrupted
                tensor = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
