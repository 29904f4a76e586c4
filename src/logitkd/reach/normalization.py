"""Images normalised for one network, normalised again for another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Renormalize", "renormalization"]


class Renormalize(nn.Module):
    """Turn images normalised by ``mean`` and ``std`` into the same images normalised by ``own_mean`` and ``own_std``.

    One multiplication and one addition a channel::

        pixels = images * std + mean
        result = (pixels - own_mean) / own_std = images * (std / own_std) + (mean - own_mean) / own_std

    Args:
        mean: of each of D channels, what the images were normalised by, on the scale where 255 is 1.
        std: likewise, above 0.
        own_mean: what they are to be normalised by.
        own_std: likewise, above 0.

    Raises:
        ValueError: not one value a channel everywhere.

    >>> images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)  # pixels 0.5 and 0.75
    >>> Renormalize([0.5], [0.25], [0.25], [0.5])(images).flatten().tolist()
    [0.5, 1.0]
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], own_mean: Sequence[float], own_std: Sequence[float]
    ) -> None:
        super().__init__()
        counts = {len(values) for values in (mean, std, own_mean, own_std)}
        if len(counts) != 1:
            raise ValueError(
                f"means and standard deviations must have one value a channel, got {len(mean)} and {len(std)} for the images,"
                f" {len(own_mean)} and {len(own_std)} for the network."
            )
        self.own_mean, self.own_std = tuple(own_mean), tuple(own_std)
        before, own, width = (torch.tensor(values, dtype=torch.float64) for values in (mean, own_mean, own_std))
        # Not persistent: they say how the network is fed and are no weights of it.
        self.register_buffer("scale", _column(torch.tensor(std, dtype=torch.float64) / width), persistent=False)
        self.register_buffer("shift", _column((before - own) / width), persistent=False)

    def record(self) -> dict[str, list[float]]:
        """Return what a network's images are normalised by."""
        return {"mean": list(self.own_mean), "std": list(self.own_std)}

    def forward(self, images: Tensor) -> Tensor:
        """Return images ``(N, D, H, W)`` normalised for the network."""
        return torch.addcmul(self.shift, images, self.scale)


def renormalization(mean: Sequence[float], std: Sequence[float], source: Any, own: Mapping[str, Any]) -> Renormalize | None:
    """Return what normalises images as in a teacher's training; None where that is how they are normalised already.

    Args:
        mean: what they were normalised by.
        std: likewise.
        source: the teacher's settings, whose ``mean`` and ``std`` come first.
        own: what its weights, or the run that trained it, say; by default ``mean`` and ``std``.
    """
    theirs = tuple(source.mean or own.get("mean") or mean), tuple(source.std or own.get("std") or std)
    return None if theirs == (tuple(mean), tuple(std)) else Renormalize(mean, std, *theirs)


def _column(values: Tensor) -> Tensor:
    return values.to(torch.float32).view(-1, 1, 1)
