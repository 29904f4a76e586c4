"""What each command can be told: its flags, as dataclasses whose docstrings are the help, and reading them.

Arguments are split here and their texts read as YAML; what the values mean is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from logitkd.checks import check_path
from logitkd.fields import Record, Seed, Switch, Text, Whole, at_least
from logitkd.runs.config import data_settings, run_settings
from logitkd.runs.networks import TeacherConfig
from logitkd.runs.settings import Setting, SettingsError, canonical, settings_of, unknown_key
from logitkd.runs.values import read_text, read_value

__all__ = [
    "DEMO_FLAGS",
    "EVAL_ALONE",
    "EXPORT_FLAGS",
    "PREDICT_FLAGS",
    "SHOW_ALONE",
    "DemoFlags",
    "EvalFlags",
    "ExportFlags",
    "PredictFlags",
    "ShowFlags",
    "eval_flags",
    "read_flags",
    "split",
    "train_flags",
]

ROLE = "what to train: the recipe's student, or with cross-entropy its teacher, which the student's runs then find."
METHOD = Setting("method", str, "kd", "a name from `logitkd list`; --method.OPTION VALUE sets its hyper-parameters.")


def train_flags(task: str | None = None) -> dict[str, Setting]:
    """Return the flags of ``logitkd train`` for a task, see ``run_settings``."""
    role = Setting("role", Literal["student", "teacher"], "student", ROLE)
    return {**run_settings(task), "method": METHOD, "role": role}


@dataclass(frozen=True)
class EvalFlags(Record):
    """What ``logitkd eval`` can be told.

    Args:
        task: what the data of a checkpoint file are, images, text or segmentation; a run folder knows its own.
        model: the network of a checkpoint file, a timm name or package.module:callable; a run folder knows its own.
        batch_size: examples at a time; changes memory and speed only; by default 256, images with masks 4.
        device: auto, cpu, cuda or cuda:N.
        latency: also time batches of 1 and 64 (of 1 and 4 images with masks): about five passes of each where one is slow,
            else at most half a second.
        teacher: the network, or networks, to measure agreement with; by default the run folder's.
        trust_code: also import a package.module:callable that a run folder names from that folder; by default only from
            elsewhere.
    """

    task: Text | None = None
    model: Text | None = None
    batch_size: Annotated[Whole, at_least(1)] | None = None
    device: Text = "auto"
    latency: Switch = True
    teacher: TeacherConfig | None = None
    trust_code: Switch = False


@dataclass(frozen=True)
class ExportFlags(Record):
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


@dataclass(frozen=True)
class PredictFlags(Record):
    """What ``logitkd predict`` can be told.

    Args:
        format: csv, a line a class (of masks, a line an image) with a header, or json, an object a line for each image or text.
        top: so many classes of each, the most probable first; by default one.
        output: the folder that masks are written to; needed for a run on masks, and only there.
        batch_size: examples at a time; changes memory and speed only; by default 256, of masks 4.
        device: auto, cpu, cuda or cuda:N.
        trust_code: also import a package.module:callable that the run folder names from that folder; by default only from
            elsewhere.
    """

    format: Literal["csv", "json"] = "csv"
    top: Annotated[Whole, at_least(1)] | None = None
    output: Text | None = None
    batch_size: Annotated[Whole, at_least(1)] | None = None
    device: Text = "auto"
    trust_code: Switch = False


@dataclass(frozen=True)
class ShowFlags(Record):
    """What ``logitkd show`` can be told.

    Args:
        count: so many examples, or all there are.
        output: the HTML file to write; by default show.html in the run folder.
        batch_size: examples at a time; changes memory and speed only; by default as the task evaluates.
        device: auto, cpu, cuda or cuda:N.
        teacher: the network, or networks, to compare with; by default the run folder's.
        trust_code: also import a package.module:callable that the run folder names from that folder; by default only from
            elsewhere.
    """

    count: Annotated[Whole, at_least(1)] = 12
    output: Text | None = None
    batch_size: Annotated[Whole, at_least(1)] | None = None
    device: Text = "auto"
    teacher: TeacherConfig | None = None
    trust_code: Switch = False

    model: ClassVar[None] = None  # a run folder knows both
    task: ClassVar[None] = None


@dataclass(frozen=True)
class DemoFlags(Record):
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


EVAL_ALONE = settings_of(EvalFlags)  # the flags of `logitkd eval` but for those of the data
DATA = "what to evaluate on; by default the run folder's"
# They only shape training.
UNREAD = ("train_per_class", "crop_padding", "flip", "transforms", "crop_size", "scale", "color_jitter")


def eval_flags(task: str | None = None, alone: Mapping[str, Setting] = EVAL_ALONE) -> dict[str, Setting]:
    """Return the flags of a command that evaluates, by default ``logitkd eval``, for a task."""
    data = {
        f"data.{name}": replace(setting, key=f"data.{name}", default=None, section=DATA)  # by default the run folder's
        for name, setting in settings_of(data_settings(task)).items()
        if name not in UNREAD
    }
    return {**alone, **data}


EXPORT_FLAGS = settings_of(ExportFlags)
PREDICT_FLAGS = settings_of(PredictFlags)
SHOW_ALONE = settings_of(ShowFlags)
DEMO_FLAGS = settings_of(DemoFlags)


def read_flags(
    arguments: Sequence[str], known: Mapping[str, Setting], problems: list[str], free: str = ""
) -> tuple[list[str], dict[str, Any]]:
    """Return positional arguments, and the value that each flag's text spells; as :func:`split`."""
    positional, flags = split(arguments, known, problems, free)
    values: dict[str, Any] = {}
    for key, text in flags.items():
        try:
            values[key] = read_text(known[key], text) if key in known else read_value(text)
        except ValueError as error:
            problems.append(str(error))
    return positional, values


def split(
    arguments: Sequence[str], known: Mapping[str, Setting], problems: list[str], free: str = ""
) -> tuple[list[str], dict[str, str]]:
    """Split a command's arguments into its positional ones and ``{key: text}`` of its flags.

    ``--key value`` and ``--key=value`` are the same; a flag of type ``bool`` may stand alone.

    Args:
        arguments: what follows the command.
        known: the settings that may be given.
        problems: receives a message for each unknown flag, missing value or flag that is given twice.
        free: keys with this prefix are passed on unread.

    Raises:
        SettingsError: a positional argument can name no file, so nothing else can be said about it.
    """
    positional: list[str] = []
    flags: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--") or token == "--":
            positional.append(token)
            try:
                check_path(f"argument {len(positional)}", token)
            except ValueError as error:
                raise SettingsError([str(error)]) from error
            continue
        key, equals, text = token[2:].partition("=")
        name = canonical(key, known)
        valid = name in known or bool(free and key.startswith(free))
        if not valid:
            problems.append(unknown_key(key, known, "option", "--"))
        is_switch = name in known and known[name].type is bool
        if not equals:
            follows = bool(rest) and not rest[0].startswith("--")
            if is_switch and not (follows and isinstance(read_value(rest[0]), bool)):
                text = "true"
            elif follows:
                text = rest.pop(0)
            elif valid:
                problems.append(f"`--{key}` needs a value.")
                continue
        if valid and name in flags:
            problems.append(f"`--{key}` is given twice, as {flags[name]!r} and {text!r}. Leave one out.")
        elif valid:
            flags[name] = text
    return positional, flags
