"""What each command does with its arguments: hand them to the part that knows, and print what comes back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from logitkd import recipes, tasks
from logitkd.cli import pages, tables
from logitkd.cli.options import (
    DEMO_FLAGS,
    EVAL_FLAGS,
    EXPORT_FLAGS,
    PREDICT_FLAGS,
    DemoFlags,
    EvalFlags,
    ExportFlags,
    PredictFlags,
    read_flags,
    split,
    train_flags,
)
from logitkd.cli.outcome import show_evaluations, show_export, show_result, whence
from logitkd.cli.predicting import show_predictions
from logitkd.data.config import DataConfig
from logitkd.runs.config import TrainConfig
from logitkd.runs.folder import read_run, run_folder_of
from logitkd.runs.networks import ModelConfig, TeacherConfig
from logitkd.runs.settings import Setting, SettingsError, nest
from logitkd.runs.values import plain, read, validate

__all__ = ["page", "planned", "run"]

T = TypeVar("T")


def page(name: str, arguments: Sequence[str] = ()) -> str:
    """Return the help page of a command.

    Args:
        name: of the command.
        arguments: of ``logitkd train``: they may name a task, which decides the flags of its data; with ``--help-all`` every
            flag is shown, not only those that people use.
    """
    first: tuple[str, ...] = () if "--help-all" in arguments else pages.FIRST
    train = train_flags(_task(arguments)) if name == "train" else {}
    text, flags, first = {
        "train": (pages.TRAIN, train, tuple(key for key in first if key in train)),
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
        SettingsError: the arguments are wrong; nothing was done.
    """
    commands = {"train": _train, "eval": _evaluate, "predict": _predict, "export": _export, "demo": _demo, "list": _list}
    commands[name](arguments)


def _list(arguments: list[str]) -> None:
    from logitkd.cli.listing import show_list  # torch comes with the methods: not for `--help`

    show_list(arguments)


def _look_here() -> None:
    """Have Python find one's own ``module:callable`` in the folder one works in, until the command is over.

    A command that opens run folders has to import what is ours first: a file there could take the place of a library.
    """
    sys.path.insert(0, os.getcwd())


def _task(arguments: Sequence[str]) -> str:
    """Return the task that the arguments of ``logitkd train`` name, or their recipe: it decides which flags there are."""
    words = " ".join(arguments).replace("=", " ").split()
    if "--task" in words[:-1]:
        return words[words.index("--task") + 1]
    try:
        recipe = split(arguments, train_flags(), [], free="method.")[0][0]
        return str(recipes.read(recipes.find(recipe)).get("task", TrainConfig.task))
    except (IndexError, OSError, ValueError):  # no recipe, or one of which the plan speaks
        return TrainConfig.task


def planned(arguments: Sequence[str]) -> TrainConfig:
    """Return the run that the arguments of ``logitkd train`` ask for.

    Raises:
        SettingsError: with every problem there is.
    """
    from logitkd.runs.plan import plan  # with timm

    problems: list[str] = []
    positional, values = read_flags(arguments, train_flags(_task(arguments)), problems, free="method.")
    problems += [f"one recipe at a time: `{extra}` is one too many." for extra in positional[1:]]
    method, role = values.pop("method", None), values.pop("role", "student")
    try:
        config = plan(positional[0] if positional else None, method, role, values)
    except SettingsError as error:
        problems += error.problems
    if problems:
        raise SettingsError(problems)
    return config


def _train(arguments: list[str]) -> None:
    from logitkd.models import opening
    from logitkd.runs.naming import default_folder
    from logitkd.training.processes import check_one_process
    from logitkd.training.train import train  # with timm, accelerate and torchmetrics: not for `--help`

    check_one_process()
    _look_here()
    config = planned(arguments)  # with it one's own code is imported
    networks = config.networks()
    for role, network in networks.items():
        if role != "student":
            print(f"teacher: {network.name}{whence(network)}", file=sys.stderr)
    with opening([config.output or default_folder(config), *_folders(networks.values())]):
        result = train(config)
    words, flags = split(arguments, train_flags(_task(arguments)), [], free="method.")
    show_result(config, result, words[0] if words else None, flags)


def _folders(networks: Iterable[ModelConfig]) -> list[Path]:
    """Return the run folders that checkpoints are, or lie in."""
    found = (run_folder_of(network.checkpoint) for network in networks)
    return [folder for folder in found if folder is not None]


def _read_flags(
    record: type[T], known: Mapping[str, Setting], arguments: list[str], problems: list[str], **given: Any
) -> tuple[list[str], T, set[str]]:
    """Return positional arguments, the flags as ``record``, and which were given; ``problems`` receives what is wrong."""
    positional, values = read_flags(arguments, known, problems)
    flags, wrong = read(record, nest(given | values))
    problems += [line for lines in wrong.values() for line in lines]
    return positional, flags, values.keys() - wrong.keys()


def _evaluate(arguments: list[str]) -> None:
    problems: list[str] = []
    targets, flags, given = _read_flags(EvalFlags, EVAL_FLAGS, arguments, problems, **{"teacher.name": ""})
    if not targets:
        problems.append("a run folder or a checkpoint must be given: `logitkd eval RUN`.")
    recorded: list[tuple[str, str]] = []
    plans = [_plan(target, flags, given, recorded, problems) for target in targets]
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    from logitkd.evaluation import evaluate
    from logitkd.models import find_own, import_recorded, opening, read_name

    _look_here()
    trust = flags.trust_code
    teachers = [member for *_, teacher in plans if teacher is not None for member in teacher.members().values()]
    for name in {network.name for network in (*teachers, *(model for model, *_ in plans))} - {name for name, _ in recorded}:
        if read_name(name).kind == "own":
            find_own(name)  # typed here, and so it may lie here, even in a run folder
    with opening(_folders([*(model for model, *_ in plans), *teachers]), trust_code=trust):
        for name, folder in recorded:
            import_recorded(name, folder, trust_code=trust)
        options: dict[str, Any] = {key: getattr(flags, key) for key in ("batch_size", "device", "latency")}
        found = [evaluate(model, data, teacher=teacher, **options) for model, data, teacher in plans]
    show_evaluations(targets, plans, found)


Plan = tuple[ModelConfig, DataConfig, TeacherConfig | None]


def _plan(target: str, flags: EvalFlags, given: set[str], recorded: list[tuple[str, str]], problems: list[str]) -> Plan:
    """Return the network, data and teacher that a target and the flags, of which some were ``given``, mean.

    ``recorded`` receives each network's name that a run folder says and no flag, and the folder.
    """
    path = Path(target)
    teacher = flags.teacher if flags.teacher and (flags.teacher.name or flags.teacher.checkpoint) else None
    changed, taught = (
        {name: value for name, value in (plain(getattr(flags, part)) or {}).items() if f"{part}.{name}" in given}
        for part in ("data", "teacher")
    )
    was = _run_of(path, problems)
    if was is not None:
        data: Any = validate(tasks.settings_of(was.get("task", TrainConfig.task)), {**was["data"], **changed}, "data.")
        model = ModelConfig(flags.model or was["student"]["name"], target)
        if flags.model is None:
            recorded.append((model.name, target))
        if teacher is None and was.get("teacher") is not None:
            teacher = _recorded_teacher(target, validate(TeacherConfig, {**was["teacher"], **taught}, "teacher."))
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
    words, flags, _ = _read_flags(PredictFlags, PREDICT_FLAGS, arguments, problems)
    if len(words) < 2:
        got = "a run alone" if words else "none"
        problems.append(f"a run folder and image files must be given: `logitkd predict RUN FILES...`, got {got}.")
    if problems:
        raise SettingsError(problems)
    options = dict(vars(flags))
    form = options.pop("format")
    from logitkd.prediction import predict

    _look_here()
    show_predictions(predict(words[0], words[1:], **options), form)


def _export(arguments: list[str]) -> None:
    problems: list[str] = []
    runs, flags, _ = _read_flags(ExportFlags, EXPORT_FLAGS, arguments, problems)
    if len(runs) != 1:
        problems.append(f"one run folder must be given: `logitkd export RUN`, got {' '.join(runs) or 'none'}.")
    from logitkd.exporting.export import export
    from logitkd.exporting.formats import check_formats

    formats = [name.strip() for name in flags.format.split(",")]
    try:
        check_formats(formats)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise SettingsError(problems)
    _look_here()
    show_export(export(runs[0], flags.output, formats=formats, trust_code=flags.trust_code))


def _demo(arguments: list[str]) -> None:
    problems: list[str] = []
    extras, flags, _ = _read_flags(DemoFlags, DEMO_FLAGS, arguments, problems)
    problems += [f"`{extra}` is not expected here." for extra in extras]
    if problems:
        raise SettingsError(problems)
    from logitkd.cli.demo import refuse_foreign, run_demo

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
