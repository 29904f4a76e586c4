"""A run folder as a network's name: ``--teacher runs/teacher`` means the student of that run, with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from logitkd.checks import shown
from logitkd.models import import_recorded
from logitkd.runs.folder import CONFIG, STUDENT, read_run
from logitkd.runs.networks import ModelConfig
from logitkd.runs.values import plain, validate

__all__ = ["is_path", "is_run_folder", "looked_up", "network_of_run"]


N = TypeVar("N", bound=ModelConfig)


def is_path(name: Any) -> bool:
    """Whether a network's name can only be a folder's: no network of timm has a slash in its name.

    >>> is_path("runs/teacher"), is_path("transformers:runs/teacher")
    (True, False)
    """
    return isinstance(name, str) and "/" in name and ":" not in name.partition("/")[0]


def is_run_folder(name: Any) -> bool:
    """Whether a network's name is the path of a run folder; one without a slash is never read as a path.

    >>> is_run_folder("resnet18")
    False
    """
    return is_path(name) and (Path(name) / CONFIG).is_file()


def looked_up(role: str, network: N, *, import_code: bool = True) -> N:
    """Return a network, or several teachers, with those that are run folders looked up; see :func:`network_of_run`."""
    given = plain(network)
    found = network_of_run(role, given, import_code=import_code)
    return network if found == given else validate(type(network), found, f"{role}.")


def network_of_run(role: str, network: Mapping[str, Any], *, import_code: bool = True) -> dict[str, Any]:
    """Return a network's settings: where its name is a run folder, name and layers of that run's student, and its weights.

    The teachers in its ``others`` are looked up likewise. Code of one's own that a run names is imported, from elsewhere than
    its folder.

    Args:
        role: the key that the network is set under: ``teacher``.
        network: its settings by key, some or all.
        import_code: whether to import the code that a run names; else that is left to the caller.

    Raises:
        ValueError: the folder is no run's, or its run is not finished; its code cannot be imported; or a checkpoint or layers
            are given beside it.
        TypeError: what its code is called by cannot be called.
    """
    found = dict(network)
    if found.get("others"):
        members = enumerate(found["others"])
        others = (network_of_run(f"{role}.others[{index}]", one, import_code=import_code) for index, one in members)
        found["others"] = type(found["others"])(others)
    name = found.get("name")
    if name is None or not is_run_folder(name):
        return found
    for key in ("checkpoint", "layers"):
        if found.get(key) is not None:
            raise ValueError(
                f"`{role}.{key}` must be left out where `{role}` is a run folder, whose network and weights are taken, got "
                f"{shown(found[key])} beside {name}. Leave one of them out."
            )
    folder = Path(name)
    student = read_run(folder)["run"]["student"]
    if not (folder / STUDENT).is_file():
        raise ValueError(f"`{role}` must be the folder of a finished run, but {name} holds no {STUDENT}. Finish it first.")
    if import_code:
        import_recorded(student["name"], folder)
    return found | {"name": student["name"], "checkpoint": name, "layers": student.get("layers")}
