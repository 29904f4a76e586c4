"""What a run says of its networks: read from YAML and run folders, everything wrong with them said at once."""

import json

import pytest

from logitkd import ModelConfig, TeacherConfig, TeacherSource, TrainConfig
from logitkd.runs.rules import checked
from logitkd.runs.values import validate


def test_everything_wrong_with_a_teacher_comes_at_once():
    other = TeacherSource("cifar_resnet8", "nowhere", label_map="gone.yaml")
    teacher = TeacherConfig(
        "cifar_resnet8", "here", num_classes=1, mean=(0.5,), std=(1.0, 0.0, 1.0), others=(other,), combine="logit"
    )
    with pytest.raises(ValueError, match=r"`teacher\.combine`") as caught:
        checked(TrainConfig(ModelConfig("cifar_resnet8"), teacher))
    for words in (
        "`teacher.num_classes` must be at least 2, got 1",
        "`teacher.mean` must have one value a channel, 3, got [0.5]",
        "`teacher.std` must be above 0, got 0.0",
        "`teacher.checkpoint` must be a file or a run folder, but there is no here",
        "`teacher.others[0].checkpoint` must be a file or a run folder",
        "`teacher.others[0].label_map` must be a file, but there is no gone.yaml",
        "Did you mean `logits`?",
    ):
        assert words in str(caught.value)


def test_a_teacher_from_yaml():
    record = {"name": "resnet50", "others": [{"name": "a.b:net", "mean": [0.1, 0.2, 0.3]}]}
    teacher = validate(TeacherConfig, json.loads(json.dumps(record)))
    assert teacher.others == (TeacherSource("a.b:net", mean=(0.1, 0.2, 0.3)),)
    assert list(teacher.members()) == ["teacher", "teacher.others[0]"]


def test_any_network_may_be_the_teacher():
    run = validate(TrainConfig, TrainConfig(ModelConfig("a"), ModelConfig("b", "c", pool="d")))
    assert run.teacher == TeacherConfig("b", "c", pool="d")
