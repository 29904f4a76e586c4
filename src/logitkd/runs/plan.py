"""From a recipe and overrides to a ``TrainConfig``: strict, all problems at once, before any data or model is touched.

What wins, last to first: overrides, the recipe's ``teacher_training`` (for its teacher), what its ``methods`` set for the
method, the recipe, the task's defaults.
A method's hyper-parameters: the override ``method.OPTION``, the recipe's ``method``, its ``methods``, what the task has for
every method, the method table.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from logitkd import methods, recipes
from logitkd.checks import shown, unknown
from logitkd.methods import Method
from logitkd.models import Output, check_name, read_name
from logitkd.runs.config import TrainConfig, run_settings
from logitkd.runs.folder import STUDENT
from logitkd.runs.naming import default_folder, pair_name, run_name, teacher_run
from logitkd.runs.network_rules import brings_weights, output_of
from logitkd.runs.of_run import is_path, network_of_run
from logitkd.runs.recipe import Recipe, partial, sift
from logitkd.runs.rules import check_options, problems, usual_method
from logitkd.runs.settings import SettingsError, flatten, nest
from logitkd.runs.values import STANDS_IN, plain

__all__ = ["plan"]

STUDENTS = ("checkpoint", "pool", "head", "layers")  # of no use to the teacher's training

# The settings that a teacher's training is proposed with: prefixes, and whole keys.
SHARED = ("data.", "optim.", "schedule."), ("task", "epochs", "batch_size", "precision", "channels_last", "device")


def plan(
    recipe: str | Path | None = None,
    method: str | None = None,
    role: Literal["student", "teacher"] = "student",
    overrides: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Return the run that a recipe and what is changed in it come to; nothing is trained, read or built.

    Args:
        recipe: the name of a shipped one or the path of one's own; ``None`` for the defaults.
        method: its name; by default the recipe's.
        role: what to train: the recipe's student, or with cross-entropy its teacher, which the student's runs then find.
        overrides: values by key, as a recipe has them, dotted or in sections; a method's options under ``method``:
            ``{"optim.lr": 0.1, "method.top_k": 3}``.

    Raises:
        SettingsError: with every problem there is.

    >>> plan("digits", "ce", overrides={"epochs": 3, "optim": {"lr": 0.1}}).output
    'runs/digits/ce-lr0.1-epochs3-seed0'
    """
    wrong: list[str] = []
    if role not in ("student", "teacher"):
        raise SettingsError([f"`role` must be one of 'student', 'teacher', got {role!r}."])
    if method is not None and not isinstance(method, str):
        raise SettingsError([f"`method` must be a name, got {method!r}. Its options go among the overrides."])
    if not isinstance(overrides or {}, Mapping) or any(not isinstance(key, str) for key in overrides or {}):
        raise SettingsError([f"`overrides` must be values by key, {{'optim.lr': 0.1}}, got {shown(overrides)}."])
    options: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in ((key, plain(value)) for key, value in (overrides or {}).items()):
        if key == "method" and isinstance(value, Mapping):
            options |= value
        elif key.startswith("method."):
            options[key.removeprefix("method.")] = value
        else:
            rest[key] = value
    task = rest.get("task")
    source = Recipe(None if recipe is None else str(recipe), wrong, task if isinstance(task, str) else None)
    flat = flatten(rest, run_settings(source.task), wrong, others=["method"])
    given = sift(flat, source.task, wrong)
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    refused = (flat.keys() - given.keys()) | (source.refused - given.keys())
    refused |= {key.removesuffix(".name") for key in refused & {"student.name", "teacher.name"}}
    refused |= _look_up(given, wrong) | _look_up(source.run, wrong, given)
    draft = _Draft(source, method, role == "teacher", given, options, wrong, refused)
    config = draft.settle()
    taught = draft.with_teacher(config)
    if taught.output is None and source.name is not None:
        taught = replace(taught, output=str(draft.folder(taught)))
    wrong += problems(taught, draft.refused)
    if wrong:
        raise SettingsError(list(dict.fromkeys(wrong)))
    return taught


def _look_up(values: dict[str, Any], problems: list[str], given: Collection[str] = ()) -> set[str]:
    """Put networks of runs in the place of their folders; return the roles of those that are none.

    Args:
        values: dotted, changed in place.
        problems: receives what is wrong.
        given: the keys that win over them.
    """
    failed = set()
    for role in ("student", "teacher"):
        network = {key.removeprefix(f"{role}."): value for key, value in values.items() if key.startswith(f"{role}.")}
        if f"{role}.name" in given:
            network.pop("name", None)
        try:
            values |= {f"{role}.{key}": value for key, value in network_of_run(role, network).items()}
        except (OSError, TypeError, ValueError) as error:
            problems.append(str(error))
            failed.add(role)
            values.pop(f"{role}.name", None)
    return failed


@dataclass
class _Draft:
    """A run being planned: where it comes from, and what was found wrong with it.

    ``refused`` holds the keys that are wrong and were told of.
    """

    recipe: Recipe
    asked: str | None
    teaching: bool
    given: dict[str, Any]
    options: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def settle(self) -> TrainConfig:
        """Return the run, its teacher as it is named."""
        recipe, given = self.recipe, self.given
        name = "ce" if self.teaching else self.asked or recipe.method or TrainConfig.method
        special = recipe.teacher_training if self.teaching else {}
        values = {**recipe.run, **recipe.by_method.get(name, {}), **special, **given, "task": recipe.task}
        if self.teaching:
            self._become_teacher(values)
        self.method = self._method(name)
        if values.get("labels") == "none":
            self._without_labels()
        if "student.name" not in values:
            if not recipe.broken and not self.teaching and "student" not in self.refused:
                self.problems.append("`student` must be given, or a recipe: `logitkd list recipes`.")
            self.refused.add("student")
            values["student.name"] = STANDS_IN
        method = self.method
        usual = usual_method(method.name, recipe.task).options
        values |= {"method": method.name, "teacher.name": values.get("teacher.name", "")}
        values["method_options"] = {k: v for k, v in method.options.items() if v != usual[k]}
        nested = nest(values)
        nested.setdefault("data", {})
        config, wrong = partial(nested, recipe.task)
        self.problems += [line for key, lines in wrong.items() if key != "task" for line in lines]
        return config

    def _method(self, name: str) -> Method:
        """Return the method called ``name``, its hyper-parameters resolved."""
        if name not in methods.names():
            self.problems.append(unknown("method", name, methods.names()))
            self.refused.add("method")
            return methods.get("ce")
        options = dict(self.recipe.methods.get(name, {}))
        if self.recipe.method == name:
            options |= self.recipe.method_options
        options |= check_options(name, self.options, "method.", self.problems)
        try:
            return usual_method(name, self.recipe.task).replace(**options)
        except (TypeError, ValueError) as error:  # each option is good alone: they do not go together
            self.problems.append(f"method `{name}`: {error}")
            return usual_method(name, self.recipe.task)

    def _without_labels(self) -> None:
        """Take the labels out of the method; a recipe's weights for the labels give way, an override does not."""
        try:
            self.method = self.method.without_labels(self.options)
        except ValueError as error:
            self.problems.append(str(error))
            self.refused.add("method")

    def _become_teacher(self, values: dict[str, Any]) -> None:
        """Put the teacher in the student's place."""
        if self.asked not in (None, "ce"):
            self.problems.append(
                f"`role: teacher` trains with the labels alone (`ce`), got `method` {self.asked}. Leave one out."
            )
        if "teacher.name" not in values:
            self.problems.append("`role: teacher` needs a teacher to train: a recipe that names one, or `teacher`.")
            return
        values["student.name"] = values.pop("teacher.name")
        for key in ("teacher.checkpoint", "teacher.layers", *(f"student.{key}" for key in STUDENTS)):
            values.pop(key, None)
            if self.given.get(key) is not None:
                self.problems.append(f"`{key}` does not go with `role: teacher`, which trains the teacher anew.")
        for key in ("pool", "head"):
            if f"teacher.{key}" in values:
                values[f"student.{key}"] = values.pop(f"teacher.{key}")
        if "output" not in self.given and "output" not in self.recipe.teacher_training:
            values.pop("output", None)  # the recipe's is its student's

    def with_teacher(self, config: TrainConfig) -> TrainConfig:
        """Settle the teacher: none where nothing reads it, else with the weights given or those of its run."""
        teacher, method = config.teacher, self.method
        assert teacher is not None
        source = read_name(teacher.name)
        # A network of transformers comes with weights and need not come with a classifier: a recipe that says how its teacher
        # is trained means one that was.
        trained = source.kind == "transformers" and bool(self.recipe.teacher_training)
        unread = not method.has_teacher and config.student.layers is None and (trained or not source.has_head)
        if teacher.checkpoint is None and (unread or not (teacher.name or method.has_teacher)):
            return replace(config, teacher=None)
        if not teacher.name:
            if self.recipe.broken:
                self.refused.add("teacher")
            elif not method.has_teacher:
                self.problems.append("`teacher` must be given, as its checkpoint is.")
            return replace(config, teacher=None)
        if brings_weights(teacher) and not (trained and teacher.checkpoint is None):
            return config
        if is_path(teacher.name):  # of no run, which is told of
            self.refused.add("teacher.checkpoint")
            return config
        looked = self.teacher_folders(config)
        for folder in looked:
            if (folder / STUDENT).exists():
                return replace(config, teacher=replace(teacher, checkpoint=str(folder)))
        if trained and "teacher.name" in self.given:  # another than the recipe's: it may come with its classifier
            return config
        self.refused.add("teacher.checkpoint")
        self.problems.append(self._no_weights(teacher.name, looked, output_of(config)))
        return config

    def teacher_folders(self, config: TrainConfig) -> list[Path]:
        """Return where a finished run of the teacher is looked for: changed as this run is, then nothing changed."""
        assert config.teacher is not None
        name, shared = config.teacher.name, self._shared()
        home = Path("runs") if self.recipe.name is None else self._group()
        if self.recipe.name is None:
            taught = _Draft(self.recipe, "ce", False, {**shared, "student.name": name}, {})
            changed = default_folder(replace(taught.settle(), teacher=None))
        else:
            taught = _Draft(self.recipe, None, True, shared, {})
            changed = taught.folder(replace(taught.settle(), teacher=None))
        return list(dict.fromkeys([changed, teacher_run(home, name)]))

    def _shared(self) -> dict[str, Any]:
        """Return what was changed and holds for the teacher's training, too."""
        return {
            key: value
            for key, value in self.given.items()
            if key.startswith(SHARED[0]) or key in SHARED[1] or (key == "teacher.name" and self.recipe.name)
        }

    def _no_weights(self, name: str, looked: list[Path], output: Output) -> str:
        """Say where the teacher was looked for, how to train it, and which other runs of it there are."""
        start = f"the teacher `{name}` {'is not trained yet' if read_name(name).has_weights else 'has no weights'}"
        give = "give its checkpoint with `--teacher.checkpoint PATH`."
        try:
            check_name(name, output)
        except ValueError:  # which is named among the problems; nothing could be trained by that name
            return f"{start}: {give}"
        words = ["logitkd", "train"]
        words += [self.recipe.name, "--role", "teacher"] if self.recipe.name else ["--student", name, "--method", "ce"]
        for key, value in self._shared().items():
            words += [f"--{key.removesuffix('.name')}", value if isinstance(value, str) else json.dumps(value)]
        others = sorted(str(path.parent) for path in looked[-1].parent.glob(f"*/{STUDENT}"))[:3]
        there = f"\nTrained with other settings: {', '.join(others)}." if others else ""
        return (
            f"{start}, and no finished run of it is in {' or '.join(map(str, looked))}. Train it with\n"
            f"    {shlex.join(words)}\nor {give}{there}"
        )

    def folder(self, config: TrainConfig) -> Path:
        """Return the run folder of a recipe's run: its pair's, or its teacher's, which other pairs with that teacher share."""
        pair = Path(self.recipe.name or "").stem if self._is_shared() else ""
        if self.teaching or {"student.name", "teacher.name", "teacher.others"} & self.given.keys():
            pair = pair_name(config)
        usual = _Draft(self.recipe, self.method.name, self.teaching, {}, {}).settle()
        if config.teacher is None:
            return self._group() / pair / run_name(config, replace(usual, teacher=None))
        return self._group() / pair / run_name(config, usual, self.teacher_folders(config))

    def _group(self) -> Path:
        """Return the folder that the runs of a recipe's neighbours share: ``runs/cifar100``, or ``runs/NAME`` of a lone one."""
        assert self.recipe.name is not None
        return Path("runs") / (Path(self.recipe.name).parent if self._is_shared() else Path(self.recipe.name).stem)

    def _is_shared(self) -> bool:
        """Whether the recipe is shipped in a folder with others that may have the same teacher."""
        return self.recipe.name is not None and self.recipe.name in recipes.names() and recipes.shares_data(self.recipe.name)
