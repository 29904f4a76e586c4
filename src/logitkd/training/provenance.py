"""What ``config.yaml`` says about a run beyond its settings: versions, commit, data, weights and the networks' code."""

from __future__ import annotations

import hashlib
import inspect
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from logitkd.hashes import remembered
from logitkd.models import parameter_count, read_name
from logitkd.reach import Ensemble, Teacher
from logitkd.runs.config import TrainConfig
from logitkd.runs.folder import STUDENT
from logitkd.runs.networks import ModelConfig, TeacherConfig
from logitkd.tasks.task import Task

__all__ = ["commit", "input_record", "same_files", "source_record", "versions", "weights_fingerprint"]

STANDARD = Path(sysconfig.get_paths()["stdlib"]).resolve()
PACKAGES = ("logitkd", "torch", "torchvision", "timm", "accelerate", "datasets", "torchmetrics", "numpy", "pillow")


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of Python and of every package that can change a number; ``more`` of them are a task's own."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *more):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str | None:
    """Return the working folder's git commit, ``+changes`` added when files differ from it; none outside git."""
    try:
        run = [
            subprocess.run(["git", *command], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return run[0] + ("+changes" if run[1] else "")


def weights_fingerprint(model: nn.Module) -> str:
    """Return a hash of every parameter and buffer, name and value."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def model_record(model: nn.Module, *, weights: bool) -> dict[str, Any]:
    """Return a model's parameter count and, if asked, its weights' fingerprint."""
    record: dict[str, Any] = {"parameters": parameter_count(model)}
    if weights:
        record["weights"] = weights_fingerprint(model)
    return record


def input_record(config: TrainConfig, task: Task, student: nn.Module, teacher: Teacher | Ensemble | None) -> dict[str, Any]:
    """Return the blocks ``data``, ``student`` and ``teacher`` of ``config.yaml``."""
    loaded = config.student.checkpoint is not None or read_name(config.student.name).has_weights
    return {
        "data": task.record(),
        "student": model_record(student, weights=loaded) | files_record(config.student),
        "teacher": {} if teacher is None or config.teacher is None else teacher_record(teacher, config.teacher),
    }


def files_record(source: ModelConfig) -> dict[str, str]:
    """Return a hash of the files that a network's settings name, as ``files``; empty where they name none.

    A hash is kept: files that have not changed since, by path, size and time, are not read again.
    """
    named = (source.checkpoint, source.name.partition(":")[2].removeprefix("local-dir:"), getattr(source, "label_map", None))
    paths = [Path(name) for name in named if name and Path(name).exists()]
    files = [path / STUDENT if (path / STUDENT).exists() else path for path in paths]  # of a run folder its student alone
    if not files:
        return {}

    def read() -> str:
        digest = hashlib.sha256()
        for path in files:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    with file.open("rb") as opened:
                        digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()[:32]

    return {"files": remembered("network", files, read)}


def same_files(config: TrainConfig, recorded: Mapping[str, Any]) -> bool:
    """Whether the networks' files are known to be those that ``config.yaml`` recorded; then their weights are as well."""
    teacher = recorded.get("teacher") or {}
    records = [recorded.get("student") or {}, teacher, *(teacher.get("others") or {}).values()]
    for source, before in zip(config.networks().values(), records, strict=False):
        now = files_record(source)
        if now.get("files") != before.get("files") or ("weights" in before and not now):
            return False
    return True


def teacher_record(teacher: Teacher | Ensemble, config: TeacherConfig) -> dict[str, Any]:
    """Return the block ``teacher`` of ``config.yaml``: its weights, and its mean, std and label map where they are used."""
    pairs = zip(teacher.members(), config.members().values(), strict=True)
    first, *others = (_member_record(member) | files_record(source) for member, source in pairs)
    return first | ({"others": {str(index): record for index, record in enumerate(others)}} if others else {})


def _member_record(teacher: Teacher) -> dict[str, Any]:
    record = model_record(teacher.model, weights=True)
    record |= getattr(teacher.renormalize, "record", dict)()  # how its inputs differ from the student's, if they do
    if teacher.label_map is not None:
        target = teacher.label_map.target
        digest = hashlib.sha256(repr(target).encode()).hexdigest()[:32]
        record["label_map"] = {"classes": len(target), "used": sum(t is not None for t in target), "fingerprint": digest}
    return record


def source_record(config: TrainConfig, student: nn.Module, teacher: Teacher | Ensemble | None) -> dict[str, dict[str, str]]:
    """Return the block ``source`` of ``config.yaml``: what the code of student and teachers can be told by."""
    record = {"student": network_source(student, config.student.name)}
    if teacher is not None and config.teacher is not None:
        names = [source.name for source in config.teacher.members().values()]
        found = [network_source(member.model, name) for member, name in zip(teacher.members(), names, strict=True)]
        record["teacher"] = {name: told for one in found for name, told in one.items()}
    return record


def network_source(network: nn.Module, name: str) -> dict[str, str]:
    """Return what the code of ``network`` can be told by, for each Python module: a hash of its file, a library's version.

    The modules are those of the network's classes and their bases, that of its builder, and what these import of one's own:
    a function that a forward pass calls may lie in another file. Packages whose version a run records anyway are left out, and
    so is code without a file, typed into a session.

    Args:
        network: as it was built.
        name: its name; of ``package.module:callable`` the module is looked at, too.
    """
    classes = {cls for module in network.modules() for cls in type(module).__mro__}
    todo = {cls.__module__ for cls in classes}
    if read_name(name).kind == "own":
        todo.add(name.partition(":")[0])
    found: dict[str, str] = {}
    seen: set[str] = set()
    while todo:
        one = todo.pop()
        seen.add(one)
        module, top = sys.modules.get(one), one.partition(".")[0]
        path = _file(module)
        if module is None or path is None or top in PACKAGES:
            continue
        if {"site-packages", "dist-packages"} & set(path.parts):
            found[top] = _version(top, path)
        elif not path.is_relative_to(STANDARD):
            found[one] = _file_hash(path)
            todo |= set(_used(module)) - seen
    return dict(sorted(found.items()))


def _file(module: ModuleType | None) -> Path | None:
    try:
        found = inspect.getsourcefile(module) if module is not None else None
    except TypeError:  # built in
        return None
    return Path(found).resolve() if found is not None and Path(found).is_file() else None


def _version(package: str, path: Path) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # its distribution has another name
        return _file_hash(path)


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def _used(module: ModuleType) -> Iterable[str]:
    """Yield the names of the Python modules that what ``module`` has imported comes from."""
    for value in list(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(name, str):
            yield name
