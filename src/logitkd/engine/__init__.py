"""The engine: runs an objective over data, keeps the run folder, resumes exactly; knows no method's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logitkd.engine.config import OptimConfig, ScheduleConfig, StonesConfig, TrainConfig, check_config, default_folder
from logitkd.engine.networks import ModelConfig, TeacherConfig, TeacherSource

if TYPE_CHECKING:
    from logitkd.engine.display import Display, Lines
    from logitkd.engine.evaluation import evaluate
    from logitkd.engine.exporting import ExportResult, export
    from logitkd.engine.interrupt import Interrupted
    from logitkd.engine.steplog import NonFiniteLossError
    from logitkd.engine.training import RunResult, train

__all__ = [
    "Display",
    "ExportResult",
    "Interrupted",
    "Lines",
    "ModelConfig",
    "NonFiniteLossError",
    "OptimConfig",
    "RunResult",
    "ScheduleConfig",
    "StonesConfig",
    "TeacherConfig",
    "TeacherSource",
    "TrainConfig",
    "check_config",
    "default_folder",
    "evaluate",
    "export",
    "train",
]

_HOMES = {
    "Display": "display",
    "ExportResult": "exporting",
    "Interrupted": "interrupt",
    "Lines": "display",
    "NonFiniteLossError": "steplog",
    "RunResult": "training",
    "evaluate": "evaluation",
    "export": "exporting",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    # Lazy: the configuration is read by the command line's help, which needs neither accelerate nor timm.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
