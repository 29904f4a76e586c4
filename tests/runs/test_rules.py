"""What is refused before data are read or a network is built: by Python and by the command line in the same words."""

import json
import warnings
from dataclasses import dataclass, replace
from typing import Annotated

import pytest
import torch

from logitkd import (
    DataConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    StonesConfig,
    TeacherConfig,
    TeacherSource,
    TrainConfig,
    methods,
    tasks,
    train,
)
from logitkd.cli import main
from logitkd.fields import Record, Text, Whole, at_least
from logitkd.runs.plan import plan
from logitkd.runs.rules import checked, hints, resolve_method
from logitkd.runs.settings import SettingsError
from logitkd.training.preflight import static

GOOD = TrainConfig(ModelConfig("cifar_resnet8"), method="ce")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nothing_runs(monkeypatch):
    """No data are read and no network is built."""

    def stop(*args, **options):
        raise AssertionError("too late")

    monkeypatch.setattr("logitkd.tasks.images.load_images", stop)
    for layer in (torch.nn.Conv2d, torch.nn.Linear, torch.nn.BatchNorm2d):
        monkeypatch.setattr(layer, "__init__", stop)


def data(**changes):
    return {"data": DataConfig(**{"source": "me/photos", **changes})}


# What Python is given, the same to `plan` as overrides, and the refusal's first words.
TWENTY = [
    ({"epochs": "abc"}, {"epochs": "abc"}, "`epochs` must be a whole number, got 'abc'."),
    ({"epochs": 0}, {"epochs": 0}, "`epochs` must be at least 1, got 0."),
    ({"seed": -1}, {"seed": -1}, "`seed` must be in [0, 9223372036854775807], got -1."),
    ({"quiet": 3}, {"quiet": 3}, "`quiet` must be true or false, got 3."),
    ({"precision": "float16"}, {"precision": "float16"}, "`precision` must be one of 'float32', 'bfloat16', got 'float16'."),
    ({"device": "tpu"}, {"device": "tpu"}, "`device` must be auto, cpu, cuda or cuda:N, got 'tpu'."),
    ({"optim": OptimConfig(lr=-1)}, {"optim.lr": -1}, "`optim.lr` must be above 0, got -1"),
    ({"optim": OptimConfig("adam")}, {"optim": "adam"}, "`optim.name` must be one of 'sgd', 'adamw', got 'adam'."),
    (
        {"schedule": ScheduleConfig(milestones=(150.0,))},
        {"schedule.milestones": [150.0]},
        "`schedule.milestones` must be in [0, 1] (fractions of `epochs`), got 150.0.",
    ),
    ({"schedule": ScheduleConfig(warmup=0.7)}, {"schedule.warmup": 0.7}, "`schedule.warmup` must be at most the first of"),
    ({"stones": StonesConfig(use=(2, 1))}, {"stones.use": [2, 1]}, "`stones.use` must be `all`, `last` or rising numbers"),
    (
        {"stones": StonesConfig(student=("a",), teacher=("b", "c"))},
        {"stones": {"student": ["a"], "teacher": ["b", "c"]}},
        "`stones.student` and `stones.teacher` must hold as many paths, got 1 and 2",
    ),
    ({"trackers": ("tensorbord",)}, {"trackers": ["tensorbord"]}, "`trackers` must be one of 'aim', "),
    ({"class_weights": "gone.yaml"}, {"class_weights": "gone.yaml"}, "`class_weights` must be `balanced` or a file"),
    (
        {"student": ModelConfig("resnett18", "gone.pt")},
        {"student": {"name": "resnett18", "checkpoint": "gone.pt"}},
        "unknown model `resnett18`. Nearest: ",
    ),
    ({"student": ModelConfig("no_such_module:net")}, {"student": "no_such_module:net"}, "model `no_such_module:net`"),
    ({"method": "gdk"}, {"method": "gdk"}, "unknown method `gdk`. Did you mean `gdkd`?"),
    (
        {"method": "gdkd", "method_options": {"top_k": 0, "topk": 3}},
        {"method": "gdkd", "method.top_k": 0, "method.topk": 3},
        "method `gdkd`, `method.top_k`: `top_k` must be at least 1, got 0.",
    ),
    ({"method": "dkd"}, {"method": "dkd"}, "`teacher` must be given, as the method `dkd` learns from one, got none."),
    (
        {
            "method": "block-kd",
            "teacher": TeacherConfig("resnet50.a1_in1k", others=(TeacherSource("resnet18.a1_in1k"),)),
            "class_weights": "balanced",
        },
        {
            "method": "block-kd",
            "teacher": "resnet50.a1_in1k",
            "teacher.others": [{"name": "resnet18.a1_in1k"}],
            "class_weights": "balanced",
        },
        "`class_weights` must be left out where there is no cross-entropy to weigh",
    ),
    (
        {"method": "nkd", "mixup": 0.5, "teacher": TeacherConfig("resnet18.a1_in1k")},
        {"method": "nkd", "mixup": 0.5, "teacher": "resnet18.a1_in1k"},
        "`mixup` must be 0 for `nkd`, whose loss needs the class of every image, got 0.5.",
    ),
    (
        {"labels": "none", "method": "ce"},
        {"labels": "none", "method": "ce"},
        "`method` must be one that can be trained without",
    ),
    (data(source="gone"), {"data.source": "gone"}, "`data.source` must be `digits`, an existing folder, or a hub id"),
    (
        data(workers=2, transforms=("flop",)),
        {"data.source": "me/photos", "data.workers": 2, "data.transforms": ["flop"]},
        "`data.transforms` must be one of 'center_crop'",
    ),
]


def words(overrides):
    """Return the overrides as flags."""
    for key, value in overrides.items():
        inside = value.items() if isinstance(value, dict) else [(None, value)]
        for name, one in inside:
            yield f"--{key}{f'.{name}' if name else ''}={one if isinstance(one, str) else json.dumps(one)}"


@pytest.mark.parametrize(("change", "overrides", "first"), TWENTY, ids=lambda value: value if isinstance(value, str) else "")
def test_python_and_the_command_line_refuse_the_same_in_the_same_words(change, overrides, first, nothing_runs, capsys):
    with pytest.raises(SettingsError) as told:
        train(replace(GOOD, **change))
    given = {"student": "cifar_resnet8", **overrides}
    method = given.pop("method", "ce")
    with pytest.raises(SettingsError) as planned:
        plan(None, method, "student", given)
    assert planned.value.problems == told.value.problems
    assert told.value.problems[0].startswith(first)
    assert main(["train", *words({"student": "cifar_resnet8", "method": "ce", **overrides})]) == 2
    said = capsys.readouterr().err.splitlines()
    lines = [line for problem in told.value.problems for line in ("- " + problem.replace("\n", "\n  ")).splitlines()]
    assert said[1:-1] == lines


def test_every_one_of_them_is_refused_for_what_it_says():
    assert len(TWENTY) >= 20
    assert checked(GOOD) == GOOD


def test_all_problems_at_once(nothing_runs):
    bad = {"epochs": 0, "batch_size": 0, "device": "tpu", "optim": OptimConfig(lr=-1), "schedule": ScheduleConfig(warmup=0.9)}
    with pytest.raises(SettingsError) as told:
        train(replace(GOOD, **bad, method="dkd", student=ModelConfig("resnett")))
    assert len(told.value.problems) == 7


def test_a_rule_says_nothing_of_a_value_that_was_refused_itself():
    with pytest.raises(SettingsError) as told:
        checked(replace(GOOD, **data(image_size=0, workers=2, source=3)))
    assert [problem.split(" must")[0] for problem in told.value.problems] == ["`data.source`", "`data.image_size`"]


def test_the_largest_seed_and_known_trackers_pass():
    checked(replace(GOOD, seed=2**63 - 1, trackers=["tensorboard"]))
    for trackers, problem in (
        (["all"], "got 'all'."),
        (["wandb"], "must be installed, but wandb is not. Try `pip install wandb`"),
    ):
        with pytest.raises(SettingsError, match=problem):
            checked(replace(GOOD, trackers=trackers))


def test_what_is_unlikely_to_be_meant_is_pointed_out():
    assert hints(replace(GOOD, schedule=ScheduleConfig("cosine", warmup=0.9))) == []
    assert hints(replace(GOOD, schedule=ScheduleConfig(warmup=0.125), epochs=12)) == []
    (said,) = hints(replace(GOOD, schedule=ScheduleConfig(warmup=0.0833), epochs=12))
    assert said.startswith("`schedule.warmup` 0.0833 of 12 epochs is less than two: the learning rate is full from the first")
    assert hints(replace(GOOD, optim=OptimConfig(name="adamw", lr=1e-3))) == []
    (said,) = hints(replace(GOOD, optim=OptimConfig(name="adamw")))
    assert "got 0.05: that is an SGD rate; 0.001 is usual for adamw" in said
    (said,) = hints(replace(GOOD, method="dkd", epochs=20))
    assert "got 20: the distillation loss reaches its full weight only in the last epoch" in said


def test_a_warning_comes_once_and_a_plan_gives_none(recwarn):
    static(plan(None, "ce", "student", {"student": "cifar_resnet8", "optim": "adamw"}))
    assert [str(one.message).split(" should")[0] for one in recwarn.list] == ["`optim.lr`"]


def test_labels_none_takes_a_methods_labels_away():
    method = resolve_method(replace(GOOD, method="sdd-kd", labels="none"))
    assert (method.ce_weight, method.options["judge"]) == (0, "teacher")
    assert resolve_method(replace(GOOD, method="kd")) == methods.get("kd")


@dataclass(frozen=True)
class Vectors(Record):
    """Where vectors come from.

    Args:
        where: a file.
        size: numbers in each.
    """

    where: Text = "here"
    size: Annotated[Whole, at_least(2)] = 2

    def problems(self, run):
        """Return what is wrong with a run of this task."""
        return ["`mixup` must be 0 for vectors."] if run.mixup else []


@pytest.fixture
def vectors(monkeypatch):
    monkeypatch.setattr(tasks, "_TABLE", dict(tasks._TABLE))
    tasks.register("vectors", object, Vectors)


def test_the_data_of_another_task_are_read_by_its_own_type(vectors, empty_folder, capsys):
    planned = plan(None, "ce", overrides={"task": "vectors", "student": "cifar_resnet8", "data.size": 3})
    assert (planned.task, planned.data) == ("vectors", Vectors("here", 3))
    assert checked(replace(GOOD, task="vectors")).data == Vectors()
    assert checked(replace(GOOD, task="vectors", data=Vectors(size=4))).data.size == 4
    (empty_folder / "mine.yaml").write_text("student: cifar_resnet8\nmethod: ce\ntask: vectors\ndata: {where: x}\n")
    assert plan("mine.yaml", overrides={"data.size": 5}).data == Vectors("x", 5)
    assert plan("mine.yaml", overrides={"data.size": 5}).output == "runs/mine/ce-size5-seed0"
    for arguments in (["mine.yaml"], ["--task", "vectors", "--student", "cifar_resnet8", "--method", "ce"]):
        assert main(["train", *arguments, "--data.size", "1", "--data.flip", "true", "--mixup", "0.5"]) == 2
        said = capsys.readouterr().err
        for part in (
            "`data.size` must be at least 2, got 1.",
            "unknown option `--data.flip`",
            "`mixup` must be 0 for vectors.",
        ):
            assert part in said
        assert main(["train", *arguments, "--help-all"]) == 0
        page = capsys.readouterr().out
        assert "--data.size" in page
        assert "--data.crop_padding" not in page
    with pytest.raises(SettingsError, match=r"unknown key `data\.where`"):
        checked(replace(GOOD, data=Vectors()))


def test_nothing_is_warned_of_a_good_run():
    with warnings.catch_warnings(action="error"):
        static(GOOD)


def test_settings_of_another_kind_are_refused_by_name():
    for given in ({"student": "cifar_resnet8"}, None):
        with pytest.raises(TypeError, match=rf"^`config` must be a TrainConfig, got {type(given).__name__}\."):
            train(given)
