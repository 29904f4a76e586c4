"""The frozen teacher of a run, or the several: built, brought onto the data's pixels and classes, and recorded."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from logitkd.checks import listed
from logitkd.data import ImageData
from logitkd.models import ClassCountError, Pretrained, build_pretrained, import_recorded, read_label_map, read_name
from logitkd.reach import Ensemble, LabelMap, Renormalize, Teacher
from logitkd.reach.replay.trace import find_module
from logitkd.runs.folder import check_student_file, read_run, run_data, run_folder_of
from logitkd.runs.networks import ModelConfig, TeacherConfig, TeacherSource
from logitkd.training.provenance import model_record

__all__ = [
    "build_teacher",
    "check_classes",
    "check_paths",
    "check_run_weights",
    "rate_teacher",
    "recorded_student",
    "teacher_record",
]


def build_teacher(config: ModelConfig, data: ImageData, scales: Sequence[int] | None = None) -> Teacher | Ensemble:
    """Return the frozen teacher, or the mean of several, on the CPU: the one way a run or an evaluation gets its teacher.

    Args:
        config: a :class:`TeacherConfig`; any other network is one teacher.
        data: what it is shown, and whose classes it ends in.
        scales: the regions a method reads, see ``RegionModel``.

    Raises:
        ValueError: weights without a head or for another network, classes that are not the data's and no label map, or a
            wrong one.
        ConnectionError: pretrained weights are not on this machine and cannot be fetched.
    """
    if not isinstance(config, TeacherConfig):
        config = TeacherConfig(**vars(config))
    members = [_build(role, member, data, scales) for role, member in config.members().items()]
    return members[0] if len(members) == 1 else Ensemble(members, config.combine)


def check_classes(learnt: Sequence[str], classes: Sequence[str], what: str) -> None:
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


def check_run_weights(checkpoint: str | None) -> None:
    """Check that a run folder, or its student, holds the weights that the run wrote; any other checkpoint is no matter.

    Raises:
        ValueError: see :func:`~logitkd.runs.folder.check_student_file`.
    """
    folder = run_folder_of(checkpoint)
    if folder is not None:
        check_student_file(folder)


def recorded_student(folder: Path, *, trust_code: bool = False) -> ModelConfig:
    """Return the student of a run folder; code that it names is imported, from outside the folder unless it is trusted.

    Raises:
        FileNotFoundError: there is no run folder.
        ValueError: it is none, or the code it names is nowhere else; see :func:`~logitkd.models.import_recorded`.
    """
    name = read_run(folder)["run"]["student"]["name"]
    import_recorded(name, folder, trust_code=trust_code)
    return ModelConfig(name, checkpoint=str(folder))


def rate_teacher(predictions: Tensor, labels: Tensor, classes: Sequence[str]) -> float:
    """Return the teacher's own top-1 on the evaluation split, in percent; warn if it can hardly teach.

    It can hardly where it is right at most half as often again as by chance, ``1 / C``, and within ten points of it (60 %
    of two classes, 15 % of ten), or where it gives every image the same class.

    Args:
        predictions: ``(N,)``, the class that it gives each image.
        labels: ``(N,)``, their own.
        classes: of the data.
    """
    predictions = predictions.cpu()
    top1 = 100 * int((predictions == labels.cpu()).sum()) / len(labels)
    chance = 100 / len(classes)
    given = predictions.unique().tolist()
    found = None
    if top1 <= min(1.5 * chance, chance + 10):
        found = f"is near chance ({chance:.2f})"
    elif len(given) == 1:
        found = f"comes of one class given to every image, `{classes[given[0]]}`"
    if found is not None:
        warnings.warn(
            f"the teacher's own top-1 on the evaluation split, {top1:.2f}, {found}: it has little to teach. Are these its "
            "trained weights, are its classes in the data's order, and are images normalised as in its training "
            "(`teacher.mean`, `teacher.std`)?",
            stacklevel=2,
        )
    return top1


def teacher_record(teacher: Teacher | Ensemble) -> dict[str, Any]:
    """Return the block ``teacher`` of ``config.yaml``: its weights, and its mean, std and label map where they are used."""
    first, *others = map(_record, teacher.members())
    return first | ({"others": {str(index): record for index, record in enumerate(others)}} if others else {})


def _record(teacher: Teacher) -> dict[str, Any]:
    record = model_record(teacher.model, weights=True)
    if teacher.renormalize is not None:
        record |= {"mean": list(teacher.renormalize.own_mean), "std": list(teacher.renormalize.own_std)}
    if teacher.label_map is not None:
        target = teacher.label_map.target
        digest = hashlib.sha256(repr(target).encode()).hexdigest()[:32]
        record["label_map"] = {"classes": len(target), "used": sum(t is not None for t in target), "fingerprint": digest}
    return record


def _build(role: str, config: TeacherSource, data: ImageData, scales: Sequence[int] | None) -> Teacher:
    classes = list(data.classes)
    run = run_data(config.checkpoint)
    check_run_weights(config.checkpoint)
    learnt = None if run is None else run.get("classes")
    if learnt is not None and config.label_map is None:
        check_classes(learnt, classes, str(config.checkpoint))
    found = _load(config, classes, learnt)
    check_paths(role, found.model, config)
    names = learnt if learnt is not None and len(learnt) == found.num_classes else found.classes
    label_map = None
    if config.label_map is not None:
        target = read_label_map(config.label_map, names or found.num_classes, classes)
        label_map = LabelMap(target, len(classes))
    elif found.num_classes != len(classes):
        raise ValueError(_other_classes(role, config, found.num_classes, classes))
    elif names is not None and list(names) != classes and sorted(names) == sorted(classes):
        raise ValueError(
            f"`{role}`: {config.name} has the data's classes in another order ({listed(names, 5)}; the data: "
            f"{listed(classes, 5)}). Give `{role}.label_map`, a file of lines `teacher class: student class`."
        )
    # A run normalised by its data; one that recorded no statistics is older than this, and had the present data's.
    usual = (found.mean, found.std) if run is None else (run.get("mean"), run.get("std"))
    mean, std = (
        tuple(given or own or now)
        for given, own, now in zip((config.mean, config.std), usual, (data.mean, data.std), strict=True)
    )
    same = (mean, std) == (tuple(data.mean), tuple(data.std))
    renormalize = None if same else Renormalize(data.mean, data.std, mean, std)
    return Teacher(
        found.model,
        num_classes=len(classes),
        scales=scales,
        pool=config.pool,
        head=config.head,
        renormalize=renormalize,
        label_map=label_map,
    )


def check_paths(role: str, network: nn.Module, config: ModelConfig) -> None:
    """Raise ``ValueError`` if ``pool`` or ``head`` is no module of ``network``, whether or not the method reads regions."""
    for key in ("pool", "head"):
        path = getattr(config, key)
        if path is not None:
            find_module(network, path, f"`{role}.{key}`")


def _load(config: TeacherSource, classes: Sequence[str], learnt: Sequence[str] | None) -> Pretrained:
    """Return the network with its own classes, which the weights say where nothing else does."""
    count = config.num_classes
    if config.checkpoint is None and read_name(config.name).kind != "own":
        return build_pretrained(config.name, count)
    count = count or len(learnt or classes)
    try:
        return build_pretrained(config.name, count, checkpoint=config.checkpoint)
    except ClassCountError as error:
        if config.label_map is None or config.num_classes is not None:
            raise ValueError(f"{error} A teacher of other classes also needs `teacher.label_map`.") from error
        return build_pretrained(config.name, error.classes, checkpoint=config.checkpoint)


def _other_classes(role: str, config: TeacherSource, count: int, classes: Sequence[str]) -> str:
    return (
        f"`{role}` must have the data's classes, {len(classes)}, or a label map: {config.name} has {count}. Give "
        f"`{role}.label_map`, a YAML, JSON or CSV file of lines `teacher class: student class` (several to one add up; those "
        "left out are ignored), or a teacher trained on the data's classes."
    )
