"""Everything that can be refused before data are read or a network is built, for the command line and Python alike.

The types of the settings refuse single values (``runs/values.py``); here is what takes a look at several of them, at the table
of methods, or at what there is: files, devices, networks by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from logitkd import methods, tasks
from logitkd.checks import check_choice, collector, unknown
from logitkd.data.class_weights import BALANCED, read_class_weights
from logitkd.methods import Method
from logitkd.runs.config import DistillConfig, ScheduleConfig, StonesConfig, TrainConfig, data_settings, warmup_length
from logitkd.runs.device import resolve_device
from logitkd.runs.network_rules import brings_weights, network_problems, output_of
from logitkd.runs.of_run import network_of_run
from logitkd.runs.settings import SettingsError, unknown_key
from logitkd.runs.values import plain, read

__all__ = ["check_options", "checked", "hints", "problems", "resolve_method", "usual_method", "without_hard_labels"]


def checked(settings: TrainConfig) -> TrainConfig:
    """Return the settings with every value in its type (a list is a tuple, a teacher a ``TeacherConfig``).

    A network whose name is a run folder is that run's student.

    Raises:
        SettingsError: with all that is wrong with them.
    """
    found: list[str] = []
    given = plain(settings)
    for role in ("student", "teacher"):
        if isinstance(given[role], dict):
            try:
                given[role] = network_of_run(role, given[role])
            except (OSError, TypeError, ValueError) as error:
                found.append(str(error))
    if found:  # the settings of a network that is not there say nothing
        raise SettingsError(found)
    read_settings, refused = read(TrainConfig, given, data=data_settings(settings.task))
    found = [line for lines in refused.values() for line in lines] + problems(read_settings, refused)
    if found:
        raise SettingsError(found)
    return read_settings


def problems(settings: TrainConfig, refused: Collection[str] = ()) -> list[str]:
    """Return all that is wrong with settings whose values are each of their type, a message each.

    Args:
        settings: the run's.
        refused: keys whose values were refused and left out; what a rule says about one of them is not said.
    """
    found: list[str] = []
    check = collector(found)
    found += getattr(settings.data, "problems", lambda run: [])(settings)
    found += _unread(settings)
    if settings.output == "":
        found.append("`output` must be a folder's name, got ''. Leave it out for the default folder.")
    if settings.class_weights not in (None, BALANCED):
        check(read_class_weights, settings.class_weights)
    found += _schedule(settings.schedule) + _stones(settings.stones)
    check(resolve_device, settings.device)
    found += _trackers(settings.trackers)
    found += network_problems(settings, refused)
    if "method" not in refused:
        found += _method(settings)
    return [message for message in dict.fromkeys(found) if not any(f"`{key}`" in message for key in refused)]


def _unread(settings: TrainConfig) -> list[str]:
    """What is set of a run's data that its task does not read: the data settings say in ``run_settings`` what it reads."""
    read = getattr(settings.data, "run_settings", ())
    names = ("labels", "mixup", "cutmix", "class_weights", "channels_last", "aux_weight")
    given = {name: getattr(settings, name) for name in names if getattr(settings, name) != getattr(TrainConfig, name)}
    if settings.distill.grid != DistillConfig.grid:
        given["distill.grid"] = settings.distill.grid
    for role, network in settings.networks().items():
        values = {name: getattr(network, name, None) for name in ("mean", "std", "pool", "head")}
        given |= {f"{role}.{name}": value for name, value in values.items() if value is not None}
    return [
        f"`{key}` must be left out, got {value!r}: the task `{settings.task}` does not read it."
        for key, value in given.items()
        if not {key, key.rpartition(".")[2]} & set(read)
    ]


def hints(settings: TrainConfig) -> list[str]:
    """Return what is allowed and unlikely to be meant, a message each."""
    said = []
    optim, schedule, method = settings.optim, settings.schedule, resolve_method(settings)
    if optim.name == "adamw" and optim.lr > 0.01:
        said.append(f"`optim.lr` should be lower for `adamw`, got {optim.lr:g}: that is an SGD rate; 0.001 is usual for adamw.")
    if schedule.warmup and schedule.moves == "epoch" and warmup_length(schedule, settings.epochs) < 2:
        said.append(
            f"`schedule.warmup` {schedule.warmup:g} of {settings.epochs} epochs is less than two: the learning rate is full"
            " from the first epoch on."
        )
    if method.has_teacher and method.warmup_epochs >= settings.epochs:
        when = "reaches its full weight only in the last epoch"
        if method.warmup_epochs > settings.epochs:
            when = "never reaches its full weight"
        said.append(
            f"`warmup_epochs` should be below `epochs` ({settings.epochs}), got {method.warmup_epochs}: the distillation "
            f"loss {when}. Set it among the method's options, `--method.warmup_epochs` on the command line."
        )
    return said


def usual_method(name: str, task: str) -> Method:
    """Return the method called ``name`` with the hyper-parameters that it has on a task where nobody says otherwise.

    Those are the table's, but for what the dataclass of the task's data says in ``method_defaults``.
    """
    method = methods.get(name)
    defaults = getattr(tasks.settings_of(task), "method_defaults", {}) if method.has_teacher and task in tasks.names() else {}
    return method.replace(**{option: value for option, value in defaults.items() if option in method.options})


def resolve_method(settings: TrainConfig) -> Method:
    """Return the method a run trains with: its options applied, and with ``labels: none`` nothing in it reads a label.

    Raises:
        ValueError: the method or one of its options.
        TypeError: an option's value is of the wrong type.
    """
    method = usual_method(settings.method, settings.task).replace(**settings.method_options)
    return method.without_labels(settings.method_options) if settings.labels == "none" else method


def check_options(name: str, options: Mapping[str, Any], written: str, problems: list[str]) -> dict[str, Any]:
    """Return the options of a method, each checked by the class that uses it; a bad one is left out.

    Args:
        name: of the method.
        options: its hyper-parameters.
        written: what stands before them where they were given: ``method.``.
        problems: receives what is wrong.
    """
    method, good = methods.get(name), {}
    try:
        method.replace(**options)
        return dict(options)
    except (TypeError, ValueError):  # one at a time, to say all that is wrong
        pass
    for option, value in options.items():
        if option not in method.options:
            message = unknown_key(option, method.options, "option", written)
            problems.append(f"method `{name}`: {message} It has {', '.join(method.options)}.")
            continue
        try:
            method.replace(**{option: value})
            good[option] = value
        except (TypeError, ValueError) as error:
            problems.append(f"method `{name}`, `{written}{option}`: {error}")
    return good


def without_hard_labels(method: Method, output: str = "classes") -> str:
    """Say which methods can do without the class of every example, of networks of this output, and how this one can."""
    rows = [methods.get(name) for name in methods.names()]
    fit = [row for row in rows if row.loss is None or not row.loss.unfit(output)]
    can = ", ".join(row.name for row in fit if not row.needs_hard_labels)
    options = {name: value for name, value in method.label_free_options.items() if name != "ce_weight"}
    hint = ""
    if options and not method.replace(**options).needs_hard_labels:
        hint = " So can this one with " + ", ".join(f"`{name}: {value}`" for name, value in options.items()) + "."
    return f"These can do it: {can}.{hint}"


def _method(settings: TrainConfig) -> list[str]:
    """What a method cannot do with the settings; a wrong option is left out."""
    found: list[str] = []
    if settings.method not in methods.names():
        return [unknown("method", settings.method, methods.names())]
    good = check_options(settings.method, settings.method_options, "method.", found)
    try:
        method = resolve_method(replace(settings, method_options=good))
    except (TypeError, ValueError) as error:  # each option is good alone: they do not go together, or ask for labels
        return [*found, str(error)]
    return found + _outputs(settings, method) + _labels(settings, method) + _teacher(settings, method)


def _outputs(settings: TrainConfig, method: Method) -> list[str]:
    """What a method cannot do with what the task's networks return: a row of logits an example, or maps of them."""
    output = output_of(settings)
    why = "" if method.loss is None else method.loss.unfit(output)
    if not why:
        return []
    losses = {name: methods.get(name).loss for name in methods.names()}
    others = ", ".join(name for name, loss in losses.items() if loss is not None and not loss.unfit(output))
    return [f"`method` must fit the task `{settings.task}`, got `{method.name}`: {why}. These fit: {others}."]


def _labels(settings: TrainConfig, method: Method) -> list[str]:
    """What a method cannot do with labels that are mixed, or weigh where it has no cross-entropy."""
    found = []
    mixing = [name for name in ("mixup", "cutmix") if getattr(settings, name)]
    if mixing and method.needs_hard_labels:
        found.append(
            f"`{mixing[0]}` must be 0 for `{method.name}`, whose loss needs the class of every image, "
            f"got {getattr(settings, mixing[0])}. {without_hard_labels(method, output_of(settings))}"
        )
    if settings.class_weights is not None and method.ce_weight == 0:
        fix = "" if settings.labels == "none" else ", or give the labels a share of the loss: `--method.ce_weight 0.1`"
        found.append(
            f"`class_weights` must be left out where there is no cross-entropy to weigh, got {settings.class_weights} for "
            f"`{method.name}` with `ce_weight` 0. Leave it out{fix}."
        )
    return found


def _teacher(settings: TrainConfig, method: Method) -> list[str]:
    """Whether there is the teacher that a method learns from, and it has weights."""
    teacher, found = settings.teacher, []
    if teacher is None:
        if method.has_teacher:
            found.append(f"`teacher` must be given, as the method `{method.name}` learns from one, got none.")
        return found
    if method.one_teacher and teacher.others:
        found.append(
            f"`teacher.others` must be empty for the method `{method.name}`, got {len(teacher.others)}: its stones run "
            "through the blocks of one teacher. Leave them out, or take a method that reads logits."
        )
    if method.has_teacher:
        found += [
            f"`{role}.checkpoint` must be given: without it `{member.name}` would teach random weights. Train one with "
            "`method: ce` first and give its run folder, or name pretrained weights."
            for role, member in teacher.members().items()
            if not brings_weights(member)
        ]
    return found


def _schedule(schedule: ScheduleConfig) -> list[str]:
    first = min(schedule.milestones, default=1.0) if schedule.name == "multistep" else 1.0
    if schedule.warmup <= first:
        return []
    return [
        f"`schedule.warmup` must be at most the first of `schedule.milestones`, {first:g}, got {schedule.warmup:g}:"
        " the rate would fall before it has risen."
    ]


def _stones(stones: StonesConfig) -> list[str]:
    found = [
        f"`stones.{side}` must hold at least one module path, got none. Leave it out to have them found."
        for side in ("student", "teacher")
        if getattr(stones, side) == ()
    ]
    if stones.student and stones.teacher and len(stones.student) != len(stones.teacher):
        found.append(
            f"`stones.student` and `stones.teacher` must hold as many paths, got {len(stones.student)} and"
            f" {len(stones.teacher)}: one of each for every stepping stone."
        )
    return found


def _trackers(names: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    if names:
        from accelerate.tracking import get_available_trackers  # costs a second: only for those who log
        from accelerate.utils import LoggerType

        known = [name for name in map(str, LoggerType) if name != "all"]  # "all" is no tracker: whatever is installed
        for name in names:
            collector(found)(check_choice, "trackers", name, known)
        missing = [name for name in names if name in known and name not in map(str, get_available_trackers())]
        if missing:
            found.append(f"`trackers` must be installed, but {', '.join(missing)} is not. Try `pip install {missing[0]}`.")
    return found
