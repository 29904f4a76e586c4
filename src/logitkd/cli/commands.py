"""What each command does with its arguments: hand them to the part that knows, and print what comes back."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from logitkd import recipes
from logitkd.cli import pages, tables
from logitkd.cli.evaluating import eval_task, evaluate_command, folders_of, look_here, show_command
from logitkd.cli.options import (
    DEMO_FLAGS,
    EXPORT_FLAGS,
    PREDICT_FLAGS,
    SHOW_ALONE,
    DemoFlags,
    ExportFlags,
    PredictFlags,
    eval_flags,
    read_flags,
    split,
    train_flags,
)
from logitkd.cli.outcome import show_export, show_result, whence
from logitkd.cli.predicting import show_predictions
from logitkd.runs.config import TrainConfig
from logitkd.runs.settings import Setting, SettingsError, nest
from logitkd.runs.values import read

__all__ = ["page", "planned", "run"]

T = TypeVar("T")


def page(name: str, arguments: Sequence[str] = ()) -> str:
    """Return the help page of a command.

    Args:
        name: of the command.
        arguments: of it: they may name a task, or a run folder of one, which decides the flags of the data; with
            ``--help-all`` every flag is shown, not only those that people use.
    """
    first: tuple[str, ...] = () if "--help-all" in arguments else pages.FIRST
    train = train_flags(_task(arguments)) if name == "train" else {}
    text, flags, first = {
        "train": (pages.TRAIN, train, tuple(key for key in first if key in train)),
        "eval": (pages.EVAL, eval_flags(eval_task(arguments)), ()),
        "predict": (pages.PREDICT, PREDICT_FLAGS, ()),
        "show": (pages.SHOW, eval_flags(eval_task(arguments, SHOW_ALONE), SHOW_ALONE), ()),
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
    commands = {
        "train": _train,
        "eval": evaluate_command,
        "predict": _predict,
        "show": show_command,
        "export": _export,
        "demo": _demo,
        "list": _list,
    }
    commands[name](arguments)


def _list(arguments: list[str]) -> None:
    from logitkd.cli.listing import show_list  # torch comes with the methods: not for `--help`

    show_list(arguments)


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
    look_here()
    config = planned(arguments)  # with it one's own code is imported
    networks = config.networks()
    for role, network in networks.items():
        if role != "student":
            print(f"teacher: {network.name}{whence(network)}", file=sys.stderr)
    with opening([config.output or default_folder(config), *folders_of(networks.values())]):
        result = train(config)
    words, flags = split(arguments, train_flags(_task(arguments)), [], free="method.")
    show_result(config, result, words[0] if words else None, flags)


def _read_flags(
    record: type[T], known: Mapping[str, Setting], arguments: list[str], problems: list[str], **given: Any
) -> tuple[list[str], T, set[str]]:
    """Return positional arguments, the flags as ``record``, and which were given; ``problems`` receives what is wrong."""
    positional, values = read_flags(arguments, known, problems)
    flags, wrong = read(record, nest(given | values))
    problems += [line for lines in wrong.values() for line in lines]
    return positional, flags, values.keys() - wrong.keys()


def _predict(arguments: list[str]) -> None:
    problems: list[str] = []
    words, flags, _ = _read_flags(PredictFlags, PREDICT_FLAGS, arguments, problems)
    if len(words) < 2:
        got = "a run alone" if words else "none"
        problems.append(f"a run folder and files must be given: `logitkd predict RUN FILES...`, got {got}.")
    if problems:
        raise SettingsError(problems)
    options = dict(vars(flags))
    form = options.pop("format")
    from logitkd.prediction import predict

    look_here()
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
    look_here()
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
