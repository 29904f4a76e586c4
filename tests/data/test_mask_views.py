from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from logitkd.data import VOID, MaskConfig
from logitkd.data.mask_views import EvaluationView, TrainingView
from mask_files import colours, numbers

BITS = (-(2**63), -1, *range(40), 2**63 - 1)
MEAN = (0.485, 0.456, 0.406)
PADDING = [124, 116, 104]


def scene(row=1, height=24, width=32):
    mask = numbers(row, height, width).astype(np.int16)
    mask[mask == 255] = VOID
    return Image.fromarray(colours(np.where(mask == VOID, 255, mask).astype(np.uint8))), mask


def view(crop=(24, 32), **options):
    return TrainingView(MaskConfig(**options), crop, MEAN)


def fits(pixels, classes):
    """Where the image says by its red which class a pixel is of, and where that is the class of the mask."""
    padding = (pixels == PADDING).all(2)
    shown = np.where(padding | (pixels[..., 0] == 0), VOID, pixels[..., 0].astype(int) // 60 - 1)
    return shown == classes


def test_nothing_asked_for_is_the_image_itself():
    image, mask = scene()
    for bits in BITS[:5]:
        pixels, classes = view(scale=(1, 1), flip=False)(image, mask, bits)
        assert np.array_equal(pixels, np.asarray(image))
        assert np.array_equal(classes, mask)


@pytest.mark.parametrize("crop", [(10, 9), (40, 50), (10, 50)])
def test_without_scaling_image_and_mask_are_cut_padded_and_mirrored_alike(crop):
    image, mask = scene()
    seen = view(crop, scale=(1, 1))
    views = [seen(image, mask, bits) for bits in BITS]
    assert all(pixels.shape == (*crop, 3) and pixels.dtype == np.uint8 for pixels, _ in views)
    assert all(classes.shape == crop and classes.dtype == np.int16 for _, classes in views)
    assert all(fits(*each).all() for each in views)
    assert len({pixels.tobytes() for pixels, _ in views}) > 20
    if crop == (40, 50):  # all of the image is there, wherever it lies
        assert all(
            ((classes == 1).sum(), (classes == 2).sum()) == ((mask == 1).sum(), (mask == 2).sum()) for _, classes in views
        )


def test_every_place_is_reached():
    image, mask = scene()
    first = {tuple(view((20, 30), scale=(1, 1), flip=False)(image, mask, bits)[0][0, 0, 1:] // [9, 7]) for bits in range(200)}
    assert first == {(row, column) for row in range(5) for column in range(3)}
    padded = view((26, 34), scale=(1, 1), flip=False)
    corners = {tuple(np.argwhere(padded(image, mask, bits)[1] != VOID)[0]) for bits in range(200)}
    assert corners == {(row, column) for row in range(3) for column in range(3)}


def test_scaled_views_are_a_part_of_the_scaled_whole():
    image, mask = scene()
    seen = view((11, 13), scale=(0.4, 3.0), flip=False)
    sizes = set()
    for bits in BITS:
        pixels, classes = seen(image, mask, bits)
        factor = 0.4 + 2.6 * torch.rand(7, generator=torch.Generator().manual_seed(bits), dtype=torch.float64)[0].item()
        height, width = round(24 * factor), round(32 * factor)
        sizes.add((height, width))
        whole = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).astype(int)
        down, across = (
            [int((at + Fraction(1, 2)) * side / now) for at in range(now)] for side, now in ((24, height), (32, width))
        )
        labels = mask[down][:, across]
        places = [(row, column) for row in range(max(1, height - 10)) for column in range(max(1, width - 12))]
        inside = ~(pixels == PADDING).all(2)
        part = pixels[inside.any(1)][:, inside.any(0)].astype(int)
        known = classes[inside.any(1)][:, inside.any(0)]
        high, wide = known.shape
        assert (high, wide) == (min(11, height), min(13, width))
        assert any(
            np.abs(whole[row : row + high, column : column + wide] - part).max() <= 1
            and np.array_equal(labels[row : row + high, column : column + wide], known)
            for row, column in places
        )
    assert len(sizes) > 20
    assert min(sizes)[0] < 16
    assert max(sizes)[0] > 60


def test_a_view_is_a_function_of_image_mask_and_bits_and_leaves_the_process_alone():
    image, mask = scene()
    seen = view((10, 10), color_jitter=0.5)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    first = [seen(image, mask, bits) for bits in BITS]
    assert torch.equal(torch.get_rng_state(), before)
    for expected, bits in zip(first[::-1], BITS[::-1], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(expected, seen(image, mask, bits), strict=True))


def test_colors_vary_in_the_image_alone_and_change_nothing_else():
    image, mask = scene()
    plain, varied = (view((30, 40), scale=(0.5, 2.0), color_jitter=jitter) for jitter in (0.0, 0.6))
    changed = 0
    for bits in BITS:
        pixels, classes = plain(image, mask, bits)
        others, same = varied(image, mask, bits)
        assert np.array_equal(classes, same)
        padding = (pixels == PADDING).all(2)
        assert (others[padding] == PADDING).all()
        changed += not np.array_equal(pixels, others)
    assert changed > 30
    draws = torch.rand(7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)[4:].tolist()
    expected = image
    for enhance, draw in zip((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), draws, strict=True):
        expected = enhance(expected).enhance(0.4 + 1.2 * draw)
    assert np.array_equal(view(scale=(1, 1), flip=False, color_jitter=0.6)(image, mask, 3)[0], np.asarray(expected))


def test_half_of_the_views_are_mirrored_and_what_is_turned_off_moves_nothing_else():
    image, mask = scene()
    straight, mirrored = (view((10, 12), flip=flip) for flip in (False, True))
    turned = 0
    for bits in range(400):
        plain, other = straight(image, mask, bits), mirrored(image, mask, bits)
        if not np.array_equal(plain[1], other[1]):
            assert all(np.array_equal(a[:, ::-1], b) for a, b in zip(plain, other, strict=True))
            turned += 1
    assert 150 < turned < 250


def test_image_size_comes_first():
    image, mask = scene()
    pixels, classes = view((12, 8), image_size=(12, 8), scale=(1, 1), flip=False)(image, mask, 0)
    assert np.array_equal(pixels, np.asarray(image.resize((8, 12), Image.Resampling.BILINEAR)))
    assert np.array_equal(classes, mask[1::2, 2::4])


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1)])
def test_any_size_becomes_the_one_size(size):
    image, mask = Image.new("RGB", size[::-1], (9, 9, 9)), np.zeros(size, dtype=np.int16)
    for bits in BITS:
        pixels, classes = view((16, 16), scale=(0.1, 4.0))(image, mask, bits)
        assert pixels.shape == (16, 16, 3)
        assert ((classes == 0) == (pixels == 9).all(2)).all()
        assert (classes == 0).any()


def test_evaluation_shows_the_whole_image_and_the_mask_as_it_is():
    image, mask = scene()
    pixels, classes = EvaluationView(MaskConfig())(image, mask, 5)
    assert np.array_equal(pixels, np.asarray(image))
    assert classes is mask
    pixels, classes = EvaluationView(MaskConfig(image_size=(8, 12)))(image, mask, 5)
    assert np.array_equal(pixels, np.asarray(image.resize((12, 8), Image.Resampling.BILINEAR)))
    assert classes is mask
