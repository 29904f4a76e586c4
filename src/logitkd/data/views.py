"""What the network sees of an image of any size: torchvision's v2 transforms, drawing as (seed, epoch, index) say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from logitkd.data.config import DataConfig
from logitkd.data.encoded import EncodedSplit

__all__ = ["EncodedViews", "View", "evaluation_view", "training_view"]


class View:
    """A list of transforms that ends in an image of one size.

    Args:
        names: of the table, ``config.TRANSFORMS``.
        config: its ``image_size`` must be given.
    """

    def __init__(self, names: Sequence[str], config: DataConfig) -> None:
        assert config.image_size is not None
        self.size = config.image_size
        self.transforms = [_BUILDERS[name](self.size, config) for name in names]

    def __call__(self, image: Image.Image, bits: int) -> np.ndarray:
        """Return the view of ``image`` that ``bits`` decide: ``(S, S, 3)`` uint8.

        v2 transforms draw from torch's global generator. It is seeded with ``bits`` for this image and then put back, and so
        the view is a function of (image, bits) whoever computes it, and nothing else in the process notices.

        Args:
            image: RGB, of any size.
            bits: any int64, a random number of ``(seed, epoch, index)``.
        """
        before = torch.default_generator.get_state()  # the CPU's alone: torch.manual_seed would seed a GPU's as well
        torch.default_generator.manual_seed(bits)
        try:
            for transform in self.transforms:
                image = transform(image)
        finally:
            torch.default_generator.set_state(before)
        return np.asarray(image)


class EncodedViews:
    """The views of a split of encoded images, as workers make them.

    Args:
        split: the images.
        view: image and random bits -> what the network sees of it.
    """

    def __init__(self, split: EncodedSplit, view: View) -> None:
        self.split, self.view = split, view
        self.empty = (np.empty((0, view.size, view.size, 3), dtype=np.uint8),)

    def __len__(self) -> int:
        return len(self.split)

    def __call__(self, index: int, bits: int) -> tuple[np.ndarray]:
        """Return the view of image ``index`` that ``bits`` decide, ``(S, S, 3)`` uint8."""
        return (self.view(self.split.image(index), bits),)


def _resize(size: int, config: DataConfig) -> Any:
    return v2.Resize(round(size / config.crop_ratio), InterpolationMode(config.interpolation))


def _random_resized_crop(size: int, config: DataConfig) -> Any:
    return v2.RandomResizedCrop(size, interpolation=InterpolationMode(config.interpolation))


# Every name of config.TRANSFORMS: (image_size, configuration) -> transform. What is not said here is torchvision's default.
_BUILDERS: dict[str, Callable[[int, DataConfig], Any]] = {
    "center_crop": lambda size, config: v2.CenterCrop(size),
    "random_crop": lambda size, config: v2.RandomCrop(size, pad_if_needed=True),
    "random_resized_crop": _random_resized_crop,
    "resize": _resize,
    "flip": lambda size, config: v2.RandomHorizontalFlip(),
    "vertical_flip": lambda size, config: v2.RandomVerticalFlip(),
    "color_jitter": lambda size, config: v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4),
    "autoaugment": lambda size, config: v2.AutoAugment(),
    "randaugment": lambda size, config: v2.RandAugment(),
    "trivialaugment": lambda size, config: v2.TrivialAugmentWide(),
}


def training_view(config: DataConfig) -> View:
    """Return ``config.transforms``; ``config.image_size`` must be given."""
    return View(config.transforms, config)


def evaluation_view(config: DataConfig) -> View:
    """Return the resize of the shorter side to ``image_size / crop_ratio`` and the central crop of ``image_size``."""
    return View(("resize", "center_crop"), config)
