"""The embedded data set: scikit-learn's handwritten digits, 1797 real 8x8 scans that need no download.

E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998 (its test set).
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits as _load
from torch import Tensor

from logitkd.data.rng import Stream, first_per_class

__all__ = ["CLASSES", "load_digits"]

CLASSES = tuple("0123456789")
TEST_PER_CLASS = 50


def load_digits() -> dict[str, tuple[Tensor, Tensor]]:
    """Return the two splits as ``{"train": (images, labels), "test": (images, labels)}``.

    The split is fixed and stratified: ``TEST_PER_CLASS`` scans of each digit, chosen by hash, are the 500 test images,
    the other 1297 the training images, both in the source's order. Values 0..16 become 0..255, the one channel three.

    >>> {split: tuple(images.shape) for split, (images, labels) in load_digits().items()}
    {'train': (1297, 3, 8, 8), 'test': (500, 3, 8, 8)}
    """
    source = _load()
    values = torch.from_numpy(source.images).to(torch.int64)
    gray = ((values * 255 + 8) // 16).to(torch.uint8)  # exact integer rounding: 16 -> 255
    images = gray[:, None].expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(source.target).to(torch.int64)
    # Seed 0 whatever the run's: the test images must be the same in every run.
    is_test = first_per_class(labels, TEST_PER_CLASS, 0, Stream.SPLIT)
    return {
        "train": (images[~is_test], labels[~is_test]),
        "test": (images[is_test], labels[is_test]),
    }
