from dataclasses import replace

import pytest

from logitkd.data import DataConfig
from logitkd.data.config import CROPS, TRANSFORMS
from logitkd.runs.config import TrainConfig
from logitkd.runs.networks import ModelConfig
from logitkd.runs.values import read

SMALL = DataConfig(source="me/photos")
LARGE = DataConfig(source="me/photos", image_size=32)
RUN = TrainConfig(ModelConfig("cifar_resnet8"))


def check_data(config, *, training=True):
    """Return what the types of the settings say, and what the settings say of each other."""
    config, wrong = read(DataConfig, config, "data.")
    others = config.problems(RUN if training else None)
    others = [line for line in others if not any(f"`{key}`" in line for key in wrong)]
    return [line for lines in wrong.values() for line in lines] + others


def test_good_ones_pass():
    assert check_data(replace(LARGE, image_size=8192, crop_ratio=1)) == check_data(replace(LARGE, crop_ratio=32 / 8192)) == []
    assert check_data(DataConfig()) == check_data(SMALL) == check_data(LARGE) == []
    assert check_data(replace(SMALL, crop_padding=0, flip=False, mean=(0.5,) * 3, std=(0.25,) * 3, eval_fraction=0.2)) == []
    for crop in CROPS:
        others = tuple(name for name in TRANSFORMS if name not in CROPS)
        assert check_data(replace(LARGE, transforms=(*others, crop), workers=0, interpolation="bicubic", crop_ratio=1.0)) == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(SMALL, eval_fraction=0), "`data.eval_fraction` must be above 0 and at most 1, got 0."),
        (
            replace(SMALL, eval_fraction=1.0),
            "`data.eval_fraction` must be below 1, got 1.0: nothing would be left to train on.",
        ),
        (replace(SMALL, eval_fraction=20), "`data.eval_fraction` must be above 0 and at most 1, got 20."),
        (replace(SMALL, mean=(0.5,) * 3), "must be given together, got `data.mean` alone. Add `data.std`."),
        (replace(SMALL, std=(0.5,) * 3), "must be given together, got `data.std` alone. Add `data.mean`."),
        (replace(SMALL, mean=(0.5,), std=(0.5,) * 3), "`data.mean` must have one value a channel, 3, got [0.5]."),
        (replace(SMALL, mean=(124.0,) * 3, std=(0.5,) * 3), "`data.mean` must be in [0, 1] (255 is 1), got 124.0."),
        (replace(SMALL, mean=(0.5,) * 3, std=(0.5, 0.0, 0.5)), "`data.std` must be above 0, got 0.0."),
        (
            replace(SMALL, workers=2),
            "`data.workers` must be left out, got 2: it goes with `data.image_size`, which is not given.",
        ),
        (replace(SMALL, transforms=("center_crop",)), "`data.transforms` must be left out"),
        (replace(SMALL, crop_ratio=1.0), "`data.crop_ratio` must be left out"),
        (replace(SMALL, interpolation="bicubic"), "`data.interpolation` must be left out"),
        (replace(LARGE, flip=False), "`data.flip` must be left out, got False: it does not go with `data.image_size`."),
        (replace(LARGE, crop_padding=8), "`data.crop_padding` must be left out, got 8"),
        (
            replace(LARGE, source="digits"),
            "`data.source` is `digits`, which are all 8x8, got 32.",
        ),
        (replace(LARGE, image_size=0), "`data.image_size` must be in [1, 8192], got 0."),
        (replace(LARGE, image_size=1_000_000), "`data.image_size` must be in [1, 8192], got 1000000."),
        (replace(LARGE, crop_ratio=1e-9), "`data.crop_ratio` must be at least 0.003906, as images are resized to"),
        (replace(LARGE, crop_ratio=5e-324), "at most 8192 pixels, got 4.94066e-324. The usual is 0.875."),
        (replace(LARGE, image_size=8192), "`data.crop_ratio` must be at least 1, as images are resized to"),
        (replace(LARGE, crop_ratio=0.0), "`data.crop_ratio` must be above 0 and at most 1, got 0.0."),
        (replace(LARGE, crop_ratio=1.1), "`data.crop_ratio` must be above 0 and at most 1, got 1.1."),
        (replace(LARGE, interpolation="area"), "`data.interpolation` must be one of 'bilinear', 'bicubic', got 'area'."),
        (replace(LARGE, workers=-1), "`data.workers` must be at least 0, got -1."),
        (replace(LARGE, transforms=("random_crop", "flop")), "got 'flop'. Did you mean `flip`?"),
        (replace(LARGE, transforms=()), "must have exactly one of center_crop, random_crop, random_resized_crop, got []."),
        (replace(LARGE, transforms=CROPS), "got [center_crop, random_crop, random_resized_crop]."),
        (replace(LARGE, transforms=("random_crop", "resize")), "must have `resize` before the crop, which decides the size"),
        (replace(LARGE, transforms=("flip", "random_crop", "flip")), "must have each transform once, got [flip, random_crop, "),
    ],
)
def test_what_is_refused(config, words):
    (problem,) = check_data(config)
    assert words in problem


def test_all_problems_at_once():
    assert len(check_data(replace(LARGE, source="", train_per_class=0, transforms=("flop",), crop_ratio=2))) == 5


def test_what_only_shapes_training_is_not_asked_of_an_evaluation():
    assert check_data(replace(LARGE, flip=False, transforms=()), training=False) == []
    assert check_data(replace(LARGE, mean=(0.5,)), training=False) != []


def test_counting_classes_needs_labels():
    (problem,) = DataConfig(train_per_class=5).problems(replace(RUN, labels="none"))
    assert problem.startswith("`data.train_per_class` must be left out with `labels: none`")


def test_a_source_that_is_not_there_is_named_where_one_is_trained_on():
    config = DataConfig(source="gone")
    assert config.problems() == []
    (problem,) = config.problems(RUN)
    assert problem.startswith("`data.source` must be `digits`, an existing folder, or a hub id `owner/name`, got 'gone'")
