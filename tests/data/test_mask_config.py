from dataclasses import replace

import pytest

from logitkd.data import MaskConfig
from logitkd.runs.config import TrainConfig
from logitkd.runs.networks import ModelConfig
from logitkd.runs.values import read
from mask_files import write_scene_folders, write_scenes

HUB = MaskConfig(source="me/scenes")
RUN = TrainConfig(ModelConfig("cifar_resnet8"))


def check(config, run=RUN):
    """Return what the types of the settings say, and what the settings say of each other."""
    config, wrong = read(MaskConfig, config, "data.")
    return [line for lines in wrong.values() for line in lines] + config.problems(run)


def test_good_ones_pass(tmp_path):
    assert check(HUB) == check(HUB, None) == check(MaskConfig(str(write_scenes(tmp_path)))) == []
    given = {"classes": ("a", "b"), "palette": ((1, 2, 3), (255, 0, 0)), "ignore_index": None, "image_size": [24, 32]}
    more = {"crop_size": (8, 8), "scale": [1, 1], "flip": False, "color_jitter": 1, "workers": 0, "eval_fraction": 0.1}
    assert check(replace(HUB, **given, **more, mean=(0.5,) * 3, std=(0.2,) * 3)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": ""}, "`data.source` must be given: a folder of images and masks or a hub id `owner/name`."),
        ({"source": "gone"}, "`data.source` must be an existing folder, or a hub id `owner/name`, got 'gone'"),
        ({"source": "digits"}, "`data.source` must be an existing folder, or a hub id `owner/name`, got 'digits'"),
        ({"eval_fraction": 1.0}, "`data.eval_fraction` must be below 1, got 1.0: nothing would be left to train on."),
        ({"train_split": ""}, "`data.train_split` must be a name, got ''."),
        ({"classes": ("road",)}, "`data.classes` must name at least 2 classes, got ['road']: there is nothing to tell apart."),
        (
            {"classes": ("road", "sky", "road")},
            "`data.classes` must be different names, none of them empty, got 'road', 'road'.",
        ),
        ({"classes": ("road", " ")}, "`data.classes` must be different names, none of them empty, got ' '."),
        ({"classes": "road"}, "`data.classes` must be a list such as [a, b] or null, got 'road'."),
        ({"palette": ((0, 0, 256), (0, 0))}, "[red, green, blue] in [0, 255], got [[0, 0, 256], [0, 0]]."),
        ({"palette": ((0, 0, 0),), "classes": ("a", "b")}, "`data.palette` must have a color for each of the 2 classes of"),
        ({"palette": ((0, 0, 0),) * 3, "classes": ("a", "b")}, "a color for each of the 2 classes of `data.classes`, got 3."),
        ({"ignore_index": -1}, "`data.ignore_index` must be in [0, 65535], got -1."),
        ({"ignore_index": True}, "`data.ignore_index` must be a whole number or null, got True."),
        ({"crop_size": 240}, "`data.crop_size` must be a list such as [240, 320] or null, got 240."),
        (
            {"crop_size": (240,)},
            "`data.crop_size` must be a height and a width in pixels, both in [1, 8192], such as [240, 320], ",
        ),
        ({"image_size": (0, 8)}, "`data.image_size` must be a height and a width in pixels, both in [1, 8192]"),
        (
            {"scale": (2.0, 0.5)},
            "`data.scale` must be the smallest and the largest scale, both above 0 and at most 16, such as",
        ),
        ({"scale": (0, 1)}, "got [0.0, 1.0]. [1, 1] scales nothing."),
        ({"color_jitter": 1.1}, "`data.color_jitter` must be in [0, 1], got 1.1."),
        ({"workers": -1}, "`data.workers` must be at least 0, got -1."),
        ({"std": (0.2, 0.2, 0)}, "`data.std` must be above 0, got 0.0."),
        ({"mean": (0.5, 0.5, 0.5)}, "`data.mean` and `data.std` must be given together, got `data.mean` alone."),
    ],
    ids=str,
)
def test_what_is_refused(changes, words):
    (problem,) = check(replace(HUB, **changes))
    assert words in problem


def test_the_source_is_looked_at_before_a_run_and_by_names_alone(tmp_path):
    folder = str(write_scenes(tmp_path / "tables"))
    (problem,) = check(MaskConfig(folder, eval_split="test"))
    assert problem.startswith(f"there is no split `test` in {folder}. Splits there: train, val. Name them with")
    assert check(MaskConfig(folder, eval_split="test"), None) == []
    write_scene_folders(tmp_path / "files", {"images/train": 1, "images/val": 1})
    for path in (tmp_path / "files" / "masks" / "train").iterdir():
        path.unlink()
    (tmp_path / "files" / "masks" / "train").rmdir()
    config = MaskConfig(str(tmp_path / "files"))
    (problem,) = check(config)
    assert problem.endswith("got no such folder. To train on the teacher alone, without labels, give `labels: none`.")
    assert check(config, replace(RUN, labels="none")) == []
