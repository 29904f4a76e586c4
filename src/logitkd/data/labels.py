"""Labels as a source keeps them to class numbers; what is wrong is said with its row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from logitkd.data.columns import MISSING, class_names, is_missing
from logitkd.data.frames import Frame
from logitkd.data.splits import Kind

__all__ = ["decode_labels", "label_name", "read_labels", "values_of"]

_TEACHER_ALONE = "To train on the teacher alone, without labels, give `labels: none`."


def decode_labels(
    values: Sequence[Any], place: Callable[[int], str], classes: Sequence[str], *, missing: bool = False
) -> Tensor:
    """Turn labels into class numbers.

    Args:
        values: one a row: a class number, or a class name.
        place: row -> where it is kept, for messages.
        classes: the name of each class.
        missing: whether a label may be missing: null or -1.

    Returns:
        ``(N,)`` int64 in ``[0, len(classes))``, -1 where one is missing.

    Raises:
        ValueError: a label that is missing, out of range, or no class name.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    labels = []
    for row, value in enumerate(values):
        if missing and is_missing(value):
            labels.append(MISSING)
            continue
        if value is None:
            raise ValueError(f"the label is missing (null) in {place(row)}.")
        if isinstance(value, str):
            if value not in numbers:
                raise ValueError(f"label {value!r} in {place(row)} is none of the {len(classes)} classes of training.")
            value = numbers[value]
        if not 0 <= value < len(classes):
            raise ValueError(f"label {value} in {place(row)} must be in [0, {len(classes) - 1}] ({len(classes)} classes).")
        labels.append(value)
    return torch.tensor(labels, dtype=torch.int64)


def label_name(frames: Sequence[Frame], find: Callable[[Frame, str | None], str], name: str | None, labelled: bool) -> str:
    """Return the column of labels; without labels the training split may lack it.

    Args:
        frames: the training split's, and the evaluation's where it is another.
        find: returns a frame's column of labels, given the name that was asked for; raises ``ValueError`` where there is none.
        name: of the column, where one was asked for.
        labelled: whether the training split's labels matter.

    Raises:
        ValueError: a split has no such column.
    """
    if not labelled:
        return find(frames[-1], name)
    try:
        found = find(frames[0], name)
    except ValueError as error:
        find(frames[-1], name)  # a column that neither split has is not a matter of missing labels
        raise ValueError(f"{error} {_TEACHER_ALONE}") from error
    find(frames[-1], found)
    return found


def read_labels(
    frames: Sequence[Frame], name: str, examples: str, kind: Kind, *, labelled: bool
) -> tuple[list[Tensor], tuple[str, ...]]:
    """Return the labels of each split and the names of the classes.

    Args:
        frames: the training split's, and the evaluation's where it is another.
        name: the column of labels.
        examples: the column of examples, which says how many labels are missing where a training split has no column of them.
        kind: of the examples.
        labelled: whether the training split's labels matter. If not, it may lack them, and classes are those of both splits.

    Returns:
        ``(N,)`` int64 each, -1 where a training label is missing, and the classes in label order.

    Raises:
        ValueError: all training labels or an evaluation label missing, a label out of range, or training examples of a single
            class.
    """
    labels = [
        values_of(frame, name) if name in frame.features else [None] * len(values_of(frame, examples)) for frame in frames
    ]
    typed = [frame for frame, values in zip(frames, labels, strict=True) if not all(map(is_missing, values))]
    if labelled and frames[0] not in typed:
        raise ValueError(f"every label of {frames[0].where} is missing, in column `{name}`. {_TEACHER_ALONE}")
    if frames[-1] not in typed:
        raise ValueError(f"the evaluation split must be labelled, but every label of {frames[-1].where} is missing.")
    classes = class_names(typed, name, labels[0] if labelled else [label for values in labels for label in values])
    numbers = [
        decode_labels(values, frame.place, classes, missing=frame is frames[0])
        for frame, values in zip(frames, labels, strict=True)
    ]
    present = numbers[0][numbers[0] >= 0].unique().tolist()
    if len(present) == 1:
        raise ValueError(
            f"{kind.noun}s must be of at least 2 classes, got `{classes[present[0]]}` alone in {frames[0].where}: there is "
            "nothing to tell apart. Is this the right folder or `data.label_column`?"
        )
    return numbers, classes


def values_of(frame: Frame, column: str) -> Sequence[Any]:
    """Return the values of a column; a split without rows raises ``ValueError``."""
    values = frame.read(column)
    if not values:
        raise ValueError(f"{frame.where} is empty: it has no rows.")
    return values
