"""Maps of logits brought from one grid to another: the one home of how."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["grid_size", "resize_map"]


def grid_size(logits: Tensor) -> tuple[int, int]:
    """Return rows and columns of a map ``(N, h, w, C)``.

    >>> grid_size(Tensor(2, 4, 6, 3))
    (4, 6)
    """
    return logits.shape[-3], logits.shape[-2]


def resize_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map on another grid: bilinear, corners not aligned, as segmentation networks resize theirs.

    Args:
        logits: ``(N, h, w, C)``.
        size: rows and columns of the other grid; where they are h and w, ``logits`` itself is returned.

    >>> resize_map(Tensor([[[[0.0], [1.0]]]]), (1, 4)).flatten()  # cell centres at -1/4, 1/4, 3/4 and 5/4 of the old ones
    tensor([0.0000, 0.2500, 0.7500, 1.0000])
    """
    if grid_size(logits) == tuple(size):
        return logits
    return F.interpolate(logits.movedim(-1, 1), tuple(size), mode="bilinear", align_corners=False).movedim(1, -1)
