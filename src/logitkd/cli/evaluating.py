"""``logitkd eval`` and ``logitkd show``: from run folders, checkpoints and flags to what is evaluated on what."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from logitkd import tasks
from logitkd.checks import unknown
from logitkd.cli.options import EVAL_ALONE, SHOW_ALONE, EvalFlags, ShowFlags, eval_flags, read_flags, split
from logitkd.cli.outcome import show_evaluations
from logitkd.runs.config import TrainConfig, data_settings
from logitkd.runs.folder import read_run, run_folder_of
from logitkd.runs.networks import ModelConfig, TeacherConfig
from logitkd.runs.settings import Setting, SettingsError, nest
from logitkd.runs.values import plain, read, validate

__all__ = ["eval_task", "evaluate_command", "folders_of", "look_here", "show_command"]


F = TypeVar("F", EvalFlags, ShowFlags)
Plan = tuple[ModelConfig, Any, TeacherConfig | None]


def look_here() -> None:
    """Have Python find one's own ``module:callable`` in the folder one works in, until the command is over.

    A command that opens run folders has to import what is ours first: a file there could take the place of a library.
    """
    sys.path.insert(0, os.getcwd())


def folders_of(networks: Iterable[ModelConfig]) -> list[Path]:
    """Return the run folders that checkpoints are, or lie in."""
    found = (run_folder_of(network.checkpoint) for network in networks)
    return [folder for folder in found if folder is not None]


def evaluate_command(arguments: list[str]) -> None:
    """Run ``logitkd eval``.

    Raises:
        SettingsError: the arguments are wrong; nothing was done.
    """
    targets, flags, plans, recorded = read_plans(EvalFlags, EVAL_ALONE, arguments, _refuse_none)
    from logitkd.evaluation import evaluate

    with code_of(plans, recorded, trust_code=flags.trust_code):
        options: dict[str, Any] = {key: getattr(flags, key) for key in ("batch_size", "device", "latency")}
        found = [evaluate(model, data, teacher=teacher, **options) for model, data, teacher in plans]
    show_evaluations(targets, plans, found)


def show_command(arguments: list[str]) -> None:
    """Run ``logitkd show``.

    Raises:
        SettingsError: the arguments are wrong; nothing was done.
    """
    targets, flags, plans, recorded = read_plans(ShowFlags, SHOW_ALONE, arguments, _refuse_no_run)
    from logitkd.showing import show

    with code_of(plans, recorded, trust_code=flags.trust_code):
        (_, data, teacher), (run,) = plans[0], targets
        options: dict[str, Any] = {key: getattr(flags, key) for key in ("count", "batch_size", "device", "trust_code")}
        page = show(run, flags.output, data=data, teacher=teacher or False, **options)
    print(f"{page.path}: {page.examples} examples. {page.summary}.")


def _refuse_none(targets: Sequence[str]) -> list[str]:
    return [] if targets else ["a run folder or a checkpoint must be given: `logitkd eval RUN`."]


def _refuse_no_run(targets: Sequence[str]) -> list[str]:
    if len(targets) != 1:
        return [f"one run folder must be given: `logitkd show RUN`, got {' '.join(targets) or 'none'}."]
    problems: list[str] = []
    found = _run_of(Path(targets[0]), problems)
    if found is None and not problems:
        problems.append(f"`{targets[0]}` must be a run folder, but there is no config.yaml in it. Give another folder.")
    return problems


Recorded = list[tuple[str, str]]  # a network's name that a run folder says and no flag, and the folder


def read_plans(
    kind: type[F], alone: Mapping[str, Setting], arguments: list[str], refuse: Callable[[Sequence[str]], list[str]]
) -> tuple[list[str], F, list[Plan], Recorded]:
    """Return a command's targets, its flags, and of each target what is evaluated; and which networks' names run folders say.

    Args:
        kind: of the flags.
        alone: those flags but for those of the data.
        arguments: the command's.
        refuse: says what is wrong with the targets.

    Raises:
        SettingsError: the arguments are wrong.
    """
    problems: list[str] = []
    targets, values = read_flags(arguments, eval_flags(eval_task(arguments, alone), alone), problems)
    flags, wrong = read(kind, nest({"teacher.name": "", **_of(values, "data.", leave_out=True)}))
    problems += [line for lines in wrong.values() for line in lines]
    given = values.keys() - wrong.keys()
    amiss: list[str] = refuse(targets)
    recorded: Recorded = []
    plans = [_plan(target, flags, _of(values, "data."), given, recorded, problems) for target in ([] if amiss else targets)]
    if problems or amiss:
        raise SettingsError(list(dict.fromkeys([*problems, *amiss])))
    return targets, flags, plans, recorded


@contextmanager
def code_of(plans: Sequence[Plan], recorded: Recorded, *, trust_code: bool) -> Iterator[None]:
    """Import the networks' code: what was typed also from where one is, what a run folder says from elsewhere than there."""
    from logitkd.models import find_own, import_recorded, opening, read_name

    look_here()
    teachers = [member for *_, teacher in plans if teacher is not None for member in teacher.members().values()]
    for name in {network.name for network in (*teachers, *(model for model, *_ in plans))} - {name for name, _ in recorded}:
        if read_name(name).kind == "own":
            find_own(name)  # typed here, and so it may lie here, even in a run folder
    with opening(folders_of([*(model for model, *_ in plans), *teachers]), trust_code=trust_code):
        for name, folder in recorded:
            import_recorded(name, folder, trust_code=trust_code)
        yield


def eval_task(arguments: Sequence[str], alone: Mapping[str, Setting] = EVAL_ALONE) -> str | None:
    """Return the task that the arguments of a command that evaluates name, or the first run folder among them."""
    try:
        targets, flags = split(arguments, alone, [])
    except SettingsError:  # which is said when they are read
        return None
    if "task" in flags:
        return flags["task"]
    runs = (_run_of(Path(target), []) for target in targets)
    return next((str(run.get("task", TrainConfig.task)) for run in runs if run is not None), None)


def _of(values: Mapping[str, Any], section: str, leave_out: bool = False) -> dict[str, Any]:
    """Return the values of a section by their names in it, or those of all others by their keys."""
    if leave_out:
        return {key: value for key, value in values.items() if not key.startswith(section)}
    return {key.removeprefix(section): value for key, value in values.items() if key.startswith(section)}


def _plan(
    target: str,
    flags: EvalFlags | ShowFlags,
    changed: dict[str, Any],
    given: Set[str],
    recorded: Recorded,
    problems: list[str],
) -> Plan:
    """Return the network, data and teacher that a target and the flags mean; some were ``given``, ``changed`` are the data's.

    ``recorded`` receives each network's name that a run folder says and no flag, and the folder.
    """
    path = Path(target)
    teacher = flags.teacher if flags.teacher and (flags.teacher.name or flags.teacher.checkpoint) else None
    taught = {name: value for name, value in (plain(flags.teacher) or {}).items() if f"teacher.{name}" in given}
    was = _run_of(path, problems)
    task = str(flags.task or TrainConfig.task if was is None else was.get("task", TrainConfig.task))
    data: Any
    data, wrong = read(data_settings(task), {**({} if was is None else was["data"]), **changed}, "data.")
    problems += [line for lines in wrong.values() for line in lines]
    if was is not None and flags.task not in (None, task):
        problems.append(f"`--task` must be left out, or what {target} was trained on, `{task}`, got `{flags.task}`.")
    if was is not None:
        model = ModelConfig(flags.model or was["student"]["name"], target)
        if flags.model is None:
            recorded.append((model.name, target))
        if teacher is None and was.get("teacher") is not None:
            teacher = _recorded_teacher(target, validate(TeacherConfig, {**was["teacher"], **taught}, "teacher."))
            members = {} if teacher is None else teacher.members()
            recorded += [(m.name, target) for role, m in members.items() if role == "teacher" or "others" not in taught]
    else:
        model = ModelConfig(flags.model or "", target)
        if flags.task is not None and flags.task not in tasks.names():
            problems.append(unknown("task", flags.task, tasks.names()))
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
    if teacher is not None:
        from logitkd.runs.of_run import is_run_folder, looked_up  # with torch

        folders = {role: member.name for role, member in teacher.members().items() if is_run_folder(member.name)}
        try:
            teacher = looked_up("teacher", teacher, import_code=False)
            recorded += [(teacher.members()[role].name, folder) for role, folder in folders.items()]
        except (OSError, ValueError) as error:
            problems.append(str(error))
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
    absent = teacher.absent()
    if absent is None:
        return teacher
    key, path = absent
    role, _, what = key.rpartition(".")
    where = "teacher.others" if role != "teacher" else key
    print(
        f"{target}: no agreement, as its teacher's {what} {path} is not there. Say where it is with `--{where}`.",
        file=sys.stderr,
    )
    return None
