"""What goes into a run: the classes a checkpoint was trained on are the data's."""

import shutil

import pytest
import yaml

from logitkd.data import DataConfig
from logitkd.engine import ModelConfig, evaluate, train


@pytest.fixture
def other_classes(teacher_folder, tmp_path):
    """A teacher's run folder whose data had the same ten classes in another order."""
    folder = tmp_path / "teacher"
    shutil.copytree(teacher_folder, folder)
    record = yaml.safe_load((folder / "config.yaml").read_text())
    assert record["data"]["classes"] == [str(digit) for digit in range(10)]
    record["data"]["classes"].reverse()
    (folder / "config.yaml").write_text(yaml.safe_dump(record))
    return folder


MESSAGE = r"`checkpoint` must have been trained on the data's classes, in their order.*\(9, 8, 7, 6, 5 ...\).*\(0, 1, 2"


def test_a_teacher_of_other_classes_is_refused(tiny, other_classes):
    with pytest.raises(ValueError, match=MESSAGE):
        train(tiny(teacher=ModelConfig("cifar_resnet8", checkpoint=str(other_classes))))


def test_a_network_is_not_evaluated_on_other_classes(other_classes):
    with pytest.raises(ValueError, match=MESSAGE):
        evaluate(other_classes, DataConfig())


def test_weights_in_a_run_folder_have_its_record(tiny, other_classes):
    with pytest.raises(ValueError, match=MESSAGE):
        train(tiny(teacher=ModelConfig("cifar_resnet8", checkpoint=str(other_classes / "student.safetensors"))))


def test_weights_without_a_record_are_taken_at_their_word(tiny, other_classes, tmp_path):
    weights = shutil.copy(other_classes / "student.safetensors", tmp_path / "weights.safetensors")
    assert train(tiny(teacher=ModelConfig("cifar_resnet8", checkpoint=str(weights)), epochs=1)).top1 > 0
