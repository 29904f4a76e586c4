"""Which scenes are drawn, and what their pictures show."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from logitkd.tasks.mask_gallery import BETTER, HATCH, OTHERWISE, WRONG, draw_scenes

NAMES, COLORS = ("a", "b", "c"), ((10, 20, 30), (200, 0, 0), (0, 0, 200))


class Split:
    """Scenes whose masks are given; images are gray."""

    def __init__(self, *masks):
        self.masks = [np.array(mask, dtype=np.int16) for mask in masks]
        self.sizes = torch.tensor([mask.shape for mask in self.masks])

    def __len__(self):
        return len(self.masks)

    def mask(self, index):
        return self.masks[index]

    def image(self, index):
        return Image.new("RGB", self.masks[index].shape[::-1], (100, 100, 100))


def meter(*answers, miou=50.0):
    found = {"miou": miou, "pixel_accuracy": 60.0, "iou/a": 12.345, "iou/b": 0.0}
    return SimpleNamespace(
        answers={index: torch.tensor(answer, dtype=torch.uint8) for index, answer in enumerate(answers)},
        compute=lambda: found,
    )


def pixels(picture):
    return np.asarray(Image.open(BytesIO(picture.content)).convert("RGB"))


# Both right; wrong and taught right; right and taught wrong; both wrong, differently; void; both wrong, alike.
TRUTH, MINE, THEIRS = [[0, 1, 2, 2, -1, 0]], [[0, 0, 2, 1, 0, 1]], [[0, 1, 1, 0, 1, 1]]


def test_pictures_show_who_is_wrong_where():
    found = draw_scenes(Split(TRUTH), NAMES, COLORS, meter(MINE), meter(THEIRS, miou=70.0), 1)
    (scene,) = found.scenes
    assert [picture.title for picture in scene.pictures] == [
        "image", "truth", "student", "teacher", "where the student is wrong", "student against teacher",
    ]  # fmt: skip
    _, truth, student, teacher, wrong, against = map(pixels, scene.pictures)
    colors = np.array(COLORS)
    assert np.array_equal(truth[0, :4], colors[TRUTH[0][:4]])
    assert tuple(truth[0, 4]) in HATCH
    assert np.array_equal(student[0], colors[MINE[0]])
    assert np.array_equal(teacher[0], colors[THEIRS[0]])
    faded = tuple(wrong[0, 0])
    assert faded == (209, 209, 209)
    assert [tuple(pixel) for pixel in wrong[0, :4]] == [faded, WRONG, faded, WRONG]
    assert [tuple(pixel) for pixel in against[0, :4]] == [faded, WRONG, BETTER, OTHERWISE]
    assert (tuple(wrong[0, 5]), tuple(against[0, 5])) == (WRONG, faded)
    assert tuple(wrong[0, 4]) in HATCH
    assert tuple(against[0, 4]) in HATCH
    assert [picture.note for picture in scene.pictures] == [
        "", "", "40.00 % of its pixels right", "40.00 % of its pixels right", "", "alike on 40.00 %",
    ]  # fmt: skip
    assert found.summary == (
        "student: mIoU 50.00 %, 60.00 % of the pixels right; teacher: mIoU 70.00 %, 60.00 % of the pixels right"
    )
    assert [entry.values for entry in found.classes] == [["12.35", "12.35"], ["0.00", "0.00"], ["-", "-"], ["", ""]]
    assert found.classes[-1].color is None


def test_without_a_teacher_there_is_nothing_of_it():
    found = draw_scenes(Split(TRUTH), NAMES, COLORS, meter(MINE), None, 1)
    assert [picture.title for picture in found.scenes[0].pictures] == [
        "image", "truth", "student", "where the student is wrong",
    ]  # fmt: skip
    assert "teacher" not in f"{found.summary} {found.chosen} {found.marks} {found.columns}"


@pytest.mark.parametrize(("count", "shown"), [(1, [2]), (2, [2, 1]), (3, [2, 3, 1]), (9, [2, 3, 0, 1])])
def test_images_are_chosen_from_the_worst_to_the_best(count, shown):
    """By the share of their own labelled pixels; one without any has none, and is left out."""
    truth = [0, 0, 0, -1]
    answers = [[0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    split = Split([truth], [truth], [truth], [truth], [[-1, -1, -1, -1]])
    found = draw_scenes(split, NAMES, COLORS, meter(*[[answer] for answer in answers]), None, count)
    assert [scene.title for scene in found.scenes] == [f"image {index}, 4 x 1 pixels" for index in shown]
    assert found.chosen.startswith(f"{len(shown)} of 5 images, ")


def test_large_images_are_drawn_smaller_all_alike():
    mask = np.zeros((600, 1024), dtype=np.int16)
    mask[:, 512:] = 1
    mask[:, :512:2] = 2  # no pixel's centre lies there
    found = draw_scenes(Split(mask), NAMES, COLORS, meter(mask), None, 1)
    assert {Image.open(BytesIO(picture.content)).size for picture in found.scenes[0].pictures} == {(512, 300)}
    truth = pixels(found.scenes[0].pictures[1])
    assert (truth[:, :256] == COLORS[0]).all()
    assert (truth[:, 256:] == COLORS[1]).all()


def test_stripes_are_seen_against_any_color():
    mask = np.full((16, 16), -1, dtype=np.int16)
    mask[0, 0] = 0
    picture = pixels(draw_scenes(Split(mask), NAMES, COLORS, meter(mask.clip(0)), None, 1).scenes[0].pictures[1])
    assert {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()} == {COLORS[0], *HATCH}
