"""Reading settings by their types: what is taken, what is not, and what the refusals say."""

from dataclasses import dataclass, field, replace
from typing import Annotated

import pytest

from logitkd import ModelConfig, OptimConfig, ScheduleConfig, StonesConfig, TeacherConfig, TeacherSource, TrainConfig
from logitkd.data.config import DataConfig
from logitkd.fields import Number, Record, Text, Whole, at_least
from logitkd.runs.config import StonesConfig as Stones
from logitkd.runs.settings import Setting, SettingsError, nest, settings_of
from logitkd.runs.values import read, read_text, validate

GOOD = TrainConfig(ModelConfig("cifar_resnet8"))


def told(config):
    _, problems = read(TrainConfig, config)
    return [line for lines in problems.values() for line in lines]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "`epochs` must be at least 1, got 0."),
        ({"epochs": 1.5}, "`epochs` must be a whole number, got 1.5."),
        ({"epochs": "3"}, "`epochs` must be a whole number, got '3'."),
        ({"epochs": 3.0}, "`epochs` must be a whole number, got 3.0."),
        ({"epochs": True}, "`epochs` must be a whole number, got True."),
        ({"epochs": None}, "`epochs` must be a whole number, got None."),
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"output": "runs/out\udce9"}, "`output` must be UTF-8 text without null bytes, got 'runs/out\\udce9'. Rename"),
        ({"class_weights": "a\0b"}, "`class_weights` must be UTF-8 text without null bytes"),
        ({"data": DataConfig(source="a" * 300)}, "`data.source` must have at most 255 bytes between two slashes, got 300 in"),
        ({"student": ModelConfig("resnet18", "é" * 128)}, "`student.checkpoint` must have at most 255 bytes"),
        (
            {"student": "resnet18"},
            "`student` must be a section with some of name, checkpoint, pool, head, layers, got 'resnet18'.",
        ),
        (
            {"teacher": TeacherConfig("resnet18", others=(TeacherSource("a", label_map="a" * 256),))},
            "`teacher.others[0].label_map` must have at most 255 bytes",
        ),
        (
            {"teacher": TeacherConfig("resnet18", others=({"name": "a", "maen": 3},))},
            "unknown key `maen`. Did you mean `mean`?",
        ),
        (
            {"teacher": TeacherConfig("resnet18", others=({"checkpoint": "a"},))},
            "`teacher.others` must be a list such as [{name: a, checkpoint: b}, {name: c}], with the keys name, checkpoint",
        ),
        (
            {"teacher": TeacherConfig("resnet18", others=(TeacherSource("a", num_classes="b"),))},
            "`teacher.others[0].num_classes` must be a whole number or null, got 'b'.",
        ),
        ({"optim": ScheduleConfig("adamw")}, "unknown key `optim.decay`. Did you mean `schedule.decay`?"),
        ({"seed": -1}, "`seed` must be"),
        ({"seed": 2**63}, "`seed` must be in [0, 9223372036854775807], got 9223372036854775808."),
        ({"data": DataConfig(source="")}, "`data.source` must be a name, got ''."),
        ({"data": DataConfig(eval_split="")}, "`data.eval_split` must be a name, got ''."),
        ({"data": DataConfig(train_per_class=0)}, "`data.train_per_class` must be at least 1, got 0."),
        ({"data": DataConfig(crop_padding=-1)}, "`data.crop_padding` must be at least 0, got -1."),
        ({"data": DataConfig(flip="yes")}, "`data.flip` must be true or false, got 'yes'."),
        ({"precision": "float16"}, "`precision` must be one of 'float32', 'bfloat16'"),
        ({"checkpoint_every": 0}, "`checkpoint_every` must be"),
        ({"optim": OptimConfig(name="sdg")}, "Did you mean `sgd`"),
        ({"optim": OptimConfig(lr=0)}, "`optim.lr` must be above 0, got 0"),
        ({"optim": OptimConfig(lr="1e-3")}, "`optim.lr` must be a number, got '1e-3'."),
        ({"optim": OptimConfig(lr=float("nan"))}, "`optim.lr` must be finite, got nan."),
        ({"optim": OptimConfig(lr=10**400)}, "`optim.lr` must be a number, got 1000"),
        ({"optim": OptimConfig(momentum=1.1)}, "`optim.momentum` must be"),
        ({"optim": OptimConfig(weight_decay=-1)}, "`optim.weight_decay` must be"),
        ({"optim": OptimConfig(clip_grad=0)}, "`optim.clip_grad` must be"),
        ({"schedule": ScheduleConfig(name="step")}, "`schedule.name` must be"),
        ({"schedule": ScheduleConfig(decay=2)}, "`schedule.decay` must be"),
        ({"schedule": ScheduleConfig(milestones=(150,))}, "fractions of `epochs`"),
        ({"schedule": ScheduleConfig(milestones=(0.5, "x"))}, "must be a list such as [0.5, 0.75], got [0.5, 'x']."),
        ({"schedule": ScheduleConfig(warmup=20)}, "`schedule.warmup` must be in [0, 1] (a fraction of `epochs`), got 20."),
        ({"schedule": ScheduleConfig("cosine", warmup=-0.1)}, "`schedule.warmup` must be in [0, 1]"),
        ({"stones": StonesConfig(use=(2, 1))}, "`stones.use` must be `all`, `last` or rising numbers from 1, got [2, 1]."),
        ({"stones": StonesConfig(student="layer1")}, "`stones.student` must be a list such as [a, b] or null, got 'layer1'."),
        ({"method_options": [3]}, "`method_options` must be options, {option: value}, got [3]."),
        ({"task": "imges"}, "`task` must be one of 'images', 'segmentation', 'text', got 'imges'. Did you mean `images`?"),
    ],
)
def test_what_is_refused(change, words):
    found = told(replace(GOOD, **change))
    assert any(words in problem for problem in found), found
    assert len(found) == 1 or "optim" in change  # a schedule in the optimizer's place has unknown keys too


def test_all_problems_at_once_and_the_rest_is_kept():
    bad = TrainConfig(
        ModelConfig(3), TeacherConfig("b", 4, mean="x"), epochs="abc", quiet=1, seed=7, optim=OptimConfig(lr=-1, momentum=0.5)
    )
    config, problems = read(TrainConfig, bad)
    assert list(problems) == ["student.name", "teacher.checkpoint", "teacher.mean", "optim.lr", "epochs", "quiet"]
    assert (config.seed, config.optim, config.epochs) == (7, OptimConfig(momentum=0.5), 240)
    with pytest.raises(SettingsError) as caught:
        validate(TrainConfig, bad)
    assert len(caught.value.problems) == 6


def test_lists_become_tuples_and_whole_numbers_floats():
    data = validate(DataConfig, DataConfig(transforms=["random_crop"], mean=[0.5, 0.5, 0.5], std=[1, 1, 1]))
    assert (data.transforms, data.mean, data.std) == (("random_crop",), (0.5, 0.5, 0.5), (1, 1, 1))
    assert validate(Stones, {"use": [1, 3]}).use == (1, 3)
    assert type(validate(OptimConfig, {"lr": 1}).lr) is float


def test_what_is_right_is_left_as_it_is():
    options = {"scales": (1, 2), "judge": "teacher"}
    config = replace(GOOD, method_options=options, teacher=TeacherConfig("a", others=(TeacherSource("b", mean=(0.1,) * 3),)))
    assert validate(TrainConfig, config) == config


@dataclass(frozen=True)
class Vectors(Record):
    """Vectors.

    Args:
        where: a file.
        size: numbers each.
    """

    where: Text
    size: Annotated[Whole, at_least(2)] = 2
    scales: tuple[Number, ...] = field(default=(1.0,))


def test_a_section_of_another_type_and_what_nothing_can_stand_in_for():
    keys = settings_of(TrainConfig, data=Vectors)
    assert (keys["data.size"].default, keys["data.where"].required, "data.source" in keys) == (2, True, False)
    assert validate(Vectors, {"where": "x", "scales": [1]}, "data.") == Vectors("x", 2, (1.0,))
    with pytest.raises(SettingsError) as caught:
        validate(Vectors, {"size": 1, "sclaes": [2]}, "data.")
    assert caught.value.problems == [
        "`data.where` must be given.",
        "`data.size` must be at least 2, got 1.",
        "unknown key `data.sclaes`. Did you mean `data.scales`?",
    ]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "3", 3),
        (int, "3.0", 3.0),  # which is refused
        (float, "1e-3", 0.001),
        (float, "fast", "fast"),
        (bool, "no", False),
        (str, "3", "3"),
        (str, "[a", "[a"),
        (str, "null", "null"),
        (str | None, "null", None),
        (str | None, "#1", "#1"),
        (tuple[float, ...], "[1e-1, 2]", [0.1, 2]),
        (tuple[TeacherSource, ...], "[{name: 1e3, mean: [1e-1]}]", [{"name": "1e3", "mean": [0.1]}]),
    ],
)
def test_text_is_read_as_the_setting_has_it(kind, text, value):
    read_value = read_text(Setting("x", kind, None, ""), text)
    assert (read_value, type(read_value)) == (value, type(value))


def test_sections_are_put_together():
    assert nest({"a.b.c": 1, "a.d": 2, "e": 3}) == {"a": {"b": {"c": 1}, "d": 2}, "e": 3}
