import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from image_files import pixels
from logitkd.data import DataConfig
from logitkd.data.config import CROPS, TRANSFORMS
from logitkd.data.views import View, evaluation_view, training_view

# Blocks of one colour: an image that looks different after each transform, also after a turn by a few degrees.
PICTURE = Image.fromarray(np.kron(pixels(1, 5, 4), np.ones((7, 8, 1), dtype=np.uint8)))
CONFIG = DataConfig(image_size=16)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_a_function_of_image_and_bits(name):
    names = (name,) if name in CROPS else (name, "center_crop")
    view = View(names, CONFIG)
    views = [view(PICTURE, bits) for bits in (-(2**63), -1, *range(20), 2**63 - 1)]
    assert {(v.shape, v.dtype) for v in views} == {((16, 16, 3), np.dtype(np.uint8))}
    assert np.array_equal(view(PICTURE, 7), views[9])
    distinct = len({v.tobytes() for v in views})
    assert distinct == 1 if name in ("center_crop", "resize") else distinct > 1


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name not in CROPS])
def test_every_transform_does_something(name):
    plain, changed = (View(names, CONFIG) for names in (("center_crop",), (name, "center_crop")))
    assert any(not np.array_equal(plain(PICTURE, bits), changed(PICTURE, bits)) for bits in range(20))


def test_transforms_come_in_their_order():
    first, second = View(("resize", "center_crop"), CONFIG), View(("center_crop", "flip"), CONFIG)
    assert not np.array_equal(first(PICTURE, 0), second(PICTURE, 0))


def test_the_default_is_a_random_part_and_a_mirror():
    torch.manual_seed(11)
    expected = v2.Compose([v2.RandomResizedCrop(16), v2.RandomHorizontalFlip()])(PICTURE)
    assert np.array_equal(training_view(CONFIG)(PICTURE, 11), np.asarray(expected))


@pytest.mark.parametrize(("size", "ratio", "shorter"), [(16, 0.875, 18), (16, 1.0, 16), (224, 0.875, 256)])
def test_evaluation_resizes_the_shorter_side_and_takes_the_centre(size, ratio, shorter):
    config = DataConfig(image_size=size, crop_ratio=ratio)
    scaled = PICTURE.resize((shorter, int(shorter * 35 / 32)), Image.Resampling.BILINEAR)
    left, top = (round((length - size) / 2) for length in scaled.size)
    expected = scaled.crop((left, top, left + size, top + size))
    assert np.array_equal(evaluation_view(config)(PICTURE, 0), np.asarray(expected))


@pytest.mark.parametrize("view", [training_view, evaluation_view])
def test_interpolation(view):
    bilinear, bicubic = (view(DataConfig(image_size=16, interpolation=how)) for how in ("bilinear", "bicubic"))
    assert not np.array_equal(bilinear(PICTURE, 0), bicubic(PICTURE, 0))


@pytest.mark.parametrize("size", [(1, 1), (3, 90), (90, 3)])
@pytest.mark.parametrize("crop", CROPS)
def test_any_size_becomes_the_one_size(size, crop):
    image = Image.new("RGB", size, (10, 20, 30))
    assert View((crop,), CONFIG)(image, 1).shape == (16, 16, 3)
    assert evaluation_view(CONFIG)(image, 1).shape == (16, 16, 3)


def test_the_generator_is_put_back_even_after_an_error():
    view = training_view(CONFIG)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    view(PICTURE, 1)
    assert torch.equal(torch.get_rng_state(), before)
    view.transforms.append(lambda image: image.no_such_thing)
    with pytest.raises(AttributeError, match="no_such_thing"):
        view(PICTURE, 1)
    assert torch.equal(torch.get_rng_state(), before)
