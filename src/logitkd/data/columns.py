"""Which column holds the images, which the labels, and what the classes are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Image, Value

from logitkd.checks import suggest
from logitkd.data.decode import is_missing
from logitkd.data.frames import Frame

__all__ = ["class_names", "image_column", "label_column"]


def image_column(frame: Frame, name: str | None) -> str:
    """Return the column of images: the one named, or else the only one of type Image.

    Raises:
        ValueError: no such column, none or several to choose from, or the named one holds no images.
    """
    if name is None:
        return _only(frame, "image", Image)
    _check_exists(frame, "image", name)
    kind = frame.features[name]
    binary = isinstance(kind, Value) and pa.types.is_binary(kind.pa_type)
    if not (isinstance(kind, Image) or binary or (isinstance(kind, dict) and "bytes" in kind)):
        raise ValueError(f"column `{name}` of {frame.where} must hold images (encoded bytes), got {_kind(kind)}.")
    return name


def label_column(frame: Frame, name: str | None) -> str:
    """Return the column of labels: the one named, or else the only one of type ClassLabel.

    Raises:
        ValueError: no such column, none or several to choose from, or the named one holds neither integers nor strings.
    """
    if name is None:
        return _only(frame, "label", ClassLabel)
    _check_exists(frame, "label", name)
    kind = frame.features[name]
    if not (isinstance(kind, ClassLabel) or _is_integer(kind) or _is_string(kind)):
        raise ValueError(f"column `{name}` of {frame.where} must hold integers or names of classes, got {_kind(kind)}.")
    return name


def class_names(frames: Sequence[Frame], column: str, labels: Sequence[Any]) -> tuple[str, ...]:
    """Return the classes' names in label order.

    A ClassLabel column brings them. Integers are named by themselves, "0" to the largest of ``labels``; strings
    are numbered in sorted order of the distinct names in ``labels``.

    Args:
        frames: those that have labels, the training frame first.
        column: the label column.
        labels: its values, those of the training split where it is labelled; missing ones may be among them.

    Raises:
        ValueError: the splits' types differ, or integers leave a class without training images (labels that count
            from 1 do).
    """
    kind = frames[0].features[column]
    for frame in frames[1:]:
        if frame.features[column] != kind:
            raise ValueError(
                f"column `{column}` must be the same in every split, got {_kind(kind)} in {frames[0].where} and "
                f"{_kind(frame.features[column])} in {frame.where}: one number would mean two classes."
            )
    if isinstance(kind, ClassLabel):
        return tuple(kind.names)
    distinct = sorted({label for label in labels if not is_missing(label)})
    if _is_string(kind):
        return tuple(distinct)
    if distinct != list(range(len(distinct))):
        absent = next((number for number in range(len(distinct)) if number not in set(distinct)), distinct[0])
        raise ValueError(
            f"integer labels must be 0, 1, ... without a gap, got {distinct[0]} to {distinct[-1]} in `{column}` of "
            f"{frames[0].where}, and no {absent}. Renumber them, or make the column a ClassLabel that names all."
        )
    return tuple(str(number) for number in distinct)


def _only(frame: Frame, role: str, wanted: type) -> str:
    candidates = [name for name, kind in frame.features.items() if isinstance(kind, wanted)]
    if len(candidates) == 1:
        return candidates[0]
    found = f"several {role} columns: {', '.join(candidates)}" if candidates else f"no {role} column by its type"
    raise ValueError(f"{frame.where} has {found}. Name one with `data.{role}_column`. {_columns(frame)}")


def _check_exists(frame: Frame, role: str, name: str) -> None:
    if name not in frame.features:
        raise ValueError(
            f"`data.{role}_column` names `{name}`, which {frame.where} does not have."
            f"{suggest(name, frame.features)} {_columns(frame)}"
        )


def _columns(frame: Frame) -> str:
    return f"Columns there: {', '.join(f'{name} ({_kind(kind)})' for name, kind in frame.features.items())}."


def _kind(kind: Any) -> str:
    if isinstance(kind, ClassLabel):
        return f"ClassLabel of {kind.num_classes}"
    return kind.dtype if isinstance(kind, Value) else type(kind).__name__


def _is_integer(kind: Any) -> bool:
    return isinstance(kind, Value) and pa.types.is_integer(kind.pa_type)


def _is_string(kind: Any) -> bool:
    return isinstance(kind, Value) and (pa.types.is_string(kind.pa_type) or pa.types.is_large_string(kind.pa_type))
