"""Which of a data set's examples are trained on and which evaluated on: pure functions of labels, rows and a seed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from logitkd.checks import check_choice, check_int, listed
from logitkd.data.rng import Stream, first_per_class
from logitkd.data.splits import Kind, Labelled

__all__ = ["check_selection", "divide", "keep"]

SPLIT_SEED = 0  # whatever the run's: the examples to evaluate on must be the same in every run

S = TypeVar("S", bound="Split")


class Split(Protocol):
    """A dataclass of examples with their labels, ``(N,)`` int64, -1 where one is missing."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def labels(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def take(self: S, chosen: Tensor) -> S: ...


def check_selection(config: Labelled, labels: str) -> None:
    """Refuse what cannot be chosen, before anything is read.

    Raises:
        TypeError: ``train_per_class`` is no integer.
        ValueError: it is below 1, or given without labels; or ``labels`` is neither ``given`` nor ``none``.
    """
    if config.train_per_class is not None:
        check_int("data.train_per_class", config.train_per_class, 1, None)
        if labels == "none":
            raise ValueError("`data.train_per_class` must be left out without labels: no class can be counted.")
    check_choice("labels", labels, ["given", "none"])


def divide(splits: Sequence[S], config: Labelled, labelled: bool, classes: Sequence[str], kind: Kind) -> tuple[S, S]:
    """Return the examples to train and those to evaluate on.

    Args:
        splits: both, or with ``config.eval_fraction`` the one that both are made of.
        config: which.
        labelled: whether training labels matter; if not, each becomes -1.
        classes: the name of each class.
        kind: of the examples.

    Warns:
        UserWarning: the evaluation split lacks a class that has training examples.

    Raises:
        ValueError: a class to evaluate has no training examples, or nothing is left to evaluate on.
    """
    if config.eval_fraction is not None:
        splits = _hold_out(splits[0], config.eval_fraction, kind)
    train, evaluation = splits
    if labelled:
        _check_learnable(train, evaluation, classes, kind)
    else:
        train = replace(train, labels=torch.full_like(train.labels, -1))
    return train, evaluation


def keep(split: S, count: int, seed: int, classes: Sequence[str], kind: Kind) -> S:
    """Return ``count`` examples of each class, a pure function of (labels, count, seed).

    Raises:
        ValueError: a class has fewer, or a label is missing.
    """
    if (split.labels < 0).any():
        raise ValueError("`data.train_per_class` must be left out where training labels are missing: not every class is known.")
    present, sizes = torch.unique(split.labels, return_counts=True)
    scarcest = int(sizes.argmin())
    if sizes[scarcest] < count:
        raise ValueError(
            f"`data.train_per_class` must be at most {int(sizes[scarcest])}, "
            f"the {kind.noun}s there are of class `{classes[int(present[scarcest])]}`, got {count}."
        )
    return split.take(first_per_class(split.labels, count, seed, Stream.BUDGET))


def _hold_out(train: S, fraction: float, kind: Kind) -> list[S]:
    """Take ``fraction`` of each class out of the training split: at least one example, except of a class that has only one.

    Which ones is a function of (row, labels) alone; a larger fraction takes those that a smaller one takes.
    """
    labelled = (train.labels >= 0).nonzero().flatten()
    labels = train.labels[labelled]
    sizes = torch.bincount(labels)
    count = (sizes * fraction).round().long().clamp(min=1).minimum(sizes - 1)
    out = torch.zeros(len(train), dtype=torch.bool)
    out[labelled[first_per_class(labels, count, SPLIT_SEED, Stream.SPLIT)]] = True
    if not out.any():
        raise ValueError(f"`data.eval_fraction` must leave something to evaluate on, but every class has a single {kind.noun}.")
    return [train.take(~out), train.take(out)]


def _check_learnable(train: Split, evaluation: Split, classes: Sequence[str], kind: Kind) -> None:
    """A class spelt differently in the two splits must not pass as a class that is always missed, or never asked."""
    taught = set(train.labels.unique().tolist())
    untaught = [classes[label] for label in evaluation.labels.unique().tolist() if label not in taught]
    if untaught:
        raise ValueError(
            f"every class of the evaluation split must have training {kind.noun}s, got none of {', '.join(untaught[:5])}"
            f"{' and others' if len(untaught) > 5 else ''}. Is a class named differently in the two splits?"
        )
    tested = set(evaluation.labels.tolist())
    untested = [classes[label] for label in sorted(taught - tested) if label >= 0]
    if untested:
        warnings.warn(
            f"the evaluation split has no {kind.noun} of {len(untested)} of the {len(classes)} classes in training "
            f"({listed(untested, 5)}): its accuracy says nothing of them. Is something missing there?",
            stacklevel=4,
        )
