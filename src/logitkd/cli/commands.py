"""What each command does with its arguments: hand them to the part that knows, and print what comes back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from logitkd.cli import pages, tables
from logitkd.cli.flags import Setting, UsageError, convert_all, nest, settings_of, split
from logitkd.cli.listing import show_list
from logitkd.cli.outcome import show_evaluations, show_export, show_result, whence
from logitkd.cli.predicting import PredictFlags, show_predictions
from logitkd.data.config import DataConfig
from logitkd.runs.networks import ModelConfig, TeacherConfig
from logitkd.runs.plan import TRAIN_FLAGS, resolve
from logitkd.training.folder import read_run
from logitkd.training.processes import check_one_process

__all__ = ["page", "run"]


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

    model: str | None = None
    batch_size: int = 256
    device: str = "auto"
    latency: bool = True
    data: DataConfig | None = None
    teacher: TeacherConfig | None = None
    trust_code: bool = False


@dataclass(frozen=True)
class ExportFlags:
    """What ``logitkd export`` can be told.

    Args:
        output: the folder to write; by default the folder export in the run folder.
        format: some of safetensors, onnx, torch_export, with commas between them.
        trust_code: also import a package.module:callable that the run folder names from that folder; by default only from
            elsewhere.
    """

    output: str | None = None
    format: str = "safetensors,onnx,torch_export"
    trust_code: bool = False


@dataclass(frozen=True)
class DemoFlags:
    """What ``logitkd demo`` can be told.

    Args:
        seed: of every run: initial weights, which five scans, their order and crops.
        epochs: at most so many in every run, for a quick look; by default 20 for the teacher, 100 for a student.
        output: the folder of the run folders; by default runs/demo-seed<seed>.
        quiet: a line a run instead of progress bars.
    """

    seed: int = 0
    epochs: int | None = None
    output: str | None = None
    quiet: bool = False


UNREAD = ("data.train_per_class", "data.crop_padding", "data.flip", "data.transforms")  # they only shape training
EVAL_FLAGS = {
    key: replace(setting, default=None) if key.startswith("data.") else setting  # by default the run folder's
    for key, setting in settings_of(EvalFlags).items()
    if key not in UNREAD
}
EXPORT_FLAGS = settings_of(ExportFlags)
PREDICT_FLAGS = settings_of(PredictFlags)
DEMO_FLAGS = settings_of(DemoFlags)


def page(name: str, every: bool = False) -> str:
    """Return the help page of a command; ``every`` flag of it, where there are more than people use."""
    text, flags, first = {
        "train": (pages.TRAIN, TRAIN_FLAGS, () if every else pages.FIRST),
        "eval": (pages.EVAL, EVAL_FLAGS, ()),
        "predict": (pages.PREDICT, PREDICT_FLAGS, ()),
        "export": (pages.EXPORT, EXPORT_FLAGS, ()),
        "demo": (pages.DEMO, DEMO_FLAGS, ()),
        "list": (pages.LIST, {}, ()),
    }[name]
    return pages.render(text, flags, first)


def run(name: str, arguments: list[str]) -> None:
    """Run a command.

    Raises:
        UsageError: the arguments are wrong; nothing was done.
    """
    commands = {"train": _train, "eval": _evaluate, "predict": _predict, "export": _export, "demo": _demo, "list": show_list}
    commands[name](arguments)


def _look_here() -> None:
    """Have Python find one's own ``module:callable`` in the folder one works in, until the command is over.

    A command that opens run folders has to import what is ours first: a file there could take the place of a library.
    """
    sys.path.insert(0, os.getcwd())


def _train(arguments: list[str]) -> None:
    check_one_process()
    from logitkd.models import opening
    from logitkd.runs.config import default_folder
    from logitkd.training.train import train  # with timm, accelerate and torchmetrics: not for `--help`

    _look_here()
    config = resolve(arguments)  # with it one's own code is imported
    if config.teacher is not None:
        for teacher in config.teacher.members().values():
            print(f"teacher: {teacher.name}{whence(teacher)}", file=sys.stderr)
    networks = [config.student, *({} if config.teacher is None else config.teacher.members()).values()]
    with opening([config.output or default_folder(config), *_folders(networks)]):
        result = train(config)
    words, flags = split(arguments, TRAIN_FLAGS, [], free="method.")
    show_result(config, result, words[0] if words else None, flags)


def _folders(networks: Iterable[ModelConfig]) -> list[Path]:
    """Return the run folders that checkpoints are, or lie in."""
    from logitkd.training.networks import run_folder_of

    found = (run_folder_of(network.checkpoint) for network in networks)
    return [folder for folder in found if folder is not None]


def _read_flags(known: Mapping[str, Setting], arguments: list[str], problems: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Return positional arguments and flags in their types; ``problems`` receives what is wrong."""
    positional, flags = split(arguments, known, problems)
    return positional, convert_all(known, flags, "--", problems)


def _evaluate(arguments: list[str]) -> None:
    problems: list[str] = []
    targets, values = _read_flags(EVAL_FLAGS, arguments, problems)
    if not targets:
        problems.append("a run folder or a checkpoint must be given: `logitkd eval RUN`.")
    recorded: list[tuple[str, str]] = []
    plans = [_plan(target, values, recorded, problems) for target in targets]
    if problems:
        raise UsageError(list(dict.fromkeys(problems)))
    from logitkd.evaluation import evaluate
    from logitkd.models import find_own, import_recorded, opening, read_name

    _look_here()
    trust = values.get("trust_code", False)
    teachers = [member for *_, teacher in plans if teacher is not None for member in teacher.members().values()]
    for name in {network.name for network in (*teachers, *(model for model, *_ in plans))} - {name for name, _ in recorded}:
        if read_name(name).kind == "own":
            find_own(name)  # typed here, and so it may lie here, even in a run folder
    with opening(_folders([*(model for model, *_ in plans), *teachers]), trust_code=trust):
        for name, folder in recorded:
            import_recorded(name, folder, trust_code=trust)
        options = {key: values[key] for key in ("batch_size", "device", "latency") if key in values}
        found = [evaluate(model, data, teacher=teacher, **options) for model, data, teacher in plans]
    show_evaluations(targets, plans, found)


Plan = tuple[ModelConfig, DataConfig, TeacherConfig | None]


def _plan(target: str, values: dict[str, Any], recorded: list[tuple[str, str]], problems: list[str]) -> Plan:
    """Return the network, data and teacher that a target and the flags mean.

    ``recorded`` receives each network's name that a run folder says and no flag, and the folder.
    """
    path = Path(target)
    flags = nest(EvalFlags, {"teacher.name": "", **values})
    teacher = flags.teacher if flags.teacher.name or flags.teacher.checkpoint else None
    changed = {key.removeprefix("data."): value for key, value in values.items() if key.startswith("data.")}
    taught = {key.removeprefix("teacher."): value for key, value in values.items() if key.startswith("teacher.")}
    was = _run_of(path, problems)
    if was is not None:
        data = replace(DataConfig(**was["data"]), **changed)
        model = ModelConfig(flags.model or was["student"]["name"], target)
        if flags.model is None:
            recorded.append((model.name, target))
        if teacher is None and was.get("teacher") is not None:
            teacher = _recorded_teacher(target, replace(TeacherConfig(**was["teacher"]), **taught))
            members = {} if teacher is None else teacher.members()
            recorded += [(m.name, target) for role, m in members.items() if role == "teacher" or "others" not in taught]
    else:
        data, model = DataConfig(**changed), ModelConfig(flags.model or "", target)
        if not path.exists():
            problems.append(f"`{target}` is neither a run folder nor a checkpoint: there is no such file.")
        if flags.model is None:
            problems.append(f"`--model NAME` must be given, as {target} is no run folder that would know its network.")
        if "source" not in changed:
            problems.append(f"`--data.source` must be given, as {target} is no run folder that would know its data.")
    if teacher is not None and not teacher.name:
        record = _run_of(Path(teacher.checkpoint or ""), problems)
        if record is not None:
            teacher = replace(teacher, name=record["student"]["name"])
            recorded.append((teacher.name, str(teacher.checkpoint)))
        else:
            problems.append("`--teacher NAME` must be given: its checkpoint is no run folder that would know its network.")
    for role, member in ({} if teacher is None else teacher.members()).items():
        if member.checkpoint is not None and not Path(member.checkpoint).exists():
            problems.append(f"`{role}.checkpoint`: {member.checkpoint} is not there. Say where it is.")
        if member.label_map is not None and not Path(member.label_map).is_file():
            problems.append(f"`{role}.label_map`: {member.label_map} is not there. Say where it is.")
    return model, data, teacher


def _run_of(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """Return the block ``run`` of a run folder, ``None`` for anything else; ``problems`` receives a foreign config.yaml."""
    try:
        return read_run(path)["run"]
    except FileNotFoundError:
        return None
    except ValueError as error:
        problems.append(str(error))
        return None


def _recorded_teacher(target: str, teacher: TeacherConfig) -> TeacherConfig | None:
    """Return the teacher that a run folder names, or ``None``, and say so, where its weights or label map are gone."""
    for role, member in teacher.members().items():
        for what, path in (("checkpoint", member.checkpoint), ("label_map", member.label_map)):
            if path is not None and not Path(path).exists():
                where = "teacher.others" if role != "teacher" else f"{role}.{what}"
                print(
                    f"{target}: no agreement, as its teacher's {what} {path} is not there. Say where it is with `--{where}`.",
                    file=sys.stderr,
                )
                return None
    return teacher


def _predict(arguments: list[str]) -> None:
    problems: list[str] = []
    words, values = _read_flags(PREDICT_FLAGS, arguments, problems)
    if len(words) < 2:
        got = "a run alone" if words else "none"
        problems.append(f"a run folder and image files must be given: `logitkd predict RUN FILES...`, got {got}.")
    if problems:
        raise UsageError(problems)
    flags = dict(vars(PredictFlags(**values)))
    form = flags.pop("format")
    from logitkd.prediction import predict

    _look_here()
    show_predictions(predict(words[0], words[1:], **flags), form)


def _export(arguments: list[str]) -> None:
    problems: list[str] = []
    runs, values = _read_flags(EXPORT_FLAGS, arguments, problems)
    if len(runs) != 1:
        problems.append(f"one run folder must be given: `logitkd export RUN`, got {' '.join(runs) or 'none'}.")
    flags = ExportFlags(**values)
    from logitkd.exporting.export import export
    from logitkd.exporting.formats import check_formats

    formats = [name.strip() for name in flags.format.split(",")]
    try:
        check_formats(formats)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise UsageError(problems)
    _look_here()
    show_export(export(runs[0], flags.output, formats=formats, trust_code=flags.trust_code))


def _demo(arguments: list[str]) -> None:
    problems: list[str] = []
    extras, values = _read_flags(DEMO_FLAGS, arguments, problems)
    problems += [f"`{extra}` is not expected here." for extra in extras]
    if problems:
        raise UsageError(problems)
    flags = DemoFlags(**values)
    from logitkd.cli.demo import check_options, refuse_foreign, run_demo

    check_options(flags.seed, flags.epochs)
    short = "" if flags.epochs is None else f"-epochs{flags.epochs}"
    folder = Path(flags.output or f"runs/demo-seed{flags.seed}{short}")
    refuse_foreign(folder)
    print("Digits: a teacher first, then students with 5 labelled scans of each digit. Ctrl-C stops; the same command goes on.")
    demo = run_demo(folder, seed=flags.seed, epochs=flags.epochs, quiet=flags.quiet)
    titles = ["accuracy", "agreement", "parameters", "seconds"]
    print()
    tables.show(["network", *titles], demo.rows(), right=titles)
    print(f"\n{demo.note()}\nRun folders: {folder}/teacher, {folder}/ce, {folder}/kd, ...\n")
    print(
        "Next, your own images: `logitkd train --student NAME --method ce --data.source FOLDER` trains a teacher;"
        " `logitkd --help` shows how to go on."
    )
