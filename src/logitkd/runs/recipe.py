"""A recipe as a plan reads it: every key and value checked, all problems at once."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from logitkd import methods, recipes
from logitkd.checks import shown, unknown
from logitkd.runs.config import TrainConfig, data_settings, run_settings
from logitkd.runs.rules import check_options
from logitkd.runs.settings import flatten, nest
from logitkd.runs.values import numbers, read, read_value

__all__ = ["Recipe", "partial", "sift"]

# What a recipe may set for one method beside its hyper-parameters: how its student is optimised.
BY_METHOD = ("optim", "schedule")
RECIPE_KEYS = ("method", "methods", "teacher_training")  # read apart


def sift(values: Mapping[str, Any], task: str, problems: list[str]) -> dict[str, Any]:
    """Return the dotted values that are of their settings' types; ``problems`` receives what is wrong with the others."""
    given = nest({"student.name": "", "teacher.name": "", **values})
    if "data" not in given:
        given["data"] = {}
    wrong = {key: lines for key, lines in partial(given, task)[1].items() if key in values}
    problems += [line for lines in wrong.values() for line in lines]
    return {key: value for key, value in values.items() if key not in wrong}


def partial(given: Mapping[str, Any], task: str) -> tuple[TrainConfig, dict[str, list[str]]]:
    """Return the settings of a run of ``task`` from nested keys, and by key what is wrong; see ``read``."""
    return read(TrainConfig, {"task": task, **given}, data=data_settings(task))


class Recipe:
    """A recipe read and checked: ``run`` and ``teacher_training`` hold dotted keys, ``methods`` each method's options.

    ``by_method`` holds the dotted keys that ``methods`` sets for a method, such as ``schedule.warmup``; ``refused`` the keys
    whose values are wrong.

    Without a name it is empty. Problems go to the list and the recipe holds what is left.
    """

    def __init__(self, name: str | None, problems: list[str], task: str | None = None) -> None:
        self.name, self.broken, self.task = name, False, task or TrainConfig.task
        self.run: dict[str, Any] = {}
        self.teacher_training: dict[str, Any] = {}
        self.method: str | None = None
        self.method_options: dict[str, Any] = {}
        self.methods: dict[str, dict[str, Any]] = {}
        self.by_method: dict[str, dict[str, Any]] = {}
        self.refused: set[str] = set()
        if name is None:
            return
        try:
            record = recipes.read(recipes.find(name))
        except (OSError, ValueError) as error:
            problems.append(str(error))
            self.broken = True
            return
        if task is None:
            self.task = str(record.get("task", self.task))
        self._known = run_settings(self.task)
        found: list[str] = []
        self._read_methods(record.pop("methods", None) or {}, found)
        self._read_method(record.pop("method", None), found)
        special = record.pop("teacher_training", None)
        if isinstance(special, Mapping):
            allowed = {k: s for k, s in self._known.items() if not k.startswith(("student.", "teacher."))}
            inside: list[str] = []
            self.teacher_training = self._values(flatten(special, allowed, inside), inside)
            found += [f"`teacher_training`: {problem}" for problem in inside]
        elif special is not None:
            found.append(f"`teacher_training` must be a section, got {shown(special)}.")
        if record.get("teacher", ...) is None and not any(str(key).startswith("teacher.") for key in record):  # null: none
            del record["teacher"]
        self.run = self._values(flatten(record, self._known, found, others=RECIPE_KEYS), found)
        problems += [f"recipe {name}: {problem}" for problem in found]

    def _values(self, values: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
        """Return values from YAML that are of their settings' types."""
        read_values = {key: numbers(self._known[key].type, value) for key, value in values.items()}
        good = sift(read_values, self.task, problems)
        self.refused |= read_values.keys() - good.keys()
        return good

    def _read_method(self, value: Any, problems: list[str]) -> None:
        if isinstance(value, Mapping):
            options = dict(value)
            value = options.pop("name", None)
            self.method_options = options
        if value is not None and value not in methods.names():
            problems.append(unknown("method", str(value), methods.names()))
            value = None
        if value is None and self.method_options:
            problems.append("`method` must hold a `name` beside its options.")
        elif value is not None:
            self.method = value
            options = self._set_apart(self.method_options, [value], "method", problems)
            self.method_options = check_options(value, options, "method.", problems)

    def _read_methods(self, value: Any, problems: list[str]) -> None:
        if not isinstance(value, Mapping):
            problems.append(f"`methods` must be a section of `method: {{option: value}}` lines, got {shown(value)}.")
            return
        for pattern, options in value.items():
            matched = fnmatch.filter(methods.names(), str(pattern))
            if not matched:
                problems.append(f"`methods`: {unknown('method', str(pattern), methods.names())}")
            elif not isinstance(options, Mapping):
                problems.append(f"`methods.{pattern}` must be options, {{option: value}}, got {shown(options)}.")
            else:
                found: list[str] = []
                left = self._set_apart(options, matched, f"methods.{pattern}", found)
                shipped = self.name in recipes.names()  # tests hold that its options are right: no loss is built for them
                for name in matched:
                    good = left if shipped else check_options(name, left, f"methods.{pattern}.", found)
                    self.methods.setdefault(name, {}).update(good)
                problems += dict.fromkeys(found)

    def _set_apart(self, options: Mapping[str, Any], names: list[str], written: str, problems: list[str]) -> dict[str, Any]:
        """Keep what ``options`` say of optimizer and schedule for the methods ``names``; return the hyper-parameters."""
        apart = {key: value for key, value in options.items() if str(key).partition(".")[0] in BY_METHOD}
        known = {key: setting for key, setting in self._known.items() if key.partition(".")[0] in BY_METHOD}
        wrong: list[str] = []
        settings = self._values(flatten(apart, known, wrong), wrong)
        problems += [f"`{written}`: {problem}" for problem in wrong]
        for name in names:
            self.by_method.setdefault(name, {}).update(settings)
        return {str(key): read_value(value) for key, value in options.items() if key not in apart}
