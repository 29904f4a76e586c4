"""The names of run folders: what was changed can be read of them, and they differ where options do."""

import re
from dataclasses import fields, replace

import pytest

from logitkd import (
    DistillConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    StonesConfig,
    TeacherConfig,
    TeacherSource,
    TrainConfig,
)
from logitkd.data.config import DataConfig
from logitkd.runs.naming import LONGEST, default_folder

PAIR = TrainConfig(ModelConfig("resnet18"), TeacherConfig("resnet50", "runs/resnet50/ce-seed0"))
DATA = DataConfig(source="me/birds", image_size=64)


def name(config):
    return default_folder(config).name


def test_nothing_changed_and_what_only_shows_a_run_are_no_part_of_it():
    assert str(default_folder(PAIR)) == "runs/resnet50-resnet18/kd-seed0"
    shown = {"device": "cpu", "quiet": True, "debug": True, "trackers": ("tensorboard",), "checkpoint_every": 3, "output": "x"}
    assert name(replace(PAIR, **shown, data=DataConfig(workers=3), seed=4)) == "kd-seed4"
    config = TrainConfig(ModelConfig("my.nets:small"), TeacherConfig("resnet50"), method="dkd", seed=3)
    assert default_folder(config).parts == ("runs", "resnet50-my.nets_small", "dkd-seed3")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"method": "gdkd", "method_options": {"top_k": 3}, "epochs": 100, "seed": 1}, "gdkd-top_k3-epochs100-seed1"),
        ({"optim": OptimConfig("adamw", 1e-3, clip_grad=1.0)}, "kd-optim_adamw-lr0.001-clip_grad1.0-seed0"),
        ({"schedule": ScheduleConfig("cosine", milestones=(0.5, 0.75))}, "kd-schedule_cosine-milestones0.5+0.75-seed0"),
        ({"data": DataConfig(flip=False), "labels": "none"}, "kd-labels_none-flip_false-seed0"),
        ({"stones": StonesConfig(use=(1, 2)), "method": "block-kd"}, "block-kd-use1+2-seed0"),
        ({"method_options": {"temperature": 4.0}}, "kd-seed0"),  # a default, spelt out
    ],
)
def test_what_was_changed_can_be_read(change, expected):
    assert name(replace(PAIR, **change)) == expected


def teacher(**changes):
    return {"teacher": replace(PAIR.teacher, **changes)}


CHANGES = [
    {},
    *({"data": replace(DATA, source=source)} for source in ("a/b", "a_b", "../a/b", "b", "a b", "A/b")),
    *({"data": replace(DATA, image_column=column)} for column in ("a-flip_false", "a", "ä", "none")),
    *(teacher(checkpoint=path) for path in ("a/t.pt", "b/t.pt", "t.pt", "runs/resnet50/ce-epochs3-seed0")),
    *(teacher(others=(TeacherSource("a", path),)) for path in ("x.pt", "y.pt")),
    teacher(mean=(0.5,) * 3, std=(0.5,) * 3),
    {"student": ModelConfig("resnet18", "start.pt")},
    {"student": ModelConfig("resnet18", pool="layer4.0")},
    {"student": ModelConfig("resnet18", pool="layer4.1")},
    {"class_weights": "balanced"},
    {"class_weights": "w.yaml"},
    {"data": replace(DATA, transforms=("random_crop", "flip"))},
    {"data": replace(DATA, transforms=("flip", "random_crop"))},
    {"method_options": {"temperature": 2.0}},
    {"method_options": {"warmup_epochs": 2}},
]


def test_runs_whose_options_differ_are_told_apart():
    folders = [default_folder(replace(PAIR, **{"data": DATA, **change})) for change in CHANGES]
    assert len(set(map(str.lower, map(str, folders)))) == len(CHANGES)
    again = [default_folder(replace(PAIR, **{"data": DATA, **change})) for change in CHANGES]
    assert folders == again
    assert all(re.fullmatch(r"[\w.+-]+", folder.name, re.ASCII) for folder in folders)


def test_a_long_name_is_cut_and_told_apart_by_a_hash():
    everything = {
        "data": replace(DATA, image_column="a" * 250, train_per_class=5, crop_ratio=0.9, eval_fraction=0.25),
        "optim": OptimConfig("adamw", 0.001, 0.8, 0.01),
        "schedule": ScheduleConfig("cosine", warmup=0.1, decay=0.25),
        "epochs": 12345,
    }
    names = [name(replace(PAIR, **everything, batch_size=size)) for size in (64, 65)]
    assert names[0] != names[1]
    assert all(len(one) <= LONGEST and one.startswith("kd-") and one.endswith("-seed0") for one in names)


def test_every_setting_has_its_say_or_is_named_here():
    """A new setting that is no part of the name would let two runs meet in one folder."""
    known = (
        "student teacher method method_options labels mixup cutmix class_weights task data optim schedule stones distill epochs"
    )
    known += " batch_size precision channels_last seed output device checkpoint_every trackers quiet debug aux_weight"
    assert {field.name for field in fields(TrainConfig)} - set(known.split()) <= {"data_seed"}
    changes = {"mixup": 0.5, "cutmix": 0.5, "batch_size": 3, "precision": "bfloat16", "channels_last": True}
    changes |= {"aux_weight": 0.2, "distill": DistillConfig("labels")}
    assert len({name(replace(PAIR, **{key: value})) for key, value in changes.items()} - {"kd-seed0"}) == len(changes)
