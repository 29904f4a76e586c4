import copy
import json
from dataclasses import replace

import pytest
import torch

from logitkd import ModelConfig, evaluate, train
from logitkd.data import DataConfig
from logitkd.models import build_model

DIGITS = DataConfig(crop_padding=1, flip=False)


def test_a_run_folder_gives_the_runs_own_numbers(tiny, teacher_folder):
    """Also for a run in bfloat16: every accuracy is measured in float32."""
    result = train(tiny(epochs=2, precision="bfloat16", channels_last=True))
    found = evaluate(result.folder, teacher=teacher_folder)
    assert found.pop("images") == found.pop("examples") == 500
    assert found.pop("split") == "test"
    assert found.pop("device") == "CPU, 1 thread"
    assert found.pop("teacher_top1") == json.loads((teacher_folder / "result.json").read_text())["top1"]
    cost = found.pop("cost")
    assert cost["student"]["parameters"] == result.parameters
    assert cost["teacher"]["parameters"] == 78_042
    # A convolution on 8x8 pixels, one that strides, the classifier.
    assert cost["student"]["macs"] == 3 * 16 * 9 * 64 + 16 * 32 * 9 * 16 + 32 * 10
    assert list(cost["teacher"]["latency_ms"]) == [1, 64]
    assert found == pytest.approx(result.metrics, rel=1e-4)


def test_module_configuration_and_folder_agree(teacher_folder):
    checkpoint = str(teacher_folder / "student.safetensors")
    ways = [
        str(teacher_folder),
        ModelConfig("cifar_resnet8", checkpoint),
        build_model("cifar_resnet8", 10, checkpoint=checkpoint),
    ]
    found = [evaluate(way, DIGITS, batch_size=100, latency=False) for way in ways]
    assert found[0] == found[1] == found[2]
    assert found[0]["top1"] > 50


def test_a_student_sees_other_data_normalised_as_in_its_training(tiny):
    learnt = replace(DIGITS, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    result = train(tiny(epochs=1, data=learnt))
    assert evaluate(result.folder, DIGITS, latency=False)["top1"] == result.top1
    own = evaluate(result.folder, replace(DIGITS, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), latency=False)
    assert own["loss"] != pytest.approx(result.metrics["loss"], rel=1e-3)


def test_agreement_with_itself(teacher_folder):
    assert evaluate(teacher_folder, teacher=teacher_folder)["agreement"] == 100


def test_weights_that_hold_nan_are_named(teacher_folder):
    """Of a student, whether or not its logits show it, and of a teacher."""
    sound = build_model("cifar_resnet8", 10, checkpoint=teacher_folder)
    spoiled = copy.deepcopy(sound)
    with torch.no_grad():
        spoiled.fc.weight[3, :5] = float("nan")
    said = r"the {}'s weights must be numbers, but .* holds NaN in 1 of \d+ tensors: `fc.weight` \(5 of 640\)"
    with pytest.raises(ValueError, match=said.format("student")):
        evaluate(spoiled, DIGITS, latency=False)
    with pytest.raises(ValueError, match=said.format("teacher")):
        evaluate(sound, DIGITS, teacher=spoiled, latency=False)


def test_not_a_run_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a run folder holds a config\.yaml, but there is no "):
        evaluate(tmp_path)


def test_a_folder_of_another_program(tmp_path):
    (tmp_path / "config.yaml").write_text("name: my project\n")
    with pytest.raises(ValueError, match="must be what a run wrote, but it has no `run`"):
        evaluate(tmp_path)


def test_data_must_be_given():
    with pytest.raises(ValueError, match="`data` must be given"):
        evaluate(build_model("cifar_resnet8", 10))
