"""What the network sees of an image with a mask: both scaled, cropped and mirrored alike, as (seed, epoch, index) say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance

from logitkd.data.mask_config import MaskConfig
from logitkd.data.masks import VOID, MaskSplit

__all__ = ["EvaluationView", "MaskViews", "TrainingView"]

DRAWS = 7  # of a view: scale, top, left, mirror, brightness, contrast, saturation; each has its place whatever is turned off
ENHANCE = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


class Window(NamedTuple):
    """A part of one side of a scaled image, and where in the view it lies.

    Args:
        start: first pixel of the part, in the scaled image.
        stop: pixel behind its last.
        offset: of the first pixel, in the view.
        length: of the side in the image, pixels.
        scaled: in the scaled image.
    """

    start: int
    stop: int
    offset: int
    length: int
    scaled: int

    @property
    def inside(self) -> slice:
        """Where in the view it lies."""
        return slice(self.offset, self.offset + self.stop - self.start)


class TrainingView:
    """A random part of an image and of its mask.

    In pseudo-code::

        height, width = round(size * uniform(scale))           # of image_size, or of the image
        image, mask = bilinear(image, ...), nearest(mask, ...)
        crop at a random place                                 # what lies beyond the image: the mean color, VOID
        mirror both, or not
        image = saturation(contrast(brightness(image)))        # of what is of the image

    Args:
        config: of the data.
        crop: height and width of the view.
        mean: of each channel, the color of padding (255 is 1).
    """

    def __init__(self, config: MaskConfig, crop: tuple[int, ...], mean: tuple[float, ...]) -> None:
        self.size, self.resize, self.scale = crop, config.image_size, config.scale
        self.flip, self.jitter = config.flip, config.color_jitter
        self.color = np.array([round(255 * part) for part in mean], dtype=np.uint8)

    def __call__(self, image: Image.Image, mask: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the view that ``bits`` decide: ``(h, w, 3)`` uint8 and ``(h, w)`` int16.

        A function of its arguments: it draws from a generator of its own.

        Args:
            image: RGB, ``(H, W)`` pixels.
            mask: ``(H, W)`` int16.
            bits: any int64, a random number of ``(seed, epoch, index)``.
        """
        generator = torch.Generator().manual_seed(bits)
        draws = torch.rand(DRAWS, generator=generator, dtype=torch.float64).tolist()
        low, high = self.scale
        factor = low + (high - low) * draws[0]
        own = (image.height, image.width)
        rows, columns = (
            _window(length, max(1, round(base * factor)), wanted, draw)
            for length, base, wanted, draw in zip(own, self.resize or own, self.size, draws[1:3], strict=True)
        )
        pixels = np.empty((*self.size, 3), dtype=np.uint8)
        pixels[:] = self.color
        pixels[rows.inside, columns.inside] = np.asarray(self._colored(_part(image, rows, columns), draws[4:]))
        classes = np.full(self.size, VOID, dtype=np.int16)
        classes[rows.inside, columns.inside] = mask[np.ix_(_nearest(rows), _nearest(columns))]
        if self.flip and draws[3] < 0.5:
            pixels, classes = pixels[:, ::-1], classes[:, ::-1]
        return pixels, classes

    def _colored(self, image: Image.Image, draws: list[float]) -> Image.Image:
        if self.jitter:
            for enhance, draw in zip(ENHANCE, draws, strict=True):
                image = enhance(image).enhance(1 + self.jitter * (2 * draw - 1))
        return image


def _window(length: int, scaled: int, wanted: int, draw: float) -> Window:
    """Return the part of a side that a view of ``wanted`` pixels shows; one shorter than that lies at a random place in it.

    Args:
        length: of the side.
        scaled: what it is scaled to.
        wanted: the view's.
        draw: in [0, 1), decides the place.
    """
    spare = scaled - wanted
    place = int(draw * (abs(spare) + 1))
    start, offset = (place, 0) if spare >= 0 else (0, place)
    return Window(start, start + min(scaled, wanted), offset, length, scaled)


def _part(image: Image.Image, rows: Window, columns: Window) -> Image.Image:
    """Return that part of the image as it were if the whole were scaled first."""
    left, right = (place * columns.length / columns.scaled for place in (columns.start, columns.stop))
    top, bottom = (place * rows.length / rows.scaled for place in (rows.start, rows.stop))
    box = (left, top, min(right, columns.length), min(bottom, rows.length))
    return image.resize((columns.stop - columns.start, rows.stop - rows.start), Image.Resampling.BILINEAR, box)


def _nearest(window: Window) -> np.ndarray:
    """Return for each pixel of the part the pixel of the image that its centre lies in."""
    return (2 * np.arange(window.start, window.stop) + 1) * window.length // (2 * window.scaled)


class EvaluationView:
    """The whole image, brought to ``config.image_size`` if that is given, and its mask as it is."""

    def __init__(self, config: MaskConfig) -> None:
        self.resize = config.image_size

    def __call__(self, image: Image.Image, mask: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(h, w, 3)`` uint8 and the mask; ``bits`` mean nothing."""
        if self.resize is not None and tuple(self.resize) != (image.height, image.width):
            image = image.resize((self.resize[1], self.resize[0]), Image.Resampling.BILINEAR)
        return np.asarray(image), mask


class MaskViews:
    """The views of a split of images with masks, as workers make them.

    Args:
        split: the images and masks.
        view: image, mask and random bits -> what the network sees of both.
        size: height and width of its images.
        mask_size: likewise of its masks.
    """

    def __init__(
        self,
        split: MaskSplit,
        view: TrainingView | EvaluationView,
        size: tuple[int, ...],
        mask_size: tuple[int, ...],
    ) -> None:
        self.split, self.view = split, view
        self.empty = np.empty((0, *size, 3), dtype=np.uint8), np.empty((0, *mask_size), dtype=np.int16)

    def __len__(self) -> int:
        return len(self.split)

    def __call__(self, index: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the view of image ``index`` and of its mask that ``bits`` decide."""
        return self.view(self.split.image(index), self.split.mask(index), bits)
