"""A weight for each class in the cross-entropy: balanced by the class sizes, or from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import yaml
from torch import Tensor

from logitkd import strict_yaml
from logitkd.checks import check_positive, check_range, listed, shown, suggest

__all__ = ["BALANCED", "class_weights", "read_class_weights", "same_weights"]

BALANCED = "balanced"
_RANGE = (1e-20, 1e20)  # beyond, a sum over a batch overflows float32, or it and the weights are 0


def read_class_weights(path: str) -> dict[str, float]:
    """Return the weights in a YAML or JSON file of lines ``class name: weight``.

    Raises:
        ValueError: no such file, it is no such mapping, a class is in it twice, or a weight is not a number above 0 that
            float32 can add up.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(
            f"`class_weights` must be `{BALANCED}` or a file of `class name: weight` lines, got {path}: no such file."
        )
    try:
        record = strict_yaml.load(file.read_text(encoding="utf-8"), names=True)  # JSON is YAML
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"`class_weights`: {path} is not readable YAML or JSON: {error}") from error
    if not isinstance(record, dict) or not record:
        raise ValueError(f"`class_weights`: {path} must hold `class name: weight` lines, got {shown(record)}.")
    weights = {}
    for name, weight in record.items():
        try:
            check_positive(f"{name}", weight)
            check_range(f"{name}", weight, *_RANGE, "float32 adds up no others")
        except (TypeError, ValueError) as error:
            raise ValueError(f"`class_weights`, {path}: {error}") from error
        weights[name] = float(weight)
    return weights


def class_weights(given: str, counts: Tensor, classes: Sequence[str], noun: str = "image") -> Tensor:
    """Return the weight of each class in the cross-entropy, ``(C,)`` float32.

    Args:
        given: ``balanced``, for N / (C * count of the class), whose mean over the labelled examples is 1; or a file for
            :func:`read_class_weights`.
        counts: ``(C,)`` int64, how many labelled training examples each class has.
        classes: the name of each class.
        noun: what an example is called: an image, a pixel.

    Raises:
        ValueError: a class without a weight, a weight without a class, or ``balanced`` with a class without examples.

    >>> class_weights("balanced", torch.tensor([3, 1]), ["ant", "bee"])
    tensor([0.6667, 2.0000])
    """
    if given == BALANCED:
        absent = [classes[number] for number in (counts == 0).nonzero().flatten().tolist()]
        if absent:
            raise ValueError(
                f"`class_weights: {BALANCED}` must have a labelled training {noun} of every class, got none of "
                f"{listed(absent)}. Give the weights in a file."
            )
        return counts.sum() / (len(classes) * counts.float())
    weights = read_class_weights(given)
    unknown = [name for name in weights if name not in classes]
    if unknown:
        raise ValueError(
            f"`class_weights`: {given} must name classes of the data, got {listed(unknown)}.{suggest(unknown[0], classes)} "
            f"Classes: {listed(classes)}."
        )
    missing = [name for name in classes if name not in weights]
    if missing:
        raise ValueError(f"`class_weights`: {given} must give every class a weight, got none for {listed(missing)}.")
    return torch.tensor([weights[name] for name in classes])


def same_weights(given: str | None, recorded: Mapping[str, float] | None, classes: Sequence[str]) -> bool:
    """Whether a setting still means the weights that were recorded, on the same data, which decide what ``balanced`` is.

    Args:
        given: as in :func:`class_weights`; None for no weights.
        recorded: weight of each class, in the order of ``classes``; None for none.
        classes: the name of each class.
    """
    if recorded is None or given is None:
        return recorded is given
    return given == BALANCED or list(recorded.values()) == class_weights(given, torch.empty(0), classes).tolist()
