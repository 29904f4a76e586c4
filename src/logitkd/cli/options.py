"""What each command can be told, beside what a run can: its flags, as dataclasses whose docstrings are the help."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict

from logitkd import tasks
from logitkd.data.config import DataConfig
from logitkd.fields import RECORD, Seed, Switch, Text, Whole, at_least
from logitkd.runs.config import TrainConfig
from logitkd.runs.networks import TeacherConfig
from logitkd.runs.settings import Setting, settings_of

__all__ = [
    "DEMO_FLAGS",
    "EVAL_FLAGS",
    "EXPORT_FLAGS",
    "PREDICT_FLAGS",
    "DemoFlags",
    "EvalFlags",
    "ExportFlags",
    "PredictFlags",
    "train_flags",
]

ROLE = "what to train: the recipe's student, or with cross-entropy its teacher, which the student's runs then find."
METHOD = Setting("method", str, "kd", "a name from `logitkd list`; --method.OPTION VALUE sets its hyper-parameters.")


def train_flags(task: str = TrainConfig.task) -> dict[str, Setting]:
    """Return the flags of ``logitkd train`` for a task, which decides those of its data; an unknown one has the default's."""
    kind = tasks.settings_of(task if task in tasks.names() else TrainConfig.task)
    run = settings_of(TrainConfig, skip={"method", "method_options"}, data=kind)
    return {**run, "method": METHOD, "role": Setting("role", Literal["student", "teacher"], "student", ROLE)}


@dataclass(frozen=True)
class EvalFlags:
    """What ``logitkd eval`` can be told.

    Args:
        model: the network of a checkpoint file, a timm name or package.module:callable; a run folder knows its own.
        batch_size: images at a time; changes memory and speed only.
        device: auto, cpu, cuda or cuda:N.
        latency: also time batches of 1 and 64: about five passes of each where one is slow, else at most half a second.
        data: what to evaluate on; by default the run folder's.
        teacher: the network, or networks, to measure agreement with; by default the run folder's.
        trust_code: also import a package.module:callable that a run folder names from that folder; by default only from
            elsewhere.
    """

    model: Text | None = None
    batch_size: Annotated[Whole, at_least(1)] = 256
    device: Text = "auto"
    latency: Switch = True
    data: DataConfig | None = None
    teacher: TeacherConfig | None = None
    trust_code: Switch = False

    __pydantic_config__: ClassVar[ConfigDict] = RECORD


@dataclass(frozen=True)
class ExportFlags:
    """What ``logitkd export`` can be told.

    Args:
        output: the folder to write; by default the folder export in the run folder.
        format: some of safetensors, onnx, torch_export, with commas between them.
        trust_code: also import a package.module:callable that the run folder names from that folder; by default only from
            elsewhere.
    """

    output: Text | None = None
    format: Text = "safetensors,onnx,torch_export"
    trust_code: Switch = False

    __pydantic_config__: ClassVar[ConfigDict] = RECORD


@dataclass(frozen=True)
class PredictFlags:
    """What ``logitkd predict`` can be told.

    Args:
        format: csv, a line a class with a header, or json, an object a line for each image.
        top: so many classes of each image, the most probable first.
        batch_size: images at a time; changes memory and speed only.
        device: auto, cpu, cuda or cuda:N.
        trust_code: also import a package.module:callable that the run folder names from that folder; by default only from
            elsewhere.
    """

    format: Literal["csv", "json"] = "csv"
    top: Annotated[Whole, at_least(1)] = 1
    batch_size: Annotated[Whole, at_least(1)] = 256
    device: Text = "auto"
    trust_code: Switch = False

    __pydantic_config__: ClassVar[ConfigDict] = RECORD


@dataclass(frozen=True)
class DemoFlags:
    """What ``logitkd demo`` can be told.

    Args:
        seed: of every run: initial weights, which five scans, their order and crops.
        epochs: at most so many in every run, for a quick look; by default 20 for the teacher, 100 for a student.
        output: the folder of the run folders; by default runs/demo-seed<seed>.
        quiet: a line a run instead of progress bars.
    """

    seed: Seed = 0
    epochs: Annotated[Whole, at_least(1)] | None = None
    output: Text | None = None
    quiet: Switch = False

    __pydantic_config__: ClassVar[ConfigDict] = RECORD


UNREAD = ("data.train_per_class", "data.crop_padding", "data.flip", "data.transforms")  # they only shape training
EVAL_FLAGS = {
    key: replace(setting, default=None) if key.startswith("data.") else setting  # by default the run folder's
    for key, setting in settings_of(EvalFlags).items()
    if key not in UNREAD
}
EXPORT_FLAGS = settings_of(ExportFlags)
PREDICT_FLAGS = settings_of(PredictFlags)
DEMO_FLAGS = settings_of(DemoFlags)
