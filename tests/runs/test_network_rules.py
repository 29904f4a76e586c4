"""What a student that starts from its teacher's layers may be told, and what of networks' files is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from logitkd import ModelConfig, TeacherConfig, TeacherSource, TrainConfig
from logitkd.runs.network_rules import network_problems
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
