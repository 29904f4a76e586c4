"""Which column holds the images or texts, which the labels, and what the classes are called."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Image, Value

from logitkd.checks import suggest
from logitkd.data.frames import Frame, Mixed
from logitkd.data.utf8 import is_unicode

__all__ = [
    "MISSING",
    "class_names",
    "image_column",
    "is_missing",
    "label_column",
    "mask_column",
    "masked_column",
    "text_columns",
]

MISSING = -1  # as a ClassLabel column has it, beside null


def image_column(frame: Frame, name: str | None) -> str:
    """Return the column of images: the one named, or else the only one of type Image.

    Raises:
        ValueError: no such column, none or several to choose from, or the named one holds no images.
    """
    if name is None:
        return _only(frame, "image", Image)
    _check_images(frame, "image_column", name)
    return name


def _check_images(frame: Frame, setting: str, name: str) -> None:
    _check_exists(frame, setting, name)
    kind = frame.features[name]
    binary = isinstance(kind, Value) and pa.types.is_binary(kind.pa_type)
    if not (isinstance(kind, Image) or binary or (isinstance(kind, dict) and "bytes" in kind)):
        raise ValueError(f"column `{name}` of {frame.where} must hold images (encoded bytes), got {_kind(kind)}.")


# What columns of masks are called, or have in their names.
MASK_WORDS = ("mask", "label", "annotation", "segmentation", "seg_map", "segmap", "ground_truth", "target")


def mask_column(frame: Frame, name: str | None, image: str | None) -> str:
    """Return the column of masks: the one named, or else the only one of type Image that is called like masks.

    Args:
        frame: a split.
        name: the column's, if one was asked for.
        image: the column of images, if one was asked for.

    Raises:
        ValueError: no such column, none or several to choose from, or the named one holds no images.
    """
    if name is not None:
        _check_images(frame, "mask_column", name)
        if name == image:
            raise ValueError(f"`data.mask_column` must be another column than `data.image_column`, got `{name}` for both.")
        return name
    images = [column for column, kind in frame.features.items() if isinstance(kind, Image) and column != image]
    called = [column for column in images if any(word in column.lower() for word in MASK_WORDS)]
    found = called or (images if image is not None else [])
    if len(found) == 1:
        return found[0]
    what = f"several columns that could be the masks: {', '.join(found)}" if found else "no column of masks by type and name"
    raise ValueError(f"{frame.where} has {what}. Name one with `data.mask_column`. {_columns(frame)}")


def masked_column(frame: Frame, name: str | None, mask: str | None) -> str:
    """Return the column of images that have masks: the one named, or else the only one of type Image beside the masks.

    Args:
        frame: a split.
        name: the column's, if one was asked for.
        mask: the column of masks.

    Raises:
        ValueError: as :func:`image_column`.
    """
    if name is None:
        others = {column: kind for column, kind in frame.features.items() if column != mask}
        return _only(replace(frame, features=others), "image", Image)
    return image_column(frame, name)


def label_column(frame: Frame, name: str | None, usual: Sequence[str] = ()) -> str:
    """Return the column of labels: the one named, or else the only one of type ClassLabel, or else one with a usual name.

    Args:
        frame: a split.
        name: the column's, if one was asked for.
        usual: names to look for where types do not tell.

    Raises:
        ValueError: no such column, none or several to choose from, or the named one holds neither integers nor strings.
    """
    typed = sum(isinstance(kind, ClassLabel) for kind in frame.features.values()) == 1
    if name is None and not typed:
        name = next((column for column in usual if column in frame.features), None)
    if name is None:
        return _only(frame, "label", ClassLabel)
    _check_exists(frame, "label_column", name)
    kind = frame.features[name]
    if not (isinstance(kind, ClassLabel) or _is_integer(kind) or _is_string(kind)):
        raise ValueError(f"column `{name}` of {frame.where} must hold integers or names of classes, got {_kind(kind)}.")
    return name


# What text sets call their columns. A single one whose name is also in a pair that is there is half of that pair.
TEXT_COLUMNS = (
    ("text",),
    ("sentence",),
    ("text", "text_pair"),
    ("question", "sentence"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
)


def text_columns(frame: Frame, names: Sequence[str] | None, label: str | None) -> tuple[str, ...]:
    """Return the column of texts, or the two of pairs: those named, or else those of a usual name, or else the only of strings.

    Args:
        frame: a split.
        names: the columns', if some were asked for.
        label: the column of labels, which holds no texts.

    Raises:
        ValueError: no such column, none or several to choose from, or one that holds labels or no texts.
    """
    if names is None:
        there = {name: kind for name, kind in frame.features.items() if name != label}
        strings = [name for name, kind in there.items() if _is_string(kind)]
        usual = [names for names in TEXT_COLUMNS if set(names) <= set(there)]
        usual = [names for names in usual if not any(set(names) < set(others) for others in usual)]
        if len(usual) == 1:
            names = usual[0]
        elif len(strings) == 1:
            names = strings
        else:
            found = f"several columns that could be the texts: {', '.join(strings)}" if strings else "no column of texts"
            raise ValueError(f"{frame.where} has {found}. Name one or two with `data.text_columns`. {_columns(frame)}")
    for name in names:
        _check_exists(frame, "text_columns", name)
        if name == label:
            raise ValueError(
                f"`data.text_columns` must not name the labels, got `{name}`. Which holds labels is in `data.label_column`."
            )
        if not _is_string(frame.features[name]):
            raise ValueError(
                f"column `{name}` of {frame.where} must hold texts, got {_kind(frame.features[name])}. {_columns(frame)}"
            )
    return tuple(names)


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
        _check_names(distinct, f"`{column}` of {frames[0].where}")
        return tuple(distinct)
    if distinct != list(range(len(distinct))):
        absent = next((number for number in range(len(distinct)) if number not in set(distinct)), distinct[0])
        raise ValueError(
            f"integer labels must be 0, 1, ... without a gap, got {distinct[0]} to {distinct[-1]} in `{column}` of "
            f"{frames[0].where}, and no {absent}. Renumber them, or make the column a ClassLabel that names all."
        )
    return tuple(str(number) for number in distinct)


def _check_names(names: Sequence[str], where: str) -> None:
    """Refuse names of classes that a person reads as one, and those that cannot be written."""
    read: dict[str, str] = {}
    for name in names:
        if not is_unicode(name):
            raise ValueError(
                f"names of classes must be Unicode, got half of a character (a lone surrogate): {name!a} in {where}."
            )
        same = read.setdefault(unicodedata.normalize("NFKC", name).strip(), name)
        if same != name:
            raise ValueError(
                f"names of classes must differ by more than spaces around them or how a character is encoded, got {same!a} and"
                f" {name!a} in {where}: are they one class? Write them alike."
            )


def is_missing(label: Any) -> bool:
    """Whether a label is none: null or -1."""
    return label is None or label == MISSING


def _only(frame: Frame, role: str, wanted: type) -> str:
    candidates = [name for name, kind in frame.features.items() if isinstance(kind, wanted)]
    if len(candidates) == 1:
        return candidates[0]
    found = f"several {role} columns: {', '.join(candidates)}" if candidates else f"no {role} column by its type"
    raise ValueError(f"{frame.where} has {found}. Name one with `data.{role}_column`. {_columns(frame)}")


def _check_exists(frame: Frame, setting: str, name: str) -> None:
    if name not in frame.features:
        raise ValueError(
            f"`data.{setting}` names `{name}`, which {frame.where} does not have."
            f"{suggest(name, frame.features)} {_columns(frame)}"
        )


def _columns(frame: Frame) -> str:
    return f"Columns there: {', '.join(f'{name} ({_kind(kind)})' for name, kind in frame.features.items())}."


def _kind(kind: Any) -> str:
    if isinstance(kind, ClassLabel):
        return f"ClassLabel of {kind.num_classes}"
    if isinstance(kind, Mixed):
        return kind.words
    return kind.dtype if isinstance(kind, Value) else type(kind).__name__


def _is_integer(kind: Any) -> bool:
    return isinstance(kind, Value) and pa.types.is_integer(kind.pa_type)


def _is_string(kind: Any) -> bool:
    return isinstance(kind, Value) and kind.dtype in ("string", "large_string", "string_view")
