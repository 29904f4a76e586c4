"""Tasks by name: what a batch is, what is right, and what a score is. A new task is one file and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from logitkd.checks import unknown

if TYPE_CHECKING:
    from logitkd.tasks.task import Task

__all__ = ["get", "name_of", "names", "register", "settings_of"]

# name -> where its class is, and where the dataclass of the settings `data` is; text, so that asking for the names, or for the
# settings, loads no torch.
_TABLE: dict[str, tuple[Any, Any]] = {
    "images": ("logitkd.tasks.images:ImageTask", "logitkd.data.config:DataConfig"),
    "segmentation": ("logitkd.tasks.segmentation:SegmentationTask", "logitkd.data.mask_config:MaskConfig"),
    "text": ("logitkd.tasks.text:TextTask", "logitkd.data.text_config:TextConfig"),
}


def names() -> list[str]:
    """Return the names of all tasks."""
    return list(_TABLE)


def register(name: str, task: type[Task], settings: type) -> None:
    """Add a task.

    Args:
        name: as in ``task: NAME``.
        task: its class.
        settings: the dataclass of its ``data``: where its data come from and how they are shown.

    Raises:
        ValueError: the name is taken.
    """
    if name in _TABLE:
        raise ValueError(f"task `{name}` is in the table already. Choose another name.")
    _TABLE[name] = task, settings


def get(name: str) -> type[Task]:
    """Return the class of a task; an unknown name raises ``ValueError`` that lists the close ones."""
    return _load(name, 0)


def settings_of(name: str) -> type:
    """Return the dataclass of a task's ``data`` settings; loads no torch for the tasks that come with the package."""
    return _load(name, 1)


def name_of(settings: Any) -> str:
    """Return the name of the task whose ``data`` these are; of anything else ``images``."""
    return next((name for name in _TABLE if isinstance(settings, settings_of(name))), "images")


def _load(name: str, which: int) -> Any:
    if name not in _TABLE:
        raise ValueError(unknown("task", name, _TABLE))
    found = _TABLE[name][which]
    if not isinstance(found, str):
        return found
    home, _, attribute = found.partition(":")
    return getattr(import_module(home), attribute)
