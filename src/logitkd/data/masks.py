"""From a ``MaskConfig`` to images with masks: what every source becomes, and one function for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from logitkd.data.decode import encoded, open_image
from logitkd.data.fingerprint import source_snapshot
from logitkd.data.images import IMAGENET_MEAN, IMAGENET_STD
from logitkd.data.kept import Kept
from logitkd.data.mask_classes import (
    Seen,
    check_labelled,
    check_learnable,
    class_names,
    first_palette,
    look,
    pixels_of_classes,
)
from logitkd.data.mask_config import MaskConfig
from logitkd.data.mask_files import DECODING, Pairs, content_hashes, is_absent, open_mask
from logitkd.data.mask_folder import MASKED
from logitkd.data.palettes import Palette, default_palette
from logitkd.data.selection import check_selection
from logitkd.data.splits import find_folder
from logitkd.hashes import Snapshot

__all__ = ["UNLABELLED", "VOID", "MaskData", "MaskSplit", "load_masks", "mask_fingerprint"]

VOID = -1  # a pixel that is marked as of no class, or outside of the image: no loss, no distillation
UNLABELLED = -2  # a pixel of which nobody said the class: distilled all the same
# What of a MaskConfig no fingerprint depends on: it is of the images and masks as they are kept.
SHAPING = ("source", "palette", "image_size", "crop_size", "scale", "flip", "color_jitter", "workers", "mean", "std")


@dataclass(frozen=True)
class MaskSplit:
    """One split, not decoded.

    Args:
        pairs: the images and masks as their source keeps them.
        rows: ``(N,)`` int64, the rows of both that make this split, in order.
        sizes: ``(N, 2)`` int64, height and width of each image, and so of its mask.
        ignore_index: the number in masks that marks pixels without a class.
        absent: what a pixel of an image without a mask is.
        unlabelled: images that have no mask.
    """

    pairs: Pairs
    rows: Tensor
    sizes: Tensor
    ignore_index: int | None
    absent: int = UNLABELLED
    unlabelled: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the images where all have the same, else ``None``."""
        height, width = self.sizes[0].tolist()
        return (height, width) if bool((self.sizes == self.sizes[0]).all()) else None

    def image(self, index: int) -> Image.Image:
        """Return image ``index`` in Pillow's mode RGB, as its file has it: an orientation in its EXIF data is not applied.

        Raises:
            ValueError: it cannot be read or decoded; its place is named.
        """
        row = int(self.rows[index])
        place = self.pairs.place
        return open_image(encoded(self.pairs.images[row], row, place), row, place)

    def mask(self, index: int) -> np.ndarray:
        """Return the class of each pixel of image ``index``, ``(H, W)`` int16, some of them ``VOID`` or ``UNLABELLED``.

        Raises:
            ValueError: it cannot be read or decoded; its place is named.
        """
        row = int(self.rows[index])
        value = None if self.pairs.masks is None else self.pairs.masks[row]
        if is_absent(value):
            return np.full(self.sizes[index].tolist(), self.absent, dtype=np.int16)
        numbers = open_mask(value, row, self.pairs.mask_place)
        classes = numbers.astype(np.int16)
        if self.ignore_index is not None:
            classes[numbers == self.ignore_index] = VOID
        return classes

    def update(self, digest: Any) -> None:
        """Feed images and masks (their encoded bytes, no pixels), and their order to a hash."""
        rows = self.rows.tolist()
        digest.update(repr((len(rows), self.ignore_index)).encode())
        for column, place in ((self.pairs.images, self.pairs.place), (self.pairs.masks, self.pairs.mask_place)):
            for part in [] if column is None else content_hashes(column, rows, place):
                digest.update(part)


@dataclass(frozen=True)
class MaskData(Kept):
    """A data set of images with masks.

    Args:
        train: the training images; some may have no mask.
        eval: the images every reported score is measured on.
        classes: the name of each class, in the order of their numbers.
        palette: the color of each class.
        mean: of each channel, to be subtracted from the input (255 is 1).
        std: of each channel, to divide the input by.
        counts: ``(C,)`` int64, training pixels of each class; all 0 without labels.

    Attributes:
        files: as of :class:`~logitkd.data.images.ImageData`.
    """

    train: MaskSplit
    eval: MaskSplit
    classes: tuple[str, ...]
    palette: Palette
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: Tensor
    files: Snapshot | None = field(default=None, init=False, repr=False, compare=False)

    def summary(self) -> str:
        """Say in a line how much there is and of what."""
        shown = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        size = "" if self.train.size is None else f" ({self.train.size[0]}x{self.train.size[1]})"
        counts = f"{len(self.train):,} training{size} and {len(self.eval):,} evaluation images with masks"
        return f"{counts} of {len(self.classes)} classes: {shown}"


def load_masks(config: MaskConfig, *, labels: Literal["given", "none"] = "given") -> MaskData:
    """Load both splits of a data set of images with masks: encoded, but every mask is looked at.

    Masks are decoded once; what numbers there are in them is kept by the hash of their bytes (see ``data/cache.py``).

    Args:
        config: where they are, and what their numbers mean.
        labels: ``none`` looks at no mask of the training split; it may have none. Classes are then those of the evaluation
            split, unless they are named.

    Warns:
        UserWarning: a class that no training mask has, or the evaluation split lacks a class that training has.

    Raises:
        FileNotFoundError: no such source.
        ConnectionError: a hub id that cannot be reached.
        ValueError: no source named, a missing split, column or mask, files that are no pairs, an image that cannot be read, a
            mask that cannot be decoded, has another size than its image, several channels, or a number that is no class, a
            class that only the evaluation split has, or a single class. The message names file and row.
    """
    from logitkd.data.mask_source import read_pairs  # `datasets` comes with it: a second of start-up

    if problems := config.problems():
        raise ValueError(" ".join(problems))
    check_selection(config, labels)
    files = _snapshot(config, labels)  # before they are read: a change meanwhile must not go unseen
    ignore, labelled = config.ignore_index, labels == "given"
    train, evaluation = (look(*part) for part in _divide(read_pairs(config, labelled), config, labelled))
    check_labelled(train, evaluation, labelled)
    classes = class_names([train, evaluation] if labelled else [evaluation], config.classes, ignore)
    counts, tested = (pixels_of_classes(seen, len(classes), ignore) for seen in (train, evaluation))
    if labelled:
        check_learnable(counts, tested, classes, train.pairs.where, ignore)
    data = MaskData(
        _split(train, ignore),
        _split(evaluation, ignore),
        classes,
        _palette(config, classes, [train, evaluation]),
        config.mean or IMAGENET_MEAN,
        config.std or IMAGENET_STD,
        counts,
    )
    object.__setattr__(data, "files", files)
    return data


def _split(seen: Seen, ignore_index: int | None) -> MaskSplit:
    return MaskSplit(seen.pairs, torch.tensor(seen.rows), seen.sizes, ignore_index, unlabelled=len(seen.unlabelled))


def mask_fingerprint(config: MaskConfig, labels: Literal["given", "none"] = "given") -> str | None:
    """Return the fingerprint that ``load_masks`` of the same arguments would give its data, if that is known already.

    Only names, sizes and times of files are looked at; see :func:`~logitkd.data.fingerprint.data_fingerprint`.

    Raises:
        FileNotFoundError: no such source.
        ValueError: the source is a file.
    """
    files = _snapshot(config, labels)
    return None if files is None else files.known()


def _snapshot(config: MaskConfig, labels: str) -> Snapshot | None:
    folder = find_folder(config.source, MASKED)
    return source_snapshot(config, folder, f"masks, decoding {DECODING}, Pillow {PIL.__version__}", SHAPING, 0, labels=labels)


def _divide(pairs: Sequence[Pairs], config: MaskConfig, labelled: bool) -> list[tuple[Pairs, range]]:
    """Return what each split is made of: with ``eval_fraction`` the last images of the one there is are the evaluation's."""
    if config.eval_fraction is None:
        return [(part, range(len(part.images))) for part in pairs]
    (whole,), count = pairs, len(pairs[0].images)
    if count < 2:
        raise ValueError(f"`data.eval_fraction` must leave images to train on, but {whole.where} has a single one.")
    start = count - min(max(round(count * config.eval_fraction), 1), count - 1)
    train = whole if labelled else replace(whole, masks=None)
    return [(train, range(start)), (whole, range(start, count))]


def _palette(config: MaskConfig, classes: Sequence[str], splits: Sequence[Seen]) -> Palette:
    """Return the color of each class: those asked for, else those of the first mask, else colors that differ well."""
    found: Sequence[tuple[int, int, int]] = ()
    if config.palette is not None:
        if len(config.palette) < len(classes):
            raise ValueError(
                f"`data.palette` must have a color for each of the {len(classes)} classes, got {len(config.palette)}."
            )
        found = [(red, green, blue) for red, green, blue in config.palette]
    else:
        found = next((colors for seen in splits if (colors := first_palette(seen))), ())
    return default_palette(len(classes), found)
