"""From a ``DataConfig`` to labelled images: one function for every source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from logitkd.data.config import DataConfig
from logitkd.data.fingerprint import data_snapshot
from logitkd.data.images import IMAGENET_MEAN, IMAGENET_STD, ImageData, ImageSplit, channel_statistics
from logitkd.data.selection import check_selection, divide, keep
from logitkd.data.splits import IMAGES, check_splits, split_names

if TYPE_CHECKING:
    from logitkd.data.encoded import EncodedSplit

__all__ = ["load_images"]


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
    check_selection(config, labels)
    files = data_snapshot(config, seed, labels)  # before they are read: a change meanwhile must not go unseen
    splits, classes = _digits(config) if config.source == "digits" else _frames(config, labels == "given")
    train, evaluation = divide(splits, config, labels == "given", classes, IMAGES)
    if config.mean is not None and config.std is not None:
        mean, std = config.mean, config.std
    elif isinstance(train, ImageSplit):
        mean, std = channel_statistics(train.images)
    else:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    if config.train_per_class is not None:
        train = keep(train, config.train_per_class, seed, classes, IMAGES)
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
    from logitkd.data.columns import image_column, label_column
    from logitkd.data.decode import decode_images
    from logitkd.data.encoded import whole
    from logitkd.data.labels import label_name, read_labels, values_of
    from logitkd.data.readers import read_frames

    frames = read_frames(config.source, *split_names(config), unlabelled=not labelled)
    image_name = image_column(frames[0], config.image_column)
    for frame in frames[1:]:
        image_column(frame, image_name)
    # The labels of all splits before the images: they are quick to read and may be wrong.
    name = label_name(frames, label_column, config.label_column, labelled)
    numbers, classes = read_labels(frames, name, image_name, IMAGES, labelled=labelled)
    if config.image_size is not None:
        splits = zip(frames, numbers, strict=True)
        return [whole(frame.column(image_name), known, frame.place) for frame, known in splits], classes
    decoded = [decode_images(values_of(frame, image_name), frame.place) for frame in frames]
    sizes = [tuple(images.shape[2:]) for images in decoded]
    if sizes[0] != sizes[-1]:
        raise ValueError(
            f"both splits must have images of one size (height x width), got {sizes[0][0]}x{sizes[0][1]} in "
            f"{frames[0].where} and {sizes[1][0]}x{sizes[1][1]} in {frames[1].where}. For images of any size give "
            "`data.image_size`."
        )
    return [ImageSplit(images, known) for images, known in zip(decoded, numbers, strict=True)], classes
