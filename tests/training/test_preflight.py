"""What goes into a run: the classes a checkpoint was trained on are the data's."""

import shutil
import warnings

import pytest
import torch
import torchvision
import yaml
from datasets import ClassLabel
from torch import nn

from image_files import write_parquet
from logitkd import ModelConfig, TrainConfig, evaluate, train
from logitkd.data import Batch, DataConfig
from logitkd.reach import Ensemble, Teacher
from logitkd.reach.making import PairOptions, make_pair
from logitkd.reach.signals import Wants
from logitkd.reach.tutor import Tutor
from logitkd.runs.networks import TeacherConfig, TeacherSource
from logitkd.training.preflight import _told_of
from run_parts import blank_task


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


def test_a_network_without_regions_is_told_by_its_flags():
    data = DataConfig("photos", image_size=32)
    teacher = TeacherConfig("mine:vgg", others=(TeacherSource("mine:max"),))
    config = TrainConfig(ModelConfig("torchvision:resnet18"), teacher, method="sdd-kd", data=data)
    images = torch.randn(2, 3, 32, 32)
    small = torchvision.models.resnet18(num_classes=3)

    def average():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def largest():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def both(first, second):
        return Ensemble([Teacher(each, num_classes=3) for each in (first, second)])

    def check_regions(student, teacher):
        task = blank_task(3, (3, 32, 32))
        task.settings = config
        wants = Wants("regions", (1, 2))
        with _told_of(config, task):
            make_pair(wants, student, Tutor(teacher, wants), Batch(images, None, None), PairOptions())

    with pytest.raises(ValueError, match=r"^the student `torchvision:resnet18` has no regions for `sdd-kd`: ") as caught:
        check_regions(small, both(average(), average()))
    assert "Give larger images, `--data.image_size 64`, take a network" in str(caught.value)
    assert len(str(caught.value)) < 350
    with pytest.raises(
        ValueError, match=r"^the teacher `mine:vgg` has .* Pass `--teacher.pool PATH`, .* `--teacher.head PATH`"
    ):
        check_regions(average(), both(largest(), average()))
    with pytest.raises(ValueError, match=r"^the teacher.others\[0\] `mine:max` has .* Pass `teacher.others\[0\].pool`, "):
        check_regions(average(), both(average(), largest()))
    told = Teacher(average(), num_classes=3, pool="0")
    with pytest.raises(ValueError, match=r"`0` is none\. Pass `--teacher.pool PATH`.* What passes: `--teacher.pool 1`\.$"):
        check_regions(average(), Ensemble([told, told]))


@pytest.mark.parametrize(("method", "told"), [("dkd", 1), ("kd", 0)])
def test_with_two_classes_what_a_method_then_is_is_said_once(tiny, tmp_path, method, told):
    for split, rows in (("train", 20), ("test", 10)):
        labels = [row % 2 for row in range(rows)]
        write_parquet(tmp_path / f"{split}.parquet", range(rows), labels=labels, label_type=ClassLabel(names=["no", "yes"]))
    data = DataConfig(str(tmp_path), crop_padding=1, flip=False)
    config = tiny(teacher=ModelConfig("tiny_net:TinyNet"), method=method, data=data, epochs=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(config)
    said = [str(one.message) for one in caught if "with 2 classes" in str(one.message)]
    assert len(said) == told
    assert all(one.startswith("with 2 classes `dkd` is `kd` with other weights: ") for one in said)
    with pytest.raises(
        ValueError, match=r"`top_k` must be in \[1, 1\] .* Give `--method\.top_k 1`; but with 2 classes `gdkd` is `kd`"
    ):
        train(tiny(teacher=ModelConfig("tiny_net:TinyNet"), method="gdkd", data=data, output=str(tmp_path / "refused")))
