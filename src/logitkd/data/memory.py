"""Batches of small images that already live on the training device: cropped, flipped and normalised there."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from logitkd.checks import check_int, check_positive
from logitkd.data.images import ImageSplit
from logitkd.data.rng import Stream, permutation, random_below, random_bits

__all__ = ["Batch", "DeviceLoader", "Normalize"]


class Batch(NamedTuple):
    """What a training step receives, on its device.

    Args:
        inputs: what the networks take: images ``(B, 3, H, W)`` float32, normalised.
        labels: ``(B,)`` int64, -1 where one is missing; mixed ones are ``(B, C)`` float32 shares.
        index: ``(B,)`` int64, each example's row in the split.
    """

    inputs: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which no batch needs


class Normalize:
    """From pixels to the network's input: ``(pixel / 255 - mean) / std``, in this order, so equal to torchvision's bit by bit.

    Args:
        mean: of each channel, on the scale where 255 is 1.
        std: of each channel, above 0.
        channels: how many there are.
        device: of the pixels.
        channels_last: give images in the channels_last memory format.

    Raises:
        ValueError: not one value a channel, or a ``std`` that is not above 0.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], *, channels: int, device: torch.device, channels_last: bool
    ) -> None:
        for name, values in (("mean", mean), ("std", std)):
            if len(values) != channels:
                raise ValueError(f"`{name}` must have one value a channel ({channels}), got {tuple(values)}.")
        for value in std:
            check_positive("std", value)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        # Divisors are tensors on the device: CUDA turns division by a host number into multiplication by its
        # reciprocal, whose last bit differs.
        self._full = torch.tensor(255.0, device=device)
        self._mean = torch.tensor(mean, device=device, dtype=torch.float32).view(-1, 1, 1)
        self._std = torch.tensor(std, device=device, dtype=torch.float32).view(-1, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return ``(B, channels, H, W)`` float32 from uint8 ``pixels`` of that shape."""
        images = pixels.to(torch.float32, memory_format=self._memory_format)
        return images.div_(self._full).sub_(self._mean).div_(self._std)


class DeviceLoader:
    """Iterates over a split held as one uint8 tensor on the device; no workers, no host synchronisation.

    In epoch ``e`` the order is a pure function of ``(seed, e)``, and crop and flip of row ``i`` of ``(seed, e, i)``:
    batch size, device and where the epoch is entered change nothing. One image, in pseudo-code::

        padded = zero_pad(images[i], crop_padding)          # raw zeros, as torchvision's RandomCrop before ToTensor
        view = padded[:, top : top + H, left : left + W]    # top, left in [0, 2 * crop_padding]
        view = mirror(view) if flip
        batch_image = (view / 255 - mean) / std             # in this order, so equal to torchvision's bit by bit

    Args:
        split: the images and labels; on the CPU its memory is shared, not copied.
        batch_size: examples a batch; the last batch of an epoch is smaller where they do not divide the split (so a
            batch size beyond the split gives one batch of everything).
        device: where images live and batches are made.
        mean: of each channel, on the scale where 255 is 1.
        std: of each channel, above 0.
        seed: decides order and augmentation.
        shuffle: a new order each epoch; otherwise the split's own.
        crop_padding: pixels of zero padding on each side before a random crop of the original size; 0 turns it off.
        flip: mirror half of the images left to right.
        channels_last: give images in the channels_last memory format.

    Raises:
        ValueError: an argument out of range, or an empty split.
    """

    def __init__(
        self,
        split: ImageSplit,
        *,
        batch_size: int,
        device: torch.device | str,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
        shuffle: bool = False,
        crop_padding: int = 0,
        flip: bool = False,
        channels_last: bool = False,
    ) -> None:
        _check(split, batch_size, seed, crop_padding)
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.crop_padding = crop_padding
        self.flip = flip
        self._images = split.images.to(self.device)
        self._labels = split.labels.to(self.device)
        channels = split.images.shape[1]
        self._normalize = Normalize(mean, std, channels=channels, device=self.device, channels_last=channels_last)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image in a batch."""
        _, channels, height, width = self._images.shape
        return channels, height, width

    def __len__(self) -> int:
        """Steps in an epoch."""
        return -(-len(self._labels) // self.batch_size)

    def epoch(self, epoch: int, start_step: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, from ``start_step`` on.

        Args:
            epoch: counts from 1.
            start_step: batches to leave out at the start (they cost nothing), in [0, ``len(self)``].

        Raises:
            ValueError: ``epoch`` or ``start_step`` out of range.
        """
        check_int("epoch", epoch, 1, None)
        check_int("start_step", start_step, 0, len(self), "the steps of an epoch")
        return self._batches(epoch, start_step)

    def _batches(self, epoch: int, start_step: int) -> Generator[Batch, None, None]:
        count = len(self._labels)
        order = permutation(count, self.seed, epoch, self.device) if self.shuffle else torch.arange(count, device=self.device)
        # Hashing the whole epoch at once costs as much as hashing a few batches: small kernels are all overhead.
        bits = random_bits(self.seed, epoch, order, Stream.VIEW)
        for start in range(start_step * self.batch_size, count, self.batch_size):
            index = order[start : start + self.batch_size]
            views = self._augment(self._images.index_select(0, index), bits[start : start + self.batch_size])
            yield Batch(self._normalize(views), self._labels.index_select(0, index), index)

    def _augment(self, images: Tensor, bits: Tensor) -> Tensor:
        """Crop and flip ``(B, 3, H, W)`` uint8 images as their ``(B,)`` random bits say."""
        if self.crop_padding:
            choices = 2 * self.crop_padding + 1
            top, left = random_below(bits, choices, word=0), random_below(bits, choices, word=1)
            images = _crop(images, top, left, self.crop_padding)
        if self.flip:
            mirrored = random_below(bits, 2, word=2).bool()
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        return images


def _crop(images: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Return each image's window of its own size at (top, left) of the zero-padded image: one gather for the batch."""
    count, channels, height, width = images.shape
    padded = F.pad(images, (padding, padding, padding, padding))
    image, plane, row, column = padded.stride()
    choices = 2 * padding + 1
    # Every window there is, as a view: [example, top, left] -> (channels, height, width). Nothing is copied until
    # the indexing, which copies whole windows (indexing pixels takes 2 to 4 times as long).
    windows = padded.as_strided((count, choices, choices, channels, height, width), (image, row, column, plane, row, column))
    return windows[torch.arange(count, device=images.device), top, left]


def _check(split: ImageSplit, batch_size: int, seed: int, crop_padding: int) -> None:
    if len(split) == 0:
        raise ValueError("`split` is empty: there is nothing to iterate over.")
    check_int("batch_size", batch_size, 1, None)
    check_int("seed", seed, 0, 2**63 - 1)
    check_int("crop_padding", crop_padding, 0, min(split.images.shape[2:]), "0 to the image size")
