"""What goes into a run - data, student, teacher - and how a run folder recognises it again."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from logitkd.data import ImageData, load_images, make_loader
from logitkd.data.class_weights import class_weights
from logitkd.models import build_model, read_name
from logitkd.reach import Ensemble, RegionModel, Teacher
from logitkd.runs.config import TrainConfig
from logitkd.runs.folder import run_data
from logitkd.runs.networks import ModelConfig
from logitkd.runs.rules import checked, hints
from logitkd.training.folder import RunFolder
from logitkd.training.generators import seed_generators
from logitkd.training.networks import (
    build_teacher,
    check_classes,
    check_paths,
    check_run_weights,
    teacher_record,
)
from logitkd.training.provenance import model_record

__all__ = [
    "build_models",
    "check_finished",
    "check_inputs",
    "check_last_batch",
    "check_regions",
    "input_record",
    "load_network",
    "static",
]


def static(config: TrainConfig) -> TrainConfig:
    """Return the settings of a run, each value in its type, after all that can be refused without data or a network.

    Warns of what is allowed and unlikely to be meant.

    Raises:
        ValueError: with all the problems at once; see :mod:`logitkd.runs.rules`.
    """
    settings = checked(config)
    for message in hints(settings):
        warnings.warn(message, stacklevel=3)
    return settings


def load_network(config: ModelConfig, classes: Sequence[str]) -> nn.Module:
    """Return a network for the data's ``classes``, on the CPU.

    Raises:
        ValueError: its checkpoint is a run folder, or lies in one, whose data had other classes, or the same in another
            order: its outputs would be read as the wrong classes. Or the run wrote other weights than lie there.
    """
    run = run_data(config.checkpoint)
    check_run_weights(config.checkpoint)
    if run is not None:
        check_classes(run.get("classes", classes), classes, str(config.checkpoint))
    return build_model(config.name, len(classes), checkpoint=config.checkpoint)


def build_models(
    config: TrainConfig, data: ImageData, scales: Sequence[int] | None = None
) -> tuple[nn.Module, Teacher | Ensemble | None]:
    """Return student and teacher, on the CPU; random weights depend on the seed alone."""
    seed_generators(config.seed)  # right before the student, so that every method starts from the same weights
    student = load_network(config.student, data.classes)
    check_paths("student", student, config.student)
    return student, None if config.teacher is None else build_teacher(config.teacher, data, scales)


def input_record(
    config: TrainConfig, data: ImageData, student: nn.Module, teacher: Teacher | Ensemble | None
) -> dict[str, Any]:
    """Return the blocks ``data``, ``student`` and ``teacher`` of ``config.yaml``."""
    loaded = config.student.checkpoint is not None or read_name(config.student.name).has_weights
    labels: dict[str, Any] = {}
    if config.labels == "given" and (missing := int((data.train.labels < 0).sum())):
        labels["unlabelled"] = missing
    if config.class_weights is not None:
        weights = class_weights(config.class_weights, data.train.labels, data.classes).tolist()
        labels["class_weights"] = dict(zip(data.classes, weights, strict=True))
    return {
        "data": {
            "fingerprint": data.fingerprint,
            "train": len(data.train),
            "eval": len(data.eval),
            "classes": list(data.classes),
            "input_size": list(make_loader(data, config.data, train=False, batch_size=1, device="cpu").shape),
            "mean": list(data.mean),
            "std": list(data.std),
            **labels,
        },
        "student": model_record(student, weights=loaded),
        "teacher": {} if teacher is None else teacher_record(teacher),
    }


def check_inputs(folder: RunFolder, inputs: dict[str, Any]) -> None:
    """Check that the run in ``folder`` saw these inputs.

    Raises:
        ValueError: it saw others; what differs is named.
    """
    implied = {name: inputs["data"][name] for name in ("input_size", "mean", "std")}
    for block, now in inputs.items():
        # By the fingerprint; a folder that began before they were recorded lacks them.
        folder.check_same(block, now, absent=implied if block == "data" else {})


def check_finished(config: TrainConfig, folder: RunFolder) -> None:
    """Check that the finished run in ``folder`` saw the data and the weights that the configuration means now.

    Raises:
        ValueError: it saw others; what differs is named.
    """
    data = load_images(config.data, seed=config.seed, labels=config.labels)
    check_inputs(folder, input_record(config, data, *build_models(config, data)))


def check_last_batch(student: nn.Module, images: int, batch_size: int, connectors: bool = False) -> None:
    """Refuse an epoch that ends in a batch of one image, which may have no variance for a batch norm to divide by.

    Batches that are all of one image are meant so: there ``check_one_image`` tries whether the student can take one.

    Raises:
        ValueError: it does, and the student has batch norms that it trains, or is trained with ``connectors``, which may have
            some.
    """
    if (images % batch_size or batch_size) != 1 or (batch_size == 1 and not connectors):
        return
    norms = (module for module in student.train().modules() if isinstance(module, _BatchNorm))  # one may stay in eval mode
    if connectors or any(norm.training for norm in norms):
        rule = "not leave one image for an epoch's last batch" if batch_size > 1 else "be at least 2"
        other = next((size for size in range(batch_size + 1, images + 1) if images % size != 1), 0)
        raise ValueError(
            f"`batch_size` must {rule}, as what is trained has batch norms, for which one image may have no variance, got "
            f"{batch_size} with {images} training images. {f'Try {other}' if other else 'Give more images'}."
        )


def check_regions(
    config: TrainConfig, scales: Sequence[int], student: nn.Module, teacher: Teacher | Ensemble, images: Tensor
) -> None:
    """Refuse networks that have no regions, before the teacher is asked about every image of the evaluation split.

    Args:
        config: of the run.
        scales: what the method reads.
        student: where the images are.
        teacher: likewise.
        images: two, as the networks get them.

    Raises:
        ValueError: a network does not average its last map, or not where it was said; see ``RegionModel``. It says which one.
    """
    learner = RegionModel(student, scales, pool=config.student.pool, head=config.student.head)
    with _told_of("student", config.student.name, config):
        learner.check(images)
        learner.close()
    names = {} if config.teacher is None else config.teacher.members()
    for (role, source), member in zip(names.items(), teacher.members(), strict=True):
        with _told_of(role, source.name, config):
            member.check_regions(images)


@contextmanager
def _told_of(role: str, name: str, config: TrainConfig) -> Iterator[None]:
    """Say in an error inside the block whose it is, and name the flags in place of ``RegionModel``'s arguments."""
    try:
        yield
    except (TypeError, ValueError) as error:
        text = str(error)
        for key in ("pool", "head"):
            several = "[" in role  # of several teachers each is an entry
            text = text.replace(f"`{key}=`", f"`{role}.{key}`" if several else f"`--{role}.{key} PATH`")
            text = re.sub(rf"`{key}='(.*?)'`", rf"`{role}.{key}: \1`" if several else rf"`--{role}.{key} \1`", text)
        if config.data.source != "digits":
            text = re.sub(r"larger images \((\d+) x \1\)", r"larger images, `--data.image_size \1`", text)
        raise ValueError(f"the {role} `{name}` has no regions for `{config.method}`: {text}") from error
