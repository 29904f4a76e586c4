"""Which code a network is made of: a hash for each file of one's own that its classes come from, a version for a library."""

from __future__ import annotations

import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from torch import nn

from logitkd.models import read_name
from logitkd.reach import Ensemble, Teacher
from logitkd.runs.config import TrainConfig
from logitkd.training.provenance import PACKAGES

__all__ = ["source_record"]

STANDARD = Path(sysconfig.get_paths()["stdlib"]).resolve()


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
