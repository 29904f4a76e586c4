"""What every source becomes: a data set of two splits, and a split of small images of one size, in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from logitkd.data.kept import Kept
from logitkd.hashes import Snapshot

if TYPE_CHECKING:
    from logitkd.data.encoded import EncodedSplit

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "ImageData", "ImageSplit", "channel_statistics"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageSplit:
    """One split, decoded.

    Args:
        images: ``(N, 3, H, W)`` uint8, RGB, contiguous, on the CPU.
        labels: ``(N,)`` int64 class numbers; in a training split -1 where one is missing.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Tensor) -> ImageSplit:
        """Return the split of the examples that ``chosen``, a ``(N,)`` bool mask, marks."""
        return ImageSplit(self.images[chosen], self.labels[chosen])

    def update(self, digest: Any) -> None:
        """Feed pixels, labels and their order to a hash."""
        digest.update(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.numpy().data)
        digest.update(self.labels.numpy().data)


@dataclass(frozen=True)
class ImageData(Kept):
    """A data set, ready to train on: decoded, or encoded images of any size, which :func:`make_loader` tells apart.

    Its fingerprint is of the pixels where these are in memory, so equal exactly where they are. Images of any size are hashed
    as they are encoded: every file is read once, none is decoded, and the same pixels in another file format are other data.

    Args:
        train: the labelled training images (after ``train_per_class``).
        eval: the images every reported accuracy is measured on.
        classes: the name of each class, in label order.
        mean: of each channel, to be subtracted from the input, in [0, 1].
        std: of each channel, to divide the input by.

    Attributes:
        files: what the source's files were like before they were read, where it has any: with it the fingerprint is kept. Data
            made from others (``dataclasses.replace``) have none: they are other data.
    """

    train: ImageSplit | EncodedSplit
    eval: ImageSplit | EncodedSplit
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: Snapshot | None = field(default=None, init=False, repr=False, compare=False)

    def summary(self) -> str:
        """Say in a line how much there is and of what.

        >>> split = ImageSplit(torch.zeros(2, 3, 1, 1, dtype=torch.uint8), torch.tensor([0, 1]))
        >>> ImageData(split, split, ("ant", "bee"), (0.0,) * 3, (1.0,) * 3).summary()
        '2 training and 2 evaluation images of 2 classes: ant, bee'
        """
        shown = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        counts = f"{len(self.train):,} training and {len(self.eval):,} evaluation images"
        return f"{counts} of {len(self.classes)} classes: {shown}"


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and (population) standard deviation of each channel, on the scale where 255 is 1.

    The sums are of integers, from the histogram of the 256 values, so they are exact: the same on every machine and for
    every number of threads.

    Args:
        images: ``(N, 3, H, W)`` uint8.

    Raises:
        ValueError: a channel has one value everywhere, which nothing can normalise.

    >>> images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    >>> channel_statistics(images)
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    """
    means, deviations = [], []
    for channel in range(images.shape[1]):
        histogram = torch.zeros(256, dtype=torch.int64)
        for piece in images[:, channel].split(4096):  # bincount widens its input to int64: a piece at a time
            histogram += torch.bincount(piece.reshape(-1), minlength=256)
        counts = histogram.tolist()
        total = sum(counts)
        first = sum(value * count for value, count in enumerate(counts))
        second = sum(value * value * count for value, count in enumerate(counts))
        spread = second * total - first * first  # total**2 * variance, an exact integer
        if spread == 0:
            raise ValueError(
                f"channel {channel} of the training images has one value ({first // total}) in every pixel: "
                "there is nothing to learn from and nothing to normalise by."
            )
        means.append(first / total / 255)
        deviations.append(math.sqrt(spread) / total / 255)
    return tuple(means), tuple(deviations)
