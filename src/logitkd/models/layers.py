"""A student that starts as some of its teacher's layers, with the teacher's embeddings and classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from logitkd.checks import check_int, listed, shown
from logitkd.models.text_classifier import TextClassifier, encoder_layers, no_layers

__all__ = ["copy_layers"]

# What two configurations of one network may differ in: names, what only training reads, and how many layers there are.
_FREE = {
    "architectures",
    "id2label",
    "label2id",
    "layer_types",
    "num_hidden_layers",
    "problem_type",
    "transformers_version",
    "use_cache",
}
_FREE_PARTS = ("dropout", "drop_prob", "pdrop", "initializer", "_name_or_path", "dtype", "token_id", "checkpointing")


@torch.no_grad()
def copy_layers(student: nn.Module, teacher: nn.Module, layers: Sequence[int]) -> None:
    """Give the student some of the teacher's encoder layers, and all that both have beside them: embeddings, classifier.

    Args:
        student: a :class:`TextClassifier` of as many layers as are taken.
        teacher: one of the same family, shapes and classes; unchanged.
        layers: of the teacher, counted from 0, rising: they become the student's first, second, ...

    Raises:
        TypeError: one of both is no text classifier.
        ValueError: they are of other families, shapes or classes, or a layer is not there; the student is then unchanged.
    """
    own, theirs = _model(student, "student"), _model(teacher, "teacher")
    _check_same(own.config, theirs.config)
    to, of = encoder_layers(own), encoder_layers(theirs)
    if to is None or of is None:
        raise ValueError(no_layers(theirs.config))
    chosen, count, most = list(layers), own.config.num_hidden_layers, theirs.config.num_hidden_layers
    for layer in chosen:
        check_int("layers", layer, 0, most - 1, f"the teacher has {most}, counted from 0")
    if chosen != sorted(set(chosen)):
        raise ValueError(f"`layers` must rise, got {shown(chosen)}.")
    if len(chosen) != count:
        raise ValueError(f"`layers` must be as many as the student has layers, {count}, got {len(chosen)}: {shown(chosen)}.")
    _fill(_tensors(own), _tensors(theirs), to, of, chosen)


def _model(network: nn.Module, role: str) -> Any:
    """Return the network of transformers in a text classifier."""
    if not isinstance(network, TextClassifier):
        raise TypeError(
            "`layers` must be left out where student and teacher are not both text classifiers of transformers, got a"
            f" {role} that is none ({type(network).__name__})."
        )
    return network.model


def _check_same(student: Any, teacher: Any) -> None:
    """Raise ``ValueError`` unless two configurations are of one network but for the number of its layers."""
    if student.model_type != teacher.model_type:
        raise ValueError(
            f"`layers` must be of a teacher of the student's family, {student.model_type}, got a {teacher.model_type}. Give the"
            " student the teacher's name, or leave `layers` out."
        )
    if student.num_labels != teacher.num_labels:
        raise ValueError(
            f"`layers` must be of a teacher of the student's classes, {student.num_labels}, got {teacher.num_labels}: the"
            " classifier is copied too."
        )
    ours, theirs = student.to_dict(), teacher.to_dict()
    free = _FREE | {student.attribute_map.get(name, name) for name in _FREE}
    other = [
        f"{key} ({shown(ours.get(key))} and {shown(theirs.get(key))})"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key) and key not in free and not any(part in key for part in _FREE_PARTS)
    ]
    if other:
        raise ValueError(
            f"`layers` must be of a teacher that is as the student but for the number of layers, got other {listed(other, 4)}."
            " Give the student the teacher's name, or leave `layers` out."
        )


def _fill(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], to: str, of: str, layers: Sequence[int]) -> None:
    """Copy every tensor of the student from the one that it is to be.

    Raises:
        ValueError: there is none, or of another shape, or one of the teacher's beside its layers has no place.
    """
    source = {}
    for name in own:
        if name.startswith(f"{to}."):
            number, _, rest = name.removeprefix(f"{to}.").partition(".")
            source[name] = f"{of}.{layers[int(number)]}.{rest}"
        else:
            source[name] = name
    beside = {name for name in theirs if not name.startswith(f"{of}.")}
    wrong = [
        *(name for name, other in source.items() if other not in theirs or theirs[other].shape != own[name].shape),
        *sorted(beside - set(source.values())),
    ]
    if wrong:
        raise ValueError(
            f"`layers` must be of a teacher of the student's shapes, but {listed(sorted(wrong), 4)} fit nothing of the other."
            " Give the student the teacher's name, or leave `layers` out."
        )
    for name, value in own.items():
        value.copy_(theirs[source[name]])


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name, those too that are in no state dict."""
    return dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])
