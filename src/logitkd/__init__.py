"""logitkd: make a small classifier as good as a big one through the big one's logits.

``import logitkd`` loads nothing: every public name is loaded when it is first used, the losses with torch alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from logitkd.lazy import by_name, loader

if TYPE_CHECKING:
    from logitkd import losses, methods
    from logitkd.data import DataConfig, MaskConfig, TextConfig
    from logitkd.evaluation import evaluate
    from logitkd.exporting.export import export
    from logitkd.losses import (
        BlockKDLoss,
        CWDLoss,
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
    from logitkd.prediction import MaskPrediction, Prediction, predict
    from logitkd.reach import RegionModel, Signals, StoneModel, Teacher
    from logitkd.runs.config import DistillConfig, OptimConfig, ScheduleConfig, StonesConfig, TrainConfig
    from logitkd.runs.networks import ModelConfig, TeacherConfig, TeacherSource
    from logitkd.showing import Page, show
    from logitkd.training.train import RunResult, train

__version__ = "0.1.0"

__all__ = [
    "BlockKDLoss",
    "CWDLoss",
    "DISTLoss",
    "DKDLoss",
    "DataConfig",
    "DistillConfig",
    "GDKD3Loss",
    "GDKDLoss",
    "ICDLoss",
    "KDLoss",
    "LDRLDLoss",
    "LogitLoss",
    "MLKDLoss",
    "MaskConfig",
    "MaskPrediction",
    "ModelConfig",
    "NKDLoss",
    "Objective",
    "OptimConfig",
    "Page",
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
    "TextConfig",
    "TrainConfig",
    "build_model",
    "evaluate",
    "export",
    "load_weights",
    "losses",
    "methods",
    "predict",
    "show",
    "train",
]

_HOME = by_name(
    {
        "losses": (
            "BlockKDLoss CWDLoss DISTLoss DKDLoss GDKD3Loss GDKDLoss ICDLoss KDLoss LDRLDLoss LogitLoss MLKDLoss NKDLoss"
            " SDDLoss Standardized"
        ),
        "objective": "Objective",
        "reach": "RegionModel Signals StoneModel Teacher",
        "models": "build_model load_weights",
        "data": "DataConfig MaskConfig TextConfig",
        "evaluation": "evaluate",
        "exporting.export": "export",
        "prediction": "MaskPrediction Prediction predict",
        "runs.config": "DistillConfig OptimConfig ScheduleConfig StonesConfig TrainConfig",
        "runs.networks": "ModelConfig TeacherConfig TeacherSource",
        "showing": "Page show",
        "training.train": "RunResult train",
    }
)
_load = loader(__name__, _HOME)


def __getattr__(name: str) -> Any:
    return importlib.import_module(f"logitkd.{name}") if name in ("losses", "methods") else _load(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
