"""From a recipe and flags to a ``TrainConfig``: strict, all problems at once, before any data or model is touched.

What wins, last to first: flags, the recipe's ``teacher_training`` (with ``--role teacher``), what its ``methods`` set for the
method, the recipe, the defaults.
A method's hyper-parameters: ``--method.OPTION``, the recipe's ``method``, its ``methods``, the method table.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from logitkd import methods, recipes
from logitkd.checks import unknown
from logitkd.cli.flags import Setting, UsageError, convert_all, nest, read_value, split
from logitkd.data.splits import check_source
from logitkd.methods import Method
from logitkd.runs.config import TrainConfig, check_config, pair_name
from logitkd.runs.networks import check_one_teacher, file_name
from logitkd.runs.recipe import RUN, Recipe, check_options
from logitkd.training.labels import check_label_use

__all__ = ["TRAIN_FLAGS", "resolve"]

ROLE = "what to train: the recipe's student, or with cross-entropy its teacher, which the student's runs then find."
METHOD = Setting("method", str, "kd", "a name from `logitkd list`; --method.OPTION VALUE sets its hyper-parameters.")
TRAIN_FLAGS = {**RUN, "method": METHOD, "role": Setting("role", Literal["student", "teacher"], "student", ROLE)}

# The flags that a teacher's training is proposed with: prefixes, and whole names.
SHARED = ("data.", "optim.", "schedule."), ("epochs", "batch_size", "precision", "channels_last", "device")


def resolve(arguments: list[str]) -> TrainConfig:
    """Return the run that the arguments of ``logitkd train`` ask for.

    Raises:
        UsageError: with every problem there is.
    """
    problems: list[str] = []
    positional, flags = split(arguments, TRAIN_FLAGS, problems, free="method.")
    problems += [f"one recipe at a time: `{extra}` is one too many." for extra in positional[1:]]
    recipe = Recipe(positional[0] if positional else None, problems)
    typed = {key: text for key, text in flags.items() if not key.startswith("method.")}  # options: their class checks them
    given = convert_all(TRAIN_FLAGS, typed, "--", problems)
    teaching = given.pop("role", "student") == "teacher"

    chosen = given.pop("method", None)
    name = "ce" if teaching else chosen or recipe.method or TrainConfig.method
    special = recipe.teacher_training if teaching else {}
    values = {**recipe.run, **recipe.by_method.get(name, {}), **special, **given}
    if teaching:
        _become_teacher(values, given, recipe, problems)
        if chosen not in (None, "ce"):
            problems.append(f"`--role teacher` trains with the labels alone (`ce`), got `--method {chosen}`. Leave one out.")
    method = _method(name, flags, recipe, problems)
    if values.get("labels") == "none":
        method = _without_labels(method, flags, problems)
    if "student.name" not in values:
        if not recipe.broken:
            problems.append("`--student NAME` must be given, or a recipe: `logitkd list recipes`.")
        values["student.name"] = "cifar_resnet8"  # so that the rest can be checked as well
    config: TrainConfig = replace(
        nest(TrainConfig, {"teacher.name": "", **values}),
        method=method.name,
        method_options={k: v for k, v in method.options.items() if v != methods.get(method.name).options[k]},
    )
    config = _with_teacher(config, method, flags, recipe, problems)
    if config.output is None and recipe.name is not None:
        config = replace(config, output=str(_folder(config, recipe, given, teaching)))
    problems += _check_values(config)
    problems += _check_found(config, method)
    try:
        check_label_use(config, method)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise UsageError(problems)
    return config


def _method(name: str, flags: Mapping[str, str], recipe: Recipe, problems: list[str]) -> Method:
    """Return the method called ``name``, its hyper-parameters resolved."""
    if name not in methods.names():
        problems.append(unknown("method", name, methods.names()))
        return methods.get("ce")
    options = dict(recipe.methods.get(name, {}))
    if recipe.method == name:
        options |= recipe.method_options
    typed = {key.removeprefix("method."): text for key, text in flags.items() if key.startswith("method.")}
    options |= check_options(name, typed, "--method.", problems)
    try:
        return methods.get(name).replace(**options)
    except (TypeError, ValueError) as error:  # each option is good alone: they do not go together
        problems.append(f"method `{name}`: {error}")
        return methods.get(name)


def _without_labels(method: Method, flags: Mapping[str, str], problems: list[str]) -> Method:
    """Return the method trained on the teacher alone; a recipe's weights for the labels give way, a flag's do not."""
    typed = {key.removeprefix("method."): read_value(text) for key, text in flags.items() if key.startswith("method.")}
    try:
        return method.without_labels(typed)
    except ValueError as error:
        problems.append(str(error))
        return method


def _become_teacher(values: dict[str, Any], given: dict[str, Any], recipe: Recipe, problems: list[str]) -> None:
    """Put the teacher in the student's place."""
    if "teacher.name" not in values:
        problems.append("`--role teacher` needs a teacher to train: a recipe that names one, or `--teacher NAME`.")
        return
    values["student.name"] = values.pop("teacher.name")
    for key in ("teacher.checkpoint", "student.checkpoint", "student.pool", "student.head"):
        values.pop(key, None)
        if key in given:
            problems.append(f"`--{key}` does not go with `--role teacher`, which trains the teacher from random weights.")
    for key in ("pool", "head"):
        if f"teacher.{key}" in values:
            values[f"student.{key}"] = values.pop(f"teacher.{key}")
    if "output" not in given and "output" not in recipe.teacher_training:
        values.pop("output", None)  # the recipe's is its student's


def _with_teacher(
    config: TrainConfig, method: Method, flags: Mapping[str, str], recipe: Recipe, problems: list[str]
) -> TrainConfig:
    """Settle the teacher: none where nothing reads it, else with the weights given or those of its default run."""
    teacher = config.teacher
    assert teacher is not None
    from logitkd.models import check_name, read_name
    from logitkd.training.networks import brings_weights  # with timm

    if not method.has_teacher and teacher.checkpoint is None and not read_name(teacher.name).has_weights:
        return replace(config, teacher=None)
    if not teacher.name:
        if not recipe.broken:
            why = f"`{method.name}` learns from one" if method.has_teacher else "its checkpoint is"
            problems.append(f"`--teacher NAME` must be given, as {why}, or a recipe that names it.")
        return replace(config, teacher=None)
    problems += [
        f"`{role}.checkpoint` must be given: without it `{other.name}` would teach random weights."
        for role, other in teacher.members().items()
        if role != "teacher" and not brings_weights(other)
    ]
    if brings_weights(teacher):
        return config
    folder = _teacher_folder(teacher.name, recipe)
    if (folder / "student.safetensors").exists():
        return replace(config, teacher=replace(teacher, checkpoint=str(folder)))
    try:
        check_name(teacher.name)
    except ValueError:  # which is named among the problems; nothing could be trained by that name
        problems.append(f"the teacher `{teacher.name}` has no weights: give its checkpoint with `--teacher.checkpoint PATH`.")
        return config
    words = ["logitkd", "train"]
    words += [recipe.name, "--role", "teacher"] if recipe.name else ["--student", teacher.name, "--method", "ce"]
    for key, text in flags.items():
        if key.startswith(SHARED[0]) or key in SHARED[1] or (key == "teacher.name" and recipe.name):
            words += [f"--{key.removesuffix('.name')}", text]
    problems.append(
        f"the teacher `{teacher.name}` has no weights, and no finished run of it is in {folder}. Train it with\n"
        f"    {shlex.join(words)}\nor give its checkpoint with `--teacher.checkpoint PATH`."
    )
    return config


def _group(recipe: Recipe) -> Path:
    """Return the folder that the runs of a recipe's neighbours share: ``runs/cifar100``, or ``runs/NAME`` of a lone one."""
    assert recipe.name is not None
    return Path("runs") / (Path(recipe.name).parent if _shares(recipe) else Path(recipe.name).stem)


def _shares(recipe: Recipe) -> bool:
    """Whether the recipe is shipped in a folder with others that may have the same teacher."""
    return recipe.name in recipes.names() and "/" in recipe.name


def _teacher_folder(name: str, recipe: Recipe) -> Path:
    return (Path("runs") if recipe.name is None else _group(recipe)) / file_name(name) / "ce-seed0"


def _folder(config: TrainConfig, recipe: Recipe, given: Mapping[str, Any], teaching: bool) -> Path:
    """Return the run folder of a recipe's run: its pair's, or its teacher's, which other pairs with that teacher share."""
    pair = Path(recipe.name or "").stem if _shares(recipe) else ""
    if teaching or {"student.name", "teacher.name", "teacher.others"} & given.keys():
        pair = pair_name(config)
    return _group(recipe) / pair / f"{config.method}-seed{config.seed}"


def _check_values(config: TrainConfig) -> list[str]:
    """Return what the engine and the networks' builder would refuse."""
    from logitkd.models import check_name
    from logitkd.training.accelerator import resolve_device  # accelerate and timm cost seconds: not for `--help`

    problems: list[str] = []
    try:
        with warnings.catch_warnings(action="ignore"):  # `train` gives them
            check_config(config)
    except ValueError as error:
        problems += str(error).splitlines()
    try:
        resolve_device(config.device)
    except ValueError as error:
        problems.append(str(error))
    members = {} if config.teacher is None else config.teacher.members()
    for network in (config.student, *members.values()):
        try:
            check_name(network.name)
        except ValueError as error:
            problems.append(str(error))
    return problems


def _check_found(config: TrainConfig, method: Method) -> list[str]:
    """Return what names lead nowhere, by a look at folders and at one's own modules; no data is read, no network built."""
    from logitkd.models import find_own, read_name

    problems: list[str] = []
    try:
        check_source(config.data)
    except (OSError, ValueError) as error:
        problems.append(str(error))
    if config.teacher is not None:
        try:
            check_one_teacher(config.teacher, method)
        except ValueError as error:
            problems.append(str(error))
    networks = [config.student, *({} if config.teacher is None else config.teacher.members()).values()]
    for name in dict.fromkeys(network.name for network in networks):
        if read_name(name).kind != "own":
            continue
        try:
            find_own(name)
        except (TypeError, ValueError) as error:
            problems.append(str(error))
        except ImportError as error:  # it is there; something that it imports is not
            problems.append(f"model `{name}` cannot be imported: {error}.")
    return problems
