"""From a ``DataConfig`` to labelled images: one function for every source."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from logitkd.checks import check_choice, check_int, listed
from logitkd.data.config import DataConfig
from logitkd.data.fingerprint import data_snapshot
from logitkd.data.images import IMAGENET_MEAN, IMAGENET_STD, ImageData, ImageSplit, channel_statistics
from logitkd.data.rng import Stream, first_per_class
from logitkd.data.splits import check_splits, split_names

if TYPE_CHECKING:
    from logitkd.data.encoded import EncodedSplit
    from logitkd.data.frames import Frame

__all__ = ["load_images"]

SPLIT_SEED = 0  # whatever the run's: the images to evaluate on must be the same in every run


def load_images(config: DataConfig, seed: int = 0, *, labels: Literal["given", "none"] = "given") -> ImageData:
    """Load both splits of a data set: decoded if its images have one, small size, encoded with ``config.image_size``.

    Args:
        config: where the images are, and how many to keep.
        seed: decides which images ``config.train_per_class`` keeps: a pure function of (seed, row). A run's ``data_seed``.
        labels: ``none`` hides the training split's labels, if it has any: each is -1. Classes are then those of both splits,
            and those of the evaluation split need no training images.

    Warns:
        UserWarning: the evaluation split lacks a class that has training images.

    Returns:
        The data; a missing training label is -1. Mean and standard deviation of small images are by default those of the
        whole training split whatever is kept of it, so that a teacher trained on all of it and a student trained on part of it
        see the same input.

    Raises:
        FileNotFoundError: no such source.
        ConnectionError: a hub id that cannot be reached.
        ValueError: a missing split or column, an empty split, an image that cannot be decoded or has another size, a
            label out of range, a missing evaluation label, no training label at all, too few images of a class or none, a
            single class. The message names file and row. Images of any size are not looked at here, but by
            :attr:`ImageData.fingerprint` and when they are decoded.
    """
    if config.train_per_class is not None:
        check_int("data.train_per_class", config.train_per_class, 1, None)
        if labels == "none":
            raise ValueError("`data.train_per_class` must be left out without labels: no class can be counted.")
    check_choice("labels", labels, ["given", "none"])
    files = data_snapshot(config, seed, labels)  # before they are read: a change meanwhile must not go unseen
    splits, classes = _digits(config) if config.source == "digits" else _frames(config, labels == "given")
    if config.eval_fraction is not None:
        splits = _hold_out(splits[0], config.eval_fraction)
    train, evaluation = splits
    if labels == "none":
        train = replace(train, labels=torch.full_like(train.labels, -1))
    else:
        _check_learnable(train, evaluation, classes)
    if config.mean is not None and config.std is not None:
        mean, std = config.mean, config.std
    elif isinstance(train, ImageSplit):
        mean, std = channel_statistics(train.images)
    else:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    if config.train_per_class is not None:
        train = _keep(train, config.train_per_class, seed, classes)
    data = ImageData(train, evaluation, classes, mean, std)
    object.__setattr__(data, "files", files)
    return data


# The two readers are imported where they are used: each costs a second of start-up that the other's runs need not pay.


def _digits(config: DataConfig) -> tuple[list[ImageSplit | EncodedSplit], tuple[str, ...]]:
    from logitkd.data.digits import CLASSES, load_digits

    splits = load_digits()
    names, absent = split_names(config)
    check_splits(names, absent, "`digits`", splits)
    return [ImageSplit(*splits[name]) for name in names], CLASSES


def _frames(config: DataConfig, labelled: bool) -> tuple[list[ImageSplit | EncodedSplit], tuple[str, ...]]:
    from logitkd.data.columns import class_names, image_column
    from logitkd.data.decode import decode_images, decode_labels, is_missing
    from logitkd.data.encoded import whole
    from logitkd.data.readers import read_frames

    frames = read_frames(config.source, *split_names(config), unlabelled=not labelled)
    image_name = image_column(frames[0], config.image_column)
    for frame in frames[1:]:
        image_column(frame, image_name)
    label_name = _label_name(frames, config, labelled)
    # The labels of all splits before the images: they are quick to read and may be wrong.
    labels = [_labels(frame, label_name, image_name) for frame in frames]
    typed = [frame for frame, values in zip(frames, labels, strict=True) if not all(map(is_missing, values))]
    if labelled and frames[0] not in typed:
        raise ValueError(f"every label of {frames[0].where} is missing, in column `{label_name}`. {_TEACHER_ALONE}")
    if frames[-1] not in typed:
        raise ValueError(f"the evaluation split must be labelled, but every label of {frames[-1].where} is missing.")
    classes = class_names(typed, label_name, labels[0] if labelled else [label for values in labels for label in values])
    numbers = [
        decode_labels(values, frame.place, classes, missing=frame is frames[0])
        for frame, values in zip(frames, labels, strict=True)
    ]
    _check_several(numbers[0], frames[0], classes)
    if config.image_size is not None:
        splits = zip(frames, numbers, strict=True)
        return [whole(frame.column(image_name), known, frame.place) for frame, known in splits], classes
    decoded = [decode_images(_read(frame, image_name), frame.place) for frame in frames]
    sizes = [tuple(images.shape[2:]) for images in decoded]
    if sizes[0] != sizes[-1]:
        raise ValueError(
            f"both splits must have images of one size (height x width), got {sizes[0][0]}x{sizes[0][1]} in "
            f"{frames[0].where} and {sizes[1][0]}x{sizes[1][1]} in {frames[1].where}. For images of any size give "
            "`data.image_size`."
        )
    return [ImageSplit(images, known) for images, known in zip(decoded, numbers, strict=True)], classes


_TEACHER_ALONE = "To train on the teacher alone, without labels, give `labels: none`."


def _label_name(frames: Sequence[Frame], config: DataConfig, labelled: bool) -> str:
    """Return the column of labels; without labels the training split may lack it."""
    from logitkd.data.columns import label_column

    if not labelled:
        return label_column(frames[-1], config.label_column)
    try:
        name = label_column(frames[0], config.label_column)
    except ValueError as error:
        label_column(frames[-1], config.label_column)  # a column that neither split has is not a matter of missing labels
        raise ValueError(f"{error} {_TEACHER_ALONE}") from error
    label_column(frames[-1], name)
    return name


def _labels(frame: Frame, name: str, images: str) -> Sequence[Any]:
    """Return a split's labels; all are missing where it has no such column."""
    return _read(frame, name) if name in frame.features else [None] * len(_read(frame, images))


def _check_several(labels: torch.Tensor, frame: Frame, classes: Sequence[str]) -> None:
    present = labels[labels >= 0].unique().tolist()
    if len(present) == 1:
        raise ValueError(
            f"images must be of at least 2 classes, got `{classes[present[0]]}` alone in {frame.where}: there is nothing to "
            "tell apart. Is this the right folder or `data.label_column`?"
        )


def _hold_out(train: ImageSplit | EncodedSplit, fraction: float) -> list[ImageSplit | EncodedSplit]:
    """Take ``fraction`` of each class out of the training split: at least one image, except of a class that has only one.

    Which ones is a function of (row, labels) alone; a larger fraction takes those that a smaller one takes.
    """
    labelled = (train.labels >= 0).nonzero().flatten()
    labels = train.labels[labelled]
    sizes = torch.bincount(labels)
    count = (sizes * fraction).round().long().clamp(min=1).minimum(sizes - 1)
    out = torch.zeros(len(train), dtype=torch.bool)
    out[labelled[first_per_class(labels, count, SPLIT_SEED, Stream.SPLIT)]] = True
    if not out.any():
        raise ValueError("`data.eval_fraction` must leave something to evaluate on, but every class has a single image.")
    return [train.take(~out), train.take(out)]


def _check_learnable(train: ImageSplit | EncodedSplit, evaluation: ImageSplit | EncodedSplit, classes: Sequence[str]) -> None:
    """A class folder spelt differently in the two splits must not pass as a class that is always missed, or never asked."""
    taught = set(train.labels.unique().tolist())
    untaught = [classes[label] for label in evaluation.labels.unique().tolist() if label not in taught]
    if untaught:
        raise ValueError(
            f"every class of the evaluation split must have training images, got none of {', '.join(untaught[:5])}"
            f"{' and others' if len(untaught) > 5 else ''}. Is a class named differently in the two splits?"
        )
    tested = set(evaluation.labels.tolist())
    untested = [classes[label] for label in sorted(taught - tested) if label >= 0]
    if untested:
        warnings.warn(
            f"the evaluation split has no image of {len(untested)} of the {len(classes)} classes in training "
            f"({listed(untested, 5)}): its accuracy says nothing of them. Is something missing there?",
            stacklevel=3,
        )


def _read(frame: Frame, column: str) -> Sequence[Any]:
    values = frame.read(column)
    if not values:
        raise ValueError(f"{frame.where} is empty: it has no rows.")
    return values


def _keep(split: ImageSplit | EncodedSplit, count: int, seed: int, classes: Sequence[str]) -> ImageSplit | EncodedSplit:
    if (split.labels < 0).any():
        raise ValueError("`data.train_per_class` must be left out where training labels are missing: not every class is known.")
    present, sizes = torch.unique(split.labels, return_counts=True)
    scarcest = int(sizes.argmin())
    if sizes[scarcest] < count:
        raise ValueError(
            f"`data.train_per_class` must be at most {int(sizes[scarcest])}, "
            f"the images there are of class `{classes[int(present[scarcest])]}`, got {count}."
        )
    return split.take(first_per_class(split.labels, count, seed, Stream.BUDGET))
