"""The networks of a run: the student, and the frozen teacher, or the several, brought onto the data's inputs and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from logitkd.checks import listed
from logitkd.models import (
    ClassCountError,
    Pretrained,
    build_model,
    build_pretrained,
    import_recorded,
    read_label_map,
    read_name,
)
from logitkd.models.layers import copy_layers
from logitkd.reach import Ensemble, LabelMap, Teacher
from logitkd.reach.replay.trace import find_module
from logitkd.runs.config import TrainConfig
from logitkd.runs.folder import check_student_file, read_run, run_data, run_folder_of
from logitkd.runs.network_rules import check_recorded_output
from logitkd.runs.networks import ModelConfig, TeacherConfig, TeacherSource
from logitkd.tasks.task import Task
from logitkd.training.generators import seed_generators

__all__ = [
    "build_networks",
    "build_teacher",
    "load_network",
    "recorded_student",
]


def load_network(config: ModelConfig, classes: Sequence[str], **options: Any) -> nn.Module:
    """Return a network for the data's ``classes``, on the CPU.

    Args:
        config: what to build.
        classes: of the data.
        options: the task's ``network_options``.

    Raises:
        ValueError: its checkpoint is a run folder, or lies in one, whose data had other classes, or the same in another
            order: its outputs would be read as the wrong classes. Or the run wrote other weights than lie there, or its
            network returns logits of another kind.
    """
    check_recorded_output("checkpoint", config.checkpoint, options.get("output", "classes"))
    run = _recorded_data(config.checkpoint)
    if run is not None:
        _check_learnt(run.get("classes", classes), classes, str(config.checkpoint))
    return build_model(config.name, len(classes), checkpoint=config.checkpoint, **_depth(config), **options)


def build_networks(config: TrainConfig, task: Task) -> tuple[nn.Module, Teacher | Ensemble | None]:
    """Return student and teacher, on the CPU; random weights depend on the seed alone."""
    seed_generators(config.seed)  # right before the student, so that every method starts from the same weights
    student = load_network(config.student, task.classes, **task.network_options)
    _check_paths("student", student, config.student)
    teacher = None if config.teacher is None else build_teacher(config.teacher, task)
    if config.student.layers is not None and config.student.checkpoint is None:
        assert isinstance(teacher, Teacher)  # the settings were checked
        copy_layers(student, teacher.model, config.student.layers)
    return student, teacher


def build_teacher(config: ModelConfig, task: Task) -> Teacher | Ensemble:
    """Return the frozen teacher, or the mean of several, on the CPU: the one way a run or an evaluation gets its teacher.

    Args:
        config: a :class:`TeacherConfig`; any other network is one teacher.
        task: what it is shown, and whose classes it ends in; loaded.

    Raises:
        ValueError: weights without a head or for another network, classes that are not the data's and no label map, or a
            wrong one.
        ConnectionError: pretrained weights are not on this machine and cannot be fetched.
    """
    if not isinstance(config, TeacherConfig):
        config = TeacherConfig(**vars(config))
    members = [_build(role, member, task) for role, member in config.members().items()]
    return members[0] if len(members) == 1 else Ensemble(members, config.combine)


def _check_learnt(learnt: Sequence[str], classes: Sequence[str], what: str) -> None:
    """Refuse a network trained on other classes than the data's, or on the same in another order.

    Raises:
        ValueError: its outputs would be read as the wrong classes.
    """
    if list(learnt) != list(classes):
        shown = ", ".join(map(str, learnt[:5])), ", ".join(map(str, classes[:5]))
        raise ValueError(
            f"`checkpoint` must have been trained on the data's classes, in their order, got {what}, trained on "
            f"{len(learnt)} classes ({shown[0]} ...) where the data have {len(classes)} ({shown[1]} ...). For a teacher a "
            "label map bridges them: `teacher.label_map`."
        )


def _recorded_data(checkpoint: str | None) -> dict[str, Any] | None:
    """Return the block ``data`` of the run that wrote a checkpoint, which must be what it wrote; ``None`` for any other."""
    folder = run_folder_of(checkpoint)
    if folder is not None:
        check_student_file(folder)
    return run_data(checkpoint)


def recorded_student(folder: Path, *, trust_code: bool = False) -> ModelConfig:
    """Return the student of a run folder; code that it names is imported, from outside the folder unless it is trusted.

    Raises:
        FileNotFoundError: there is no run folder.
        ValueError: it is none, or the code it names is nowhere else; see :func:`~logitkd.models.import_recorded`.
    """
    student = read_run(folder)["run"]["student"]
    import_recorded(student["name"], folder, trust_code=trust_code)
    layers = student.get("layers")
    return ModelConfig(student["name"], checkpoint=str(folder), layers=None if layers is None else tuple(layers))


def _depth(config: ModelConfig) -> dict[str, Any]:
    """Return how many layers a network is built with, as an option; none where that is as its name has it."""
    return {} if config.layers is None else {"layers": len(config.layers)}


def _build(role: str, config: TeacherSource, task: Task) -> Teacher:
    classes, output = list(task.classes), task.network_options.get("output", "classes")
    check_recorded_output(role, config.checkpoint, output)
    run = _recorded_data(config.checkpoint)
    learnt = None if run is None else run.get("classes")
    if learnt is not None and config.label_map is None:
        _check_learnt(learnt, classes, str(config.checkpoint))
    found = _load(config, classes, learnt, task.network_options)
    _check_paths(role, found.model, config)
    names = learnt if learnt is not None and len(learnt) == found.num_classes else found.classes
    label_map = None
    if config.label_map is not None:
        target = read_label_map(config.label_map, names or found.num_classes, classes)
        label_map = LabelMap(target, len(classes))
    elif found.num_classes != len(classes):
        raise ValueError(_other_classes(role, config, found.num_classes, classes))
    elif names is not None and _out_of_order(names, classes):
        raise ValueError(
            f"`{role}`: {config.name} has the data's classes in another order ({listed(names, 5)}; the data: "
            f"{listed(classes, 5)}). Give `{role}.label_map`, a file of lines `teacher class: student class`."
        )
    # A run took its inputs as its data were; one that recorded nothing of it is older than this, and took them as these are.
    own = {"mean": found.mean, "std": found.std} if run is None else run
    return Teacher(
        found.model,
        num_classes=len(classes),
        pool=config.pool,
        head=config.head,
        renormalize=task.teacher_inputs(config, own),
        label_map=label_map,
        role=role,
        dense=output == "maps",
    )


def _out_of_order(names: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether a teacher's class is called as one of the data's that has another number; numbers are no names."""
    numbers = {name.strip().casefold(): number for number, name in enumerate(classes)}
    if all(map(str.isdecimal, classes)):
        return list(names) != list(classes) and sorted(names) == sorted(classes)
    return any(numbers.get(str(name).strip().casefold(), number) != number for number, name in enumerate(names))


def _check_paths(role: str, network: nn.Module, config: ModelConfig) -> None:
    """Raise ``ValueError`` if ``pool`` or ``head`` is no module of ``network``, whether or not the method reads them."""
    for key in ("pool", "head"):
        path = getattr(config, key)
        if path is not None:
            find_module(network, path, f"`{role}.{key}`")


def _load(
    config: TeacherSource, classes: Sequence[str], learnt: Sequence[str] | None, options: Mapping[str, Any]
) -> Pretrained:
    """Return the network with its own classes, which the weights say where nothing else does."""
    count = config.num_classes
    if config.checkpoint is None and read_name(config.name).kind != "own":
        return build_pretrained(config.name, count, **options)
    count, built = count or len(learnt or classes), {**_depth(config), **options}
    try:
        return build_pretrained(config.name, count, checkpoint=config.checkpoint, **built)
    except ClassCountError as error:
        if config.label_map is None or config.num_classes is not None:
            raise ValueError(f"{error} A teacher of other classes also needs `teacher.label_map`.") from error
        return build_pretrained(config.name, error.classes, checkpoint=config.checkpoint, **built)


def _other_classes(role: str, config: TeacherSource, count: int, classes: Sequence[str]) -> str:
    return (
        f"`{role}` must have the data's classes, {len(classes)}, or a label map: {config.name} has {count}. Give "
        f"`{role}.label_map`, a YAML, JSON or CSV file of lines `teacher class: student class` (several to one add up; those "
        "left out are ignored), or a teacher trained on the data's classes."
    )
