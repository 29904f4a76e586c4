"""Scenes of a segmentation run: image, truth, student, teacher, and where they differ."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from logitkd.data.masks import MaskSplit
from logitkd.tasks.gallery import Entry, Gallery, Picture, Scene, spread

if TYPE_CHECKING:
    from logitkd.tasks.overlap import SegmentationMeter

__all__ = ["HATCH", "draw_scenes"]

LONGEST = 512  # pixels of a picture's longer side
# Colors that people tell apart whatever their eyes (Okabe and Ito).
WRONG, BETTER, OTHERWISE = (213, 94, 0), (0, 114, 178), (240, 228, 66)
HATCH = ((150, 150, 150), (235, 235, 235))  # stripes where nobody said what is right

Array = np.ndarray


def draw_scenes(
    split: MaskSplit,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    student: SegmentationMeter,
    teacher: SegmentationMeter | None,
    count: int,
) -> Gallery:
    """Return some evaluation images, evenly from the one of which the student gets least right to that of most.

    Args:
        split: the images and masks.
        classes: the name of each.
        palette: the color of each.
        student: has seen the student's answers to all of them.
        teacher: likewise, the teacher's.
        count: so many images.
    """
    right: dict[int, float] = {}
    for index in range(len(split)):
        truth = split.mask(index)
        if (truth >= 0).any():
            right[index] = _share(_answer(student, index) == truth, truth >= 0)
    order = sorted(right, key=lambda index: (right[index], index))
    chosen = [order[place] for place in spread(count, len(order))]
    scores = {"student": student.compute()} | ({} if teacher is None else {"teacher": teacher.compute()})
    summary = "; ".join(
        f"{who}: mIoU {found['miou']:.2f} %, {found['pixel_accuracy']:.2f} % of the pixels right"
        for who, found in scores.items()
    )
    entries = [
        Entry(
            name,
            color,
            [f"{found[f'iou/{name}']:.2f}" if f"iou/{name}" in found else "-" for found in scores.values()],
        )
        for name, color in zip(classes, palette, strict=True)
    ]
    marks = [Entry("the student is wrong", WRONG)]
    if teacher is not None:
        marks = [
            Entry("the student is wrong; against the teacher: and the teacher is right", WRONG),
            Entry("the student is right and the teacher wrong", BETTER),
            Entry("both are wrong, differently", OTHERWISE),
        ]
    return Gallery(
        summary,
        f"{len(chosen)} of {len(split):,} images, evenly from that of which the student gets least right to that of which it"
        " gets most right",
        [f"IoU of the {who}, %" for who in scores],
        [*entries, Entry("no class: counts nowhere", None, ["" for _ in scores])],
        marks,
        [_scene(split, index, np.array(palette, dtype=np.uint8), student, teacher, right[index]) for index in chosen],
    )


def _scene(
    split: MaskSplit,
    index: int,
    colors: Array,
    student: SegmentationMeter,
    teacher: SegmentationMeter | None,
    right: float,
) -> Scene:
    truth, mine = split.mask(index), _answer(student, index)
    labelled = truth >= 0
    image = split.image(index)
    size = _shown(image.size)
    photo = image.resize(size, Image.Resampling.BILINEAR)
    faded = 255 - (255 - np.asarray(photo.convert("L").convert("RGB"), dtype=np.uint16)) * 3 // 10

    def picture(title: str, pixels: Array, note: str = "") -> Picture:
        return Picture(title, _png(_hatched(pixels, ~_small(labelled, size))), note)

    def differences(title: str, marks: Sequence[tuple[Array, Sequence[int]]], note: str = "") -> Picture:
        pixels = faded.astype(np.uint8)
        for where, color in marks:
            pixels[_small(where, size)] = color
        return picture(title, pixels, note)

    def answers(title: str, numbers: Array, share: float) -> Picture:
        return Picture(title, _png(colors[_small(numbers, size)]), f"{100 * share:.2f} % of its pixels right")

    pictures = [
        Picture("image", _jpeg(photo)),
        picture("truth", colors[_small(truth, size).clip(min=0)]),
        answers("student", mine, right),
    ]
    wrong = (mine != truth) & labelled
    if teacher is None:
        return Scene(_title(split, index), [*pictures, differences("where the student is wrong", [(wrong, WRONG)])])
    theirs = _answer(teacher, index)
    lost = (theirs != truth) & labelled
    marks = [(wrong & ~lost, WRONG), (lost & ~wrong, BETTER), (wrong & lost & (mine != theirs), OTHERWISE)]
    return Scene(
        _title(split, index),
        [
            *pictures,
            answers("teacher", theirs, _share(theirs == truth, labelled)),
            differences("where the student is wrong", [(wrong, WRONG)]),
            differences("student against teacher", marks, f"alike on {100 * _share(mine == theirs, labelled):.2f} %"),
        ],
    )


def _answer(meter: SegmentationMeter, index: int) -> Array:
    """Return the classes that a network gave the pixels of an image."""
    return meter.answers[index].numpy().astype(np.int16)


def _share(chosen: Array, among: Array) -> float:
    return float((chosen & among).sum() / max(among.sum(), 1))


def _title(split: MaskSplit, index: int) -> str:
    height, width = split.sizes[index].tolist()
    return f"image {index}, {width} x {height} pixels"


def _shown(size: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of a picture."""
    scale = min(1.0, LONGEST / max(size))
    return max(1, round(scale * size[0])), max(1, round(scale * size[1]))


def _small(values: Array, size: tuple[int, int]) -> Array:
    """Return an array ``(H, W)`` at a picture's size, of each of its pixels the value at the centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size[::-1], values.shape, strict=True)
    )
    return values[np.ix_(rows, columns)]


def _hatched(pixels: Array, where: Array) -> Array:
    rows, columns = np.indices(where.shape)
    stripes = np.array(HATCH, dtype=np.uint8)[(rows + columns) // 4 % 2]
    return np.where(where[..., None], stripes, pixels)


def _png(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
