"""From a ``DataConfig`` to images in memory: one function for every source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from logitkd.checks import check_int
from logitkd.data.config import DataConfig
from logitkd.data.images import ImageData, ImageSplit, channel_statistics, fingerprint
from logitkd.data.rng import Stream, first_per_class

if TYPE_CHECKING:
    from logitkd.data.frames import Frame

__all__ = ["load_images"]


def load_images(config: DataConfig, seed: int = 0) -> ImageData:
    """Load both splits of a data set of small images of one size.

    Args:
        config: where the images are, and how many to keep.
        seed: decides which images ``config.train_per_class`` keeps: a pure function of (seed, row).

    Returns:
        The data. Mean and standard deviation are those of the whole training split whatever is kept of it, so that a
        teacher trained on all of it and a student trained on part of it see the same input.

    Raises:
        FileNotFoundError: no such source.
        ConnectionError: a hub id that cannot be reached.
        ValueError: a missing split or column, an empty split, an image that cannot be decoded or has another size, a
            label out of range, too few images of a class or none. The message names file and row.
    """
    if config.train_per_class is not None:
        check_int("data.train_per_class", config.train_per_class, 1, None)
    if config.source == "digits":
        train, evaluation, classes = _digits(config)
    else:
        train, evaluation, classes = _frames(config)
    mean, std = channel_statistics(train.images)
    if config.train_per_class is not None:
        train = _keep(train, config.train_per_class, seed, classes)
    return ImageData(train, evaluation, classes, mean, std, fingerprint(train, evaluation, classes))


# The two readers are imported where they are used: each costs a second of start-up that the other's runs need not pay.


def _digits(config: DataConfig) -> tuple[ImageSplit, ImageSplit, tuple[str, ...]]:
    from logitkd.data.digits import CLASSES, load_digits

    splits = load_digits()
    for name in (config.train_split, config.eval_split):
        if name not in splits:
            raise ValueError(f"there is no split `{name}` in the digits. Splits there: {', '.join(sorted(splits))}.")
    return ImageSplit(*splits[config.train_split]), ImageSplit(*splits[config.eval_split]), CLASSES


def _frames(config: DataConfig) -> tuple[ImageSplit, ImageSplit, tuple[str, ...]]:
    from logitkd.data.columns import class_names, image_column, label_column
    from logitkd.data.decode import decode_images, decode_labels
    from logitkd.data.frames import read_frames

    frames = read_frames(config.source, (config.train_split, config.eval_split))
    image_name, label_name = image_column(frames[0], config.image_column), label_column(frames[0], config.label_column)
    for frame in frames[1:]:
        image_column(frame, image_name)
        label_column(frame, label_name)
    labels = [_read(frame, label_name) for frame in frames]
    classes = class_names(frames, label_name, labels[0])
    splits = []
    for frame, values in zip(frames, labels, strict=True):
        numbers = decode_labels(values, frame.place, classes)  # before the images: it is quick and may fail
        splits.append(ImageSplit(decode_images(_read(frame, image_name), frame.place), numbers))
    sizes = [tuple(split.images.shape[2:]) for split in splits]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"both splits must have images of one size (height x width), got {sizes[0][0]}x{sizes[0][1]} in "
            f"{frames[0].where} and {sizes[1][0]}x{sizes[1][1]} in {frames[1].where}. Resize the data set first."
        )
    _check_learnable(splits[0], splits[1], classes)
    return splits[0], splits[1], classes


def _check_learnable(train: ImageSplit, evaluation: ImageSplit, classes: Sequence[str]) -> None:
    """A class folder spelt differently in the two splits must not pass as a class that is always missed."""
    taught = set(train.labels.unique().tolist())
    untaught = [classes[label] for label in evaluation.labels.unique().tolist() if label not in taught]
    if untaught:
        raise ValueError(
            f"every class of the evaluation split must have training images, got none of {', '.join(untaught[:5])}"
            f"{' and others' if len(untaught) > 5 else ''}. Is a class named differently in the two splits?"
        )


def _read(frame: Frame, column: str) -> Sequence[Any]:
    values = frame.read(column)
    if not values:
        raise ValueError(f"{frame.where} is empty: it has no rows.")
    return values


def _keep(split: ImageSplit, count: int, seed: int, classes: Sequence[str]) -> ImageSplit:
    present, sizes = torch.unique(split.labels, return_counts=True)
    scarcest = int(sizes.argmin())
    if sizes[scarcest] < count:
        raise ValueError(
            f"`data.train_per_class` must be at most {int(sizes[scarcest])}, "
            f"the images there are of class `{classes[int(present[scarcest])]}`, got {count}."
        )
    chosen = first_per_class(split.labels, count, seed, Stream.BUDGET)
    return ImageSplit(split.images[chosen], split.labels[chosen])
