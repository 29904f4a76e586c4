import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from logitkd import ModelConfig, TeacherConfig, TeacherSource, evaluate, train
from logitkd.cli import main
from logitkd.data import DataConfig
from logitkd.data.text_config import TextConfig
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


def test_a_run_on_text(text_run):
    """Its own numbers; the cost of a text by its length, in the tokens of each network."""
    found = evaluate(text_run, teacher=ModelConfig(f"transformers:{text_run.parent / 'big'}"))
    stored = json.loads((text_run / "result.json").read_text())
    assert {key: found[key] for key in stored["metrics"]} == pytest.approx(stored["metrics"], rel=1e-4)
    assert found["teacher_top1"] == stored["teacher_top1"]
    assert found["texts"] == found["examples"] == 30
    cost = found["cost"]["student"]
    assert cost["parameters"] == stored["parameters"]
    # Two layers of width 16: query, key, value, output and two of twice the width; query by key and weights by value; then
    # pooler and head. The tokenizer takes 64 tokens at most.
    layers = {length: 2 * (length * (4 * 16 * 16 + 2 * 16 * 32) + 2 * length**2 * 16) for length in (16, 64)}
    assert cost["macs"] == {f"{length} tokens": macs + 16 * 16 + 16 * 3 for length, macs in layers.items()}
    assert {size: list(spent) for size, spent in cost["latency_ms"].items()} == {"16 tokens": [1, 64], "64 tokens": [1, 64]}
    assert found["cost"]["teacher"]["macs"].keys() == cost["macs"].keys()
    assert evaluate(text_run, teacher=text_run, latency=False)["agreement"] == 100


def test_a_run_on_text_agrees_with_the_same_network_by_name(text_run):
    data = TextConfig(str(text_run.parent / "data"), max_length=24)
    name = ModelConfig("transformers:gone", str(text_run))  # the run folder has configuration and tokenizer
    assert evaluate(name, data, latency=False) == evaluate(text_run, latency=False)


def test_a_module_does_not_say_how_it_reads_texts(text_run):
    data = TextConfig(str(text_run.parent / "data"))
    with pytest.raises(ValueError, match=r"`model` must be a run folder or a `ModelConfig` .* got a Linear"):
        evaluate(nn.Linear(2, 3), data)
    with pytest.raises(ValueError, match="`teacher` must be a run folder or a `ModelConfig`"):
        evaluate(text_run, teacher=nn.Linear(2, 3))


def test_a_network_may_be_named_by_its_run_folder(teacher_folder, capsys):
    folder = str(teacher_folder)
    expected = evaluate(teacher_folder, teacher=teacher_folder, latency=False)
    several = TeacherConfig(folder, others=(TeacherSource(folder),))
    for teacher in (ModelConfig(folder), several):
        found = evaluate(ModelConfig(folder), DataConfig(crop_padding=1, flip=False), teacher=teacher, latency=False)
        assert (found["top1"], found["teacher_top1"], found["agreement"]) == (expected["top1"], expected["top1"], 100)
    assert main(["eval", folder, "--teacher", folder, "--latency", "false"]) == 0
    assert " 100.00 " in capsys.readouterr().out
    assert main(["eval", folder, "--teacher", folder, "--teacher.checkpoint", folder]) == 2
    assert "`teacher.checkpoint` must be left out where `teacher` is a run folder" in capsys.readouterr().err
