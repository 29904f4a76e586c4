"""The state of a run in one file: everything needed to go on exactly where it stood.

One safetensors file holds the tensors (student, optimizer, torch's random generators) and, in its header, as JSON the
numbers (position, accumulators, best so far, elapsed seconds), the other generators, and a hash of the whole file. Being
one file, it is replaced by one rename: at every moment the folder holds either the old state or the new one, whole. No
pickle is involved.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from logitkd.files import write_atomic
from logitkd.runs.folder import STATE as FILE
from logitkd.training.generators import Generators

__all__ = [
    "FILE",
    "Kept",
    "Progress",
    "checkpoint_bytes",
    "load_checkpoint",
    "save_checkpoint",
    "student_bytes",
]

FORMAT = "logitkd-checkpoint-2"
UNSEALED = "logitkd-checkpoint-1"  # of earlier versions: without a hash, transient buffers, Python's and numpy's generators
BLANK = b'"sha256":"' + b"0" * 64  # in the header, until the hash takes the zeros' place


@dataclass
class Progress:
    """Where a run stands.

    Args:
        epoch: the epoch in progress, from 1; ``epochs + 1`` when all are done.
        step: steps of that epoch already taken.
        seconds: wall-clock seconds of the run so far, over all its sittings.
        epoch_seconds: seconds of them spent in the epoch in progress.
        sums: over the examples seen in this epoch: each term's sum and mass, see ``StepLog``.
        best: best evaluation so far: its headline, ``epoch`` and ``split``.
        last: metrics of the last finished epoch's line.
        metrics_size: bytes of ``metrics.jsonl`` that belong to this state; what lies beyond is from a lost sitting.
        metrics_sha256: hash of these bytes; empty where an earlier version kept none.
        threads: ``torch.get_num_threads()``, as it decides the order of sums on the CPU.
        device: the type of device the state was made on.
    """

    epoch: int = 1
    step: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    sums: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    metrics_size: int = 0
    metrics_sha256: str = ""
    threads: int = 0
    device: str = "cpu"


def _detached(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # Cloned, because safetensors refuses tensors that share storage (tied weights).
    return {name: t.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}


def student_bytes(student: nn.Module) -> bytes:
    """Return the plain student's weights as a safetensors file."""
    return save(_detached(student.state_dict()), metadata={"format": "pt"})


def checkpoint_bytes(modules: Mapping[str, nn.Module], slots: int) -> int:
    """Return about how many bytes a checkpoint takes: weights, buffers, and ``slots`` optimizer copies of the weights."""
    weights = sum(t.numel() * t.element_size() for module in modules.values() for t in module.state_dict().values())
    buffers = sum(t.numel() * t.element_size() for module in modules.values() for t in transient_buffers(module).values())
    return weights * (1 + slots) + buffers + 2**17


def transient_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers of ``module`` that its ``state_dict`` leaves out: going on exactly needs them all the same."""
    kept = module.state_dict()
    return {name: buffer for name, buffer in module.named_buffers() if name not in kept}


def put_buffers(module: nn.Module, present: dict[str, Tensor], buffers: dict[str, Tensor]) -> None:
    """Give buffers of ``module`` the values that they had.

    Args:
        module: whose they are.
        present: those meant, as they are.
        buffers: as they were; one that is left out was none.

    Raises:
        AttributeError: a name leads to no buffer.
    """
    for name in present.keys() | buffers.keys():
        path, _, attribute = name.rpartition(".")
        owner, old, new = module.get_submodule(path), present.get(name), buffers.get(name)
        if attribute not in owner._buffers:
            raise AttributeError(f"`{name}` is no buffer")
        if old is not None and new is not None and (old.shape, old.dtype) == (new.shape, new.dtype):
            if not torch.equal(old, new.to(old.device)):  # a constant may be a view that cannot be written
                with torch.no_grad():
                    old.copy_(new)  # in place: something else may hold it
        else:  # made or reshaped during a forward pass
            where = old if old is not None else next(module.parameters(), torch.empty(0))
            setattr(owner, attribute, None if new is None else new.to(where.device))


@dataclass(frozen=True)
class Kept:
    """What a forward pass in evaluation mode may change: the buffers, and where the random generators stand."""

    buffers: dict[str, Tensor]
    generators: Generators

    @classmethod
    def now(cls, module: nn.Module, device: torch.device) -> Kept:
        """Copy what there is now."""
        return cls({name: buffer.detach().clone() for name, buffer in module.named_buffers()}, Generators.now(device))

    def restore(self, module: nn.Module, device: torch.device) -> None:
        """Put it back."""
        put_buffers(module, dict(module.named_buffers()), self.buffers)
        self.generators.restore(device)


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {}
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            elif value is not None:
                raise TypeError(f"cannot checkpoint optimizer state `{name}` of type {type(value).__name__}.")
    return tensors


def save_checkpoint(
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    device: torch.device,
) -> None:
    """Replace the checkpoint in ``folder`` by the present state; ``modules`` are the student and what a pair has beside it.

    Raises:
        OSError: it could not be written; the previous checkpoint is untouched.
    """
    generators = Generators.now(device)
    tensors = _optimizer_tensors(optimizer) | generators.tensors
    for role, module in modules.items():
        tensors |= {f"{role}.{name}": tensor for name, tensor in module.state_dict().items()}
        tensors |= {f"transient.{role}.{name}": tensor for name, tensor in transient_buffers(module).items()}
    metadata = {"format": FORMAT, "progress": json.dumps(asdict(progress)), "generators": generators.others}
    content = bytearray(save(_detached(tensors), metadata={**metadata, "sha256": "0" * 64}))
    digest = hashlib.sha256(content).hexdigest().encode()
    start = content.index(BLANK) + len(BLANK) - 64
    content[start : start + 64] = digest
    folder.mkdir(exist_ok=True)
    write_atomic(folder / FILE, content)


def load_checkpoint(
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> Progress | None:
    """Restore the modules, optimizer and random generators from ``folder``; ``None`` when it holds no checkpoint.

    Warns where an earlier version wrote the file, which kept less.

    Raises:
        ValueError: the file is damaged, was changed, or does not belong to this student.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(_damaged(path, error)) from error
    sealed = metadata.get("format") != UNSEALED
    if sealed and metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this version of logitkd. Delete it to start the run again.")
    if sealed:
        _check_hash(path, metadata)
    else:
        warnings.warn(
            f"{path} was written by an earlier version of logitkd: it has no hash to be checked by, and nothing of buffers "
            "outside the state dict, of Python's and of numpy's random generators. A network that uses those goes on close to "
            "where it stood, not exactly there.",
            stacklevel=2,
        )
    for role, module in modules.items():
        try:
            module.load_state_dict(_under(f"{role}.", tensors))
            if sealed:
                put_buffers(module, transient_buffers(module), _under(f"transient.{role}.", tensors))
        except (RuntimeError, AttributeError) as error:
            raise ValueError(f"the checkpoint {path} does not fit the {role}: {error}") from error
    with _reading(path):
        _restore_optimizer(optimizer, tensors)
        Generators(tensors, metadata.get("generators", "")).restore(device)
        return _progress(json.loads(metadata["progress"]))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _damaged(path: Path, why: object) -> str:
    return f"the checkpoint {path} is damaged ({why}). Delete it to start the run again, or put a sound copy in its place."


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say which file it was where something inside the block is not what a run writes."""
    try:
        yield
    except Exception as error:  # an edited file makes its readers fail in any way: KeyError, IndexError, RecursionError ...
        raise ValueError(_damaged(path, f"{type(error).__name__}: {error}")) from error


def _check_hash(path: Path, metadata: dict[str, str]) -> None:
    """Raise ``ValueError`` unless the file's bytes have the hash that is among them."""
    content = bytearray(path.read_bytes())
    given = metadata.get("sha256", "").encode()
    start = content.find(BLANK[:10] + given)
    if len(given) == 64 and start >= 0:
        content[start : start + len(BLANK)] = BLANK
        if hashlib.sha256(content).hexdigest().encode() == given:
            return
    raise ValueError(_damaged(path, "its bytes do not have the hash in its header: a bit has flipped, or it was edited"))


def _progress(numbers: dict[str, Any]) -> Progress:
    """Return the progress that a checkpoint's JSON says.

    Raises:
        Exception: of whatever kind, where it says none.
    """
    progress = Progress(**numbers)
    for one in fields(Progress):
        kind, value = type(getattr(Progress(), one.name)), getattr(progress, one.name)
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise TypeError(f"`{one.name}` must be {kind.__name__}, got {type(value).__name__}")
    if progress.epoch < 1 or min(progress.step, progress.metrics_size) < 0:
        raise ValueError(f"epoch {progress.epoch}, step {progress.step}, {progress.metrics_size} bytes of metrics")
    return progress


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            like = parameters[int(index)]
            if tensor.shape == like.shape:  # the parameter's memory format, as in the run that was interrupted
                tensor = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
            elif tensor.ndim:
                raise ValueError(f"`{key}` is {tuple(tensor.shape)}, its parameter {tuple(like.shape)}")
            state.setdefault(int(index), {})[name] = tensor
    if len({frozenset(slots) for slots in state.values()}) > 1:
        raise ValueError("some parameters lack a part of the optimizer's state that others have")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
