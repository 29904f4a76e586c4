"""Labelled images of one size, in memory: what every source becomes."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ImageData", "ImageSplit", "channel_statistics", "fingerprint"]


@dataclass(frozen=True)
class ImageSplit:
    """One split, decoded.

    Args:
        images: ``(N, 3, H, W)`` uint8, RGB, contiguous, on the CPU.
        labels: ``(N,)`` int64 class numbers.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageData:
    """A data set, ready to train on.

    Args:
        train: the labelled training images (after ``train_per_class``).
        eval: the images every reported accuracy is measured on.
        classes: the name of each class, in label order.
        mean: mean of each channel over the whole training split, in [0, 1].
        std: standard deviation of each channel over the whole training split.
        fingerprint: hash of all pixels, labels and class names; equal exactly where the data are equal.
    """

    train: ImageSplit
    eval: ImageSplit
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str


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


def fingerprint(train: ImageSplit, eval: ImageSplit, classes: tuple[str, ...]) -> str:
    """Return a hash (32 hexadecimal digits) of pixels, labels, their order, and the class names."""
    digest = hashlib.sha256(repr(classes).encode())
    for split in (train, eval):
        digest.update(repr(tuple(split.images.shape)).encode())
        digest.update(split.images.numpy().data)
        digest.update(split.labels.numpy().data)
    return digest.hexdigest()[:32]
