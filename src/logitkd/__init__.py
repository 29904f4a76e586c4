"""logitkd: make a small classifier as good as a big one through the big one's logits.

``import logitkd`` loads nothing: every public name is loaded when it is first used, the losses with torch alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logitkd import losses, methods
    from logitkd.data import DataConfig
    from logitkd.evaluation import evaluate
    from logitkd.exporting.export import export
    from logitkd.losses import (
        BlockKDLoss,
        DISTLoss,
        DKDLoss,
        GDKD3Loss,
        GDKDLoss,
        ICDLoss,
        KDLoss,
        LDRLDLoss,
        LogitLoss,
        MLKDLoss,
        NKDLoss,
        SDDLoss,
        Standardized,
    )
    from logitkd.models import build_model, load_weights
    from logitkd.objective import Objective
    from logitkd.prediction import Prediction, predict
    from logitkd.reach import RegionModel, Signals, StoneModel, Teacher
    from logitkd.runs.config import OptimConfig, ScheduleConfig, StonesConfig, TrainConfig
    from logitkd.runs.networks import ModelConfig, TeacherConfig, TeacherSource
    from logitkd.training.train import RunResult, train

__version__ = "0.1.0"

__all__ = [
    "BlockKDLoss",
    "DISTLoss",
    "DKDLoss",
    "DataConfig",
    "GDKD3Loss",
    "GDKDLoss",
    "ICDLoss",
    "KDLoss",
    "LDRLDLoss",
    "LogitLoss",
    "MLKDLoss",
    "ModelConfig",
    "NKDLoss",
    "Objective",
    "OptimConfig",
    "Prediction",
    "RegionModel",
    "RunResult",
    "SDDLoss",
    "ScheduleConfig",
    "Signals",
    "Standardized",
    "StoneModel",
    "StonesConfig",
    "Teacher",
    "TeacherConfig",
    "TeacherSource",
    "TrainConfig",
    "build_model",
    "evaluate",
    "export",
    "load_weights",
    "losses",
    "methods",
    "predict",
    "train",
]

_HOMES = {
    "losses": (
        "BlockKDLoss DISTLoss DKDLoss GDKD3Loss GDKDLoss ICDLoss KDLoss LDRLDLoss LogitLoss MLKDLoss NKDLoss SDDLoss"
        " Standardized"
    ),
    "objective": "Objective",
    "reach": "RegionModel Signals StoneModel Teacher",
    "models": "build_model load_weights",
    "data": "DataConfig",
    "evaluation": "evaluate",
    "exporting.export": "export",
    "prediction": "Prediction predict",
    "runs.config": "OptimConfig ScheduleConfig StonesConfig TrainConfig",
    "runs.networks": "ModelConfig TeacherConfig TeacherSource",
    "training.train": "RunResult train",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in ("losses", "methods"):
        return importlib.import_module(f"logitkd.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'logitkd' has no attribute {name!r}")
    return getattr(importlib.import_module(f"logitkd.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
