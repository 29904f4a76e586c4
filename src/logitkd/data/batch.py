"""What a loader gives and what it asks for: a batch, the rows to fetch, and the way from pixels to the networks' input."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from logitkd.checks import check_positive

__all__ = ["Batch", "Fetcher", "Normalize", "Request", "Shown"]


class Batch(NamedTuple):
    """What a training step receives, on its device.

    Args:
        inputs: what the networks take: images ``(B, 3, H, W)`` float32, normalised; or several tensors by name.
        labels: ``(B,)`` int64, -1 where one is missing; mixed ones are ``(B, C)`` float32 shares; of a loader of masks
            ``(B, H, W)`` int64, a class each pixel.
        index: ``(B,)`` int64, each example's row in the split.
    """

    inputs: Any
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which no batch needs


class Request(NamedTuple):
    """Views to fetch at once.

    Args:
        rows: ``(B,)`` int64, rows of the split.
        bits: ``(B,)`` int64 random bits: with its row they decide a view, and nothing else does.
    """

    rows: Tensor
    bits: Tensor


class Shown(NamedTuple):
    """What a fetcher yields where a view decides the labels too: a crop of an image has that crop of its mask.

    Args:
        inputs: views, as the networks take them.
        labels: of each of them, on the device of the batches.
    """

    inputs: Any
    labels: Tensor


class Fetcher(Protocol):
    """Where views come from: the only part of a :class:`Loader` that knows how examples are kept.

    A class with these four is all it takes; there is nothing to inherit from.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example's input."""

    @property
    def device(self) -> torch.device:
        """Where it wants the tensors of its requests; its views may come out elsewhere."""

    def __len__(self) -> int:
        """Rows there are."""

    def fetch(self, requests: Iterable[Request]) -> Generator[Any, None, None]:
        """Yield the views of each request, ``(B, ...)`` as the networks take them, on the device of the batches.

        One tensor where they are to be mixed; :class:`Shown` where they bring their labels. A function of the requests alone.
        It ends all that it started when it is closed.
        """


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
