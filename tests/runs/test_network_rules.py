"""What a student that starts from its teacher's layers may be told, and what of networks' files is refused."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from logitkd import ModelConfig, TeacherConfig, TeacherSource, TrainConfig, tasks
from logitkd.data.config import DataConfig
from logitkd.runs.network_rules import brings_weights, network_problems
from logitkd.runs.plan import plan
from logitkd.runs.settings import SettingsError

NAME = "transformers:some/encoder"
RUN = TrainConfig(ModelConfig(NAME, layers=(1, 3, 5)), TeacherConfig(NAME, "teacher"))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("teacher").touch()


def test_a_student_may_start_from_layers_of_its_teacher():
    assert network_problems(RUN) == network_problems(replace(RUN, method="ce")) == []
    given = {"student": NAME, "student.layers": [1, 3, 5], "teacher": NAME, "teacher.checkpoint": "teacher"}
    for method in ("kd", "ce"):
        assert plan(None, method, overrides=given).student == RUN.student
        assert plan(None, method, overrides=given).teacher == RUN.teacher  # of `ce`, too


@pytest.mark.parametrize("layers", [[], [3, 1], [1, 1], [-1, 2]])
def test_layers_rise(layers):
    given = {"student": NAME, "student.layers": layers, "teacher": NAME, "teacher.checkpoint": "teacher"}
    with pytest.raises(SettingsError) as caught:
        plan(None, "kd", overrides=given)
    assert caught.value.problems == [f"`student.layers` must be rising layer numbers from 0, such as [1, 3, 5], got {layers}."]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": None}, "`student.layers` must be left out without a teacher, whose layers they are, got [1, 3, 5]."),
        ({"student": replace(RUN.student, checkpoint="teacher")}, "left out where `student.checkpoint` has its weights"),
        ({"teacher": replace(RUN.teacher, others=(TeacherSource(NAME, "teacher"),))}, "left out with several teachers"),
        ({"teacher": replace(RUN.teacher, label_map="teacher")}, "`student.layers` must be left out with `teacher.label_map`"),
        ({"teacher": TeacherConfig("cifar_resnet8", "teacher")}, "got [1, 3, 5] and `teacher` cifar_resnet8."),
        ({"student": ModelConfig("cifar_resnet8", layers=(0,))}, "got [0] and `student` cifar_resnet8."),
        ({"student": ModelConfig(NAME), "teacher": TeacherConfig(NAME, layers=(0,))}, "`teacher.layers` must be left out, got"),
    ],
)
def test_layers_of_nothing_are_refused(change, message):
    (told,) = network_problems(replace(RUN, **change))
    assert message in told


def test_a_student_with_weights_has_the_layers_that_its_run_recorded():
    run = {"student": {"name": NAME, "layers": [1, 3, 5]}, "data": {}}
    Path("runs/a").mkdir(parents=True)
    Path("runs/a/config.yaml").write_text(json.dumps({"run": run, "method": {}, "versions": {"logitkd": "1"}}))
    Path("runs/a/student.safetensors").touch()
    config = plan(None, "ce", overrides={"student": "runs/a"})
    assert config.student == ModelConfig(NAME, "runs/a", layers=(1, 3, 5))
    assert network_problems(replace(config, student=replace(config.student, layers=(0, 1)))) != []
    taught = plan(None, "kd", overrides={"student": NAME, "teacher": "runs/a"})
    assert taught.teacher == TeacherConfig(NAME, "runs/a", layers=(1, 3, 5))


@dataclass(frozen=True)
class Scenes(DataConfig):
    """Data settings of a task whose networks return maps."""

    output: ClassVar[str] = "maps"


@pytest.fixture
def scenes(monkeypatch):
    """Such a task's settings, by the name ``scenes``."""
    monkeypatch.setitem(tasks._TABLE, "scenes", (None, Scenes))
    return TrainConfig(ModelConfig("deeplabv3:resnet18"), task="scenes", data=Scenes())


def recorded_run(folder, task, student):
    """Write the least that a finished run holds; return its folder."""
    run = {"task": task, "student": {"name": student}, "data": {}}
    Path(folder).mkdir(parents=True)
    Path(folder, "config.yaml").write_text(json.dumps({"run": run, "method": {}, "versions": {"logitkd": "1"}}))
    Path(folder, "student.safetensors").touch()
    return folder


def test_names_are_looked_up_among_the_networks_that_return_what_the_task_needs(scenes):
    assert network_problems(scenes) == []
    (told,) = network_problems(replace(scenes, student=ModelConfig("resnet18")))
    assert "must be a segmentation network, got a classifier" in told
    (told,) = network_problems(replace(scenes, task="images", data=DataConfig()))
    assert "must be a classifier, got a segmentation network" in told


def test_a_run_whose_network_returns_something_else_is_refused(scenes):
    rows, maps = recorded_run("runs/rows", "images", "resnet18"), recorded_run("runs/maps", "scenes", "deeplabv3:resnet18")
    assert network_problems(replace(scenes, teacher=TeacherConfig("deeplabv3:resnet18", maps))) == []
    (told,) = network_problems(replace(scenes, teacher=TeacherConfig("dense_networks:build", rows)))
    assert told == (
        "`teacher` must return logits of every cell of a grid, (N, C, h, w), but the network of runs/rows returns them of every"
        " example, (N, C): it was trained with `task: images`. Give a run of the same task."
    )
    images = TrainConfig(ModelConfig("resnet18"), TeacherConfig("tiny_net:TinyNet", f"{maps}/student.safetensors"))
    (told,) = network_problems(images)
    assert "`teacher` must return logits of every example, (N, C), but the network of runs/maps" in told
    other = recorded_run("runs/other", "one_of_a_plugin", "resnet18")
    assert network_problems(replace(images, teacher=TeacherConfig("resnet18", other))) == []


def test_the_weights_of_a_backbone_do_not_make_a_teacher():
    assert not brings_weights(ModelConfig("deeplabv3:resnet18.a1_in1k"))
    assert not brings_weights(ModelConfig("torchvision:fcn_resnet50.IMAGENET1K_V1"))
    assert brings_weights(ModelConfig("torchvision:fcn_resnet50.COCO_WITH_VOC_LABELS_V1"))
    assert brings_weights(ModelConfig("deeplabv3:resnet18.a1_in1k", "net.pth"))
