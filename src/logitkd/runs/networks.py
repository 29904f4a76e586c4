"""Which networks a run is of: the student, and the teacher or teachers it learns from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

from logitkd.fields import Number, Positive, Record, Text, Whole, at_least, check_channels, rule

__all__ = ["ModelConfig", "TeacherConfig", "TeacherSource", "file_name"]


def _check_layers(name: str, values: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless these are layers in rising order."""
    if not values or list(values) != sorted(set(values)) or values[0] < 0:
        raise ValueError(f"`{name}` must be rising layer numbers from 0, such as [1, 3, 5], got {list(values)}.")


@dataclass(frozen=True)
class ModelConfig(Record):
    """A network: what to build and the weights to load.

    Args:
        name: timm name (``cifar_resnet8x4``, ``resnet50.a1_in1k``), ``hf-hub:OWNER/NAME``, ``local-dir:FOLDER``,
            ``torchvision:NAME``, ``transformers:ID_OR_FOLDER``, ``package.module:callable``, or a run folder
            (``runs/teacher``), whose student it is, with its weights. For segmentation also ``deeplabv3:NAME`` and
            ``lraspp:NAME``, torchvision's heads on a network of timm.
        checkpoint: safetensors file, ``weights_only`` state dict, or run folder; none means the weights the name stands
            for, or random ones.
        pool: path of the module that averages the last map, for methods that read regions (``sdd-*``, ``icd-*``; others take
            no notice); found by itself where there is one to find.
        head: path of the module behind the pooling, likewise.
        layers: the encoder layers of the teacher that a student of the same family starts from, counted from 0: ``[1, 3, 5]``
            makes one of three layers. Embeddings and classifier are the teacher's, too. Of text (``transformers:`` names)
            alone.
    """

    name: Text
    checkpoint: Text | None = None
    pool: Text | None = field(default=None, kw_only=True)
    head: Text | None = field(default=None, kw_only=True)
    layers: Annotated[tuple[Whole, ...], rule(_check_layers)] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class TeacherSource(ModelConfig):
    """A frozen network to learn from; its weights must come from somewhere.

    Args:
        name: as a student's.
        checkpoint: as a student's; may be left out only where the name stands for trained weights.
        pool: as a student's.
        head: as a student's.
        layers: how many it has, as the run folder of its checkpoint says; nobody else needs to.
        label_map: as in :class:`TeacherConfig`, and so on.
        num_classes: its own classes.
        mean: its own mean.
        std: its own standard deviation.
    """

    label_map: Text | None = None
    num_classes: Annotated[Whole, at_least(2)] | None = None
    mean: Annotated[tuple[Number, ...], rule(check_channels)] | None = None
    std: Annotated[tuple[Positive, ...], rule(check_channels)] | None = None


@dataclass(frozen=True)
class TeacherConfig(TeacherSource):
    """The frozen network, or networks, to learn from.

    Args:
        name: as a student's; also the first of several teachers.
        checkpoint: as a student's; may be left out only where the name stands for trained weights.
        pool: as a student's.
        head: as a student's.
        layers: how many it has, as the run folder of its checkpoint says; nobody else needs to.
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

    def members(self) -> dict[str, TeacherSource]:
        """Return every teacher by the key it is set under: ``teacher``, ``teacher.others[0]``, ..."""
        first = {field.name: getattr(self, field.name) for field in fields(TeacherSource)}
        return {"teacher": TeacherSource(**first)} | {
            f"teacher.others[{index}]": other for index, other in enumerate(self.others)
        }

    def absent(self) -> tuple[str, str] | None:
        """Return the key and the path of a file or folder of a teacher that is not there, ``None`` where all are."""
        for role, member in self.members().items():
            for key, path in (("checkpoint", member.checkpoint), ("label_map", member.label_map)):
                if path is not None and not Path(path).exists():
                    return f"{role}.{key}", path
        return None


def file_name(network: str) -> str:
    """Return a network's name as a part of a path.

    >>> file_name("torchvision:resnet18")
    'torchvision_resnet18'
    """
    return re.sub(r"[^\w.]+", "_", network)
