"""A recipe as the command line reads it: every key and value checked, all problems at once."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from logitkd import methods, recipes
from logitkd.checks import shown, unknown
from logitkd.cli.flags import convert_all, flatten, read_value, settings_of, unknown_key
from logitkd.methods import Method
from logitkd.runs.config import TrainConfig

__all__ = ["RUN", "Recipe", "check_options"]

RUN = settings_of(TrainConfig, skip={"method", "method_options"})
# What a recipe may set for one method beside its hyper-parameters: how its student is optimised.
BY_METHOD = {key: setting for key, setting in RUN.items() if key.startswith(("optim.", "schedule."))}
RECIPE_KEYS = ("method", "methods", "teacher_training")  # read apart


class Recipe:
    """A recipe read and checked: ``run`` and ``teacher_training`` hold dotted keys, ``methods`` each method's options.

    ``by_method`` holds the dotted keys that ``methods`` sets for a method, such as ``schedule.warmup``.

    Without a name it is empty. Problems go to the list and the recipe holds what is left.
    """

    def __init__(self, name: str | None, problems: list[str]) -> None:
        self.name, self.broken = name, False
        self.run: dict[str, Any] = {}
        self.teacher_training: dict[str, Any] = {}
        self.method: str | None = None
        self.method_options: dict[str, Any] = {}
        self.methods: dict[str, dict[str, Any]] = {}
        self.by_method: dict[str, dict[str, Any]] = {}
        if name is None:
            return
        try:
            record = recipes.read(recipes.find(name))
        except (OSError, ValueError) as error:
            problems.append(str(error))
            self.broken = True
            return
        found: list[str] = []
        self._read_methods(record.pop("methods", None) or {}, found)
        self._read_method(record.pop("method", None), found)
        special = record.pop("teacher_training", None)
        if isinstance(special, Mapping):
            allowed = {k: s for k, s in RUN.items() if not k.startswith(("student.", "teacher."))}
            inside: list[str] = []
            self.teacher_training = convert_all(RUN, flatten(special, allowed, inside), "", inside)
            found += [f"`teacher_training`: {problem}" for problem in inside]
        elif special is not None:
            found.append(f"`teacher_training` must be a section, got {shown(special)}.")
        if record.get("teacher", ...) is None and not any(str(key).startswith("teacher.") for key in record):  # null: none
            del record["teacher"]
        self.run = convert_all(RUN, flatten(record, RUN, found, others=RECIPE_KEYS), "", found)
        problems += [f"recipe {name}: {problem}" for problem in found]

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
                for name in matched:
                    self.methods.setdefault(name, {}).update(check_options(name, left, f"methods.{pattern}.", found))
                problems += dict.fromkeys(found)

    def _set_apart(self, options: Mapping[str, Any], names: list[str], written: str, problems: list[str]) -> dict[str, Any]:
        """Keep what ``options`` say of optimizer and schedule for the methods ``names``; return the hyper-parameters."""
        apart = {key: value for key, value in options.items() if str(key).partition(".")[0] in ("optim", "schedule")}
        wrong: list[str] = []
        settings = convert_all(BY_METHOD, flatten(apart, BY_METHOD, wrong), "", wrong)
        problems += [f"`{written}`: {problem}" for problem in wrong]
        for name in names:
            self.by_method.setdefault(name, {}).update(settings)
        return {key: value for key, value in options.items() if key not in apart}


def check_options(name: str, options: Mapping[str, Any], written: str, problems: list[str]) -> dict[str, Any]:
    """Return the options of a method, each checked by the class that uses it; a bad one is left out."""
    method, good = methods.get(name), {}
    for option, text in options.items():
        value = read_value(text)
        if option not in method.options:
            problems.append(f"method `{name}`: {unknown_key(option, method.options, 'option', written)}{_has(method)}")
            continue
        try:
            method.replace(**{option: value})
            good[option] = value
        except (TypeError, ValueError) as error:
            problems.append(f"method `{name}`, `{written}{option}`: {error}")
    return good


def _has(method: Method) -> str:
    return f" It has {', '.join(method.options)}."
