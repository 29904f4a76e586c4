"""Which networks a run is of: the student, and the teacher or teachers it learns from."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from logitkd.checks import check_choice, check_int, check_positive, check_range, collector

if TYPE_CHECKING:
    from logitkd.methods import Method

__all__ = ["ModelConfig", "TeacherConfig", "TeacherSource", "check_networks", "check_one_teacher", "file_name"]


@dataclass(frozen=True)
class ModelConfig:
    """A network: what to build and the weights to load.

    Args:
        name: timm name (``cifar_resnet8x4``, ``resnet50.a1_in1k``), ``hf-hub:OWNER/NAME``, ``local-dir:FOLDER``,
            ``torchvision:NAME``, ``transformers:ID_OR_FOLDER`` or ``package.module:callable``.
        checkpoint: safetensors file, ``weights_only`` state dict, or run folder; none means the weights the name stands
            for, or random ones.
        pool: path of the module that averages the last map, for methods that read regions (``sdd-*``, ``icd-*``; others take
            no notice); found by itself where there is one to find.
        head: path of the module behind the pooling, likewise.
    """

    name: str
    checkpoint: str | None = None
    pool: str | None = field(default=None, kw_only=True)
    head: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class TeacherSource(ModelConfig):
    """A frozen network to learn from; its weights must come from somewhere.

    Args:
        name: as a student's.
        checkpoint: as a student's; may be left out only where the name stands for trained weights.
        pool: as a student's.
        head: as a student's.
        label_map: as in :class:`TeacherConfig`, and so on.
        num_classes: its own classes.
        mean: its own mean.
        std: its own standard deviation.
    """

    label_map: str | None = None
    num_classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)


@dataclass(frozen=True)
class TeacherConfig(TeacherSource):
    """The frozen network, or networks, to learn from.

    Args:
        name: as a student's; also the first of several teachers.
        checkpoint: as a student's; may be left out only where the name stands for trained weights.
        pool: as a student's.
        head: as a student's.
        label_map: YAML, JSON or CSV file ``teacher class: student class``, by name or index; several to one allowed.
        num_classes: the teacher's own classes; only where neither its weights nor its run folder say.
        mean: of each channel (0 to 1), what the teacher's images were normalised by; by default what its source says, else
            the data's.
        std: likewise.
        others: more teachers, ``[{name: ..., checkpoint: ...}, ...]`` with the keys above; their mean is learnt from.
        combine: mean of the teachers' ``probabilities`` or of their ``logits``.
    """

    others: tuple[TeacherSource, ...] = ()
    combine: Literal["probabilities", "logits"] = "probabilities"

    def __post_init__(self) -> None:
        super().__post_init__()
        # From YAML and the command line they come as mappings.
        others = (other if isinstance(other, TeacherSource) else TeacherSource(**dict(other)) for other in self.others)
        object.__setattr__(self, "others", tuple(others))

    def members(self) -> dict[str, TeacherSource]:
        """Return every teacher by the key it is set under: ``teacher``, ``teacher.others[0]``, ..."""
        first = {field.name: getattr(self, field.name) for field in fields(TeacherSource)}
        return {"teacher": TeacherSource(**first)} | {
            f"teacher.others[{index}]": other for index, other in enumerate(self.others)
        }


def file_name(network: str) -> str:
    """Return a network's name as a part of a path.

    >>> file_name("torchvision:resnet18")
    'torchvision_resnet18'
    """
    return re.sub(r"[^\w.]+", "_", network)


def check_networks(student: ModelConfig, teacher: TeacherConfig | None) -> list[str]:
    """Return what is wrong with the networks of a run, as far as it shows without building them."""
    problems: list[str] = []
    check = collector(problems)
    networks: dict[str, ModelConfig] = {"student": student}
    if teacher is not None:
        check(check_choice, "teacher.combine", teacher.combine, ["probabilities", "logits"])
        networks |= teacher.members()
    for role, model in networks.items():
        if model.checkpoint is not None and not Path(model.checkpoint).exists():
            problems.append(f"`{role}.checkpoint` must be a file or a run folder, but there is no {model.checkpoint}.")
        if isinstance(model, TeacherSource):
            _check_teacher(role, model, check, problems)
    return problems


def check_one_teacher(teacher: TeacherConfig, method: Method) -> None:
    """Raise ``ValueError`` if there are several teachers and the method reads the inside of one."""
    if method.wants.reads == "stones" and teacher.others:
        raise ValueError(
            f"`teacher.others` must be empty for the method `{method.name}`, got {len(teacher.others)}: its stones run "
            "through the blocks of one teacher. Leave them out, or take a method that reads logits."
        )


def _check_teacher(role: str, teacher: TeacherSource, check: Callable[..., None], problems: list[str]) -> None:
    """Check what a teacher has beyond a student."""
    if teacher.label_map is not None and not Path(teacher.label_map).is_file():
        problems.append(f"`{role}.label_map` must be a file, but there is no {teacher.label_map}.")
    if teacher.num_classes is not None:
        check(check_int, f"{role}.num_classes", teacher.num_classes, 2)
    for name, values, function in (("mean", teacher.mean, check_range), ("std", teacher.std, check_positive)):
        if values is not None and len(values) != 3:
            problems.append(f"`{role}.{name}` must have one value a channel, 3, got {list(values)}.")
        for value in values or ():
            check(function, f"{role}.{name}", value, *([None, None] if name == "mean" else []))
