"""Views of small images that already live on the training device: cropped, flipped and normalised there."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from logitkd.checks import check_int
from logitkd.data.batch import Normalize, Request
from logitkd.data.rng import random_below

__all__ = ["MemoryFetcher"]


class MemoryFetcher:
    """Fetches from images held as one uint8 tensor on the device; no workers, no host synchronisation.

    One view, in pseudo-code::

        padded = zero_pad(images[row], crop_padding)        # raw zeros, as torchvision's RandomCrop before ToTensor
        view = padded[:, top : top + H, left : left + W]    # top, left in [0, 2 * crop_padding], by the row's bits
        view = mirror(view) if flip                         # likewise
        view = (view / 255 - mean) / std                    # in this order, so equal to torchvision's bit by bit

    Args:
        images: ``(N, 3, H, W)`` uint8; on the CPU their memory is shared, not copied.
        normalize: from pixels to the networks' input.
        device: where the images live.
        crop_padding: pixels of zero padding on each side before a random crop of the original size; 0 turns it off.
        flip: mirror half of the images left to right.

    Raises:
        ValueError: ``crop_padding`` is out of range.
    """

    def __init__(
        self, images: Tensor, normalize: Normalize, *, device: torch.device | str, crop_padding: int = 0, flip: bool = False
    ) -> None:
        check_int("crop_padding", crop_padding, 0, min(images.shape[2:]), "0 to the image size")
        self.device = torch.device(device)
        self.crop_padding, self.flip = crop_padding, flip
        self._images = images.to(self.device)
        self._normalize = normalize

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of an image."""
        return tuple(self._images.shape[1:])

    def __len__(self) -> int:
        """Images there are."""
        return len(self._images)

    def fetch(self, requests: Iterable[Request]) -> Generator[Tensor, None, None]:
        """Yield the views of each request, ``(B, 3, H, W)`` float32."""
        for rows, bits in requests:
            yield self._normalize(self._augment(self._images.index_select(0, rows), bits))

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
