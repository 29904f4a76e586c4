"""The engine: runs an objective over data, keeps the run folder, resumes exactly; knows no method's name."""

from logitkd.engine.config import ModelConfig, OptimConfig, ScheduleConfig, TrainConfig, default_folder
from logitkd.engine.display import Display
from logitkd.engine.evaluate import evaluate
from logitkd.engine.interrupt import Interrupted
from logitkd.engine.steplog import NonFiniteLossError
from logitkd.engine.train import RunResult, train

__all__ = [
    "Display",
    "Interrupted",
    "ModelConfig",
    "NonFiniteLossError",
    "OptimConfig",
    "RunResult",
    "ScheduleConfig",
    "TrainConfig",
    "default_folder",
    "evaluate",
    "train",
]
