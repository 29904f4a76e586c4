"""A way of reaching in and a task of one's own train and resume through train(): nothing of it knows them."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from torch import nn

from interrupted_runs import StopAfter, outcome
from logitkd import LogitLoss, ModelConfig, TeacherConfig, TrainConfig, evaluate, methods, tasks, train
from logitkd.cli import main
from logitkd.methods import Method
from logitkd.reach import Pair, Signals, making, register_pair
from toy_task import VectorsConfig, VectorTask


class Bank(nn.Module):
    """A row for each example."""

    def __init__(self, rows, width):
        super().__init__()
        self.register_buffer("rows", torch.zeros(rows, width))


class MemoryPair(Pair):
    """The student's logits projected, and what they were when the example was last seen, in a memory by index."""

    def __init__(self, student, tutor, example, options):
        super().__init__(student, tutor)
        tutor.settle()
        torch.manual_seed(options.seed)
        self.projector = nn.Linear(10, 4)
        self.bank = (Bank(1797, 4),)  # stored, not trained

    def forward(self, batch, taught):
        logits = self.student(batch.inputs)
        projected = self.projector(logits)
        bank = self.bank[0].rows
        remembered = bank[batch.index].clone()
        bank[batch.index] = 0.5 * remembered + 0.5 * projected.detach()
        return Signals(logits, streams={"projected": projected, "memory": remembered}), taught.signals

    def trained(self):
        return {"student": self.student, "projector": self.projector}

    def stored(self):
        return {"bank": self.bank[0]}


class MemoryLoss(LogitLoss):
    """How far an example's projection is from what it was, and from the teacher."""

    reads = "memory"

    def __init__(self, alpha: float = 0.1) -> None:
        super().__init__({"kd": 1.0, "drift": alpha})

    def read(self, student, teacher):
        return {**super().read(student, teacher), "streams": student.streams}

    def terms(self, student_logits, teacher_logits, labels=None, *, streams):
        kd = nn.functional.kl_div(student_logits.log_softmax(1), teacher_logits.softmax(1), reduction="none").sum(1)
        return {"kd": kd, "drift": (streams["projected"] - streams["memory"]).square().sum(1)}


@pytest.fixture
def memory():
    register_pair("memory", MemoryPair)
    methods.register(Method("memory", "nobody", "a memory of one's own", (MemoryLoss,)))
    yield
    del making._KINDS["memory"], methods._TABLE["memory"]


@pytest.fixture
def vectors():
    tasks.register("vectors", VectorTask, VectorsConfig)
    yield
    del tasks._TABLE["vectors"]


def broken_off_twice(config, tmp_path, steps):
    """Check that a run that breaks off twice, inside an epoch and at the start of one, comes to what the whole run does."""
    whole = train(replace(config, output=str(tmp_path / "whole")))
    broken = replace(config, output=str(tmp_path / "broken"))
    for step in steps:
        with pytest.raises(RuntimeError, match="crash"):
            train(broken, display=StopAfter(step))
    again = train(broken)
    assert outcome(again.folder) == outcome(whole.folder)
    return again


def test_a_pair_of_ones_own_with_a_part_to_train_and_a_memory(memory, tiny, tmp_path):
    result = broken_off_twice(tiny(method="memory", checkpoint_every=4), tmp_path, (7, 15))
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert {"ce", "kd", "drift"} == lines[-1]["terms"].keys()
    with safe_open(result.folder / "checkpoint" / "state.safetensors", framework="pt") as file:
        assert {"projector.weight", "bank.rows", "student.0.weight"} <= set(file.keys())
        seen = file.get_tensor("bank.rows").any(1).sum()
    assert seen == 400  # each of the training images left its row
    assert not any("projector" in name for name in safe_open(result.folder / "student.safetensors", "pt").keys())  # noqa: SIM118


def test_a_task_of_ones_own(vectors, tmp_path, capsys):
    network = ModelConfig("toy_task:Perceptron")
    config = TrainConfig(
        network, task="vectors", data=VectorsConfig(noise=0.3), epochs=4, batch_size=16, quiet=True, checkpoint_every=2
    )
    teacher = train(replace(config, method="ce", epochs=12, output=str(tmp_path / "teacher")))
    assert teacher.recall > 80
    assert teacher.score == teacher.metrics["recall"]
    taught = TeacherConfig("toy_task:Perceptron", str(teacher.folder))
    result = broken_off_twice(replace(config, teacher=taught, method="kd", seed=1), tmp_path, (3, 13))
    stored = json.loads((result.folder / "result.json").read_text())
    assert stored["headline"] == "recall"
    assert stored["teacher_recall"] == teacher.recall == result.teacher_score
    assert stored["split"] == "held out"
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert {"ce", "size", "kd"} == lines[0]["terms"].keys()
    assert train(replace(config, teacher=taught, method="kd", seed=1, output=str(result.folder))).resumed_finished
    assert evaluate(result.folder, latency=False)["recall"] == result.recall
    assert main(["eval", str(result.folder), "--latency", "false"]) == 0
    said = capsys.readouterr().out
    assert f"{result.recall:.2f}" in said
    assert said.splitlines()[0].split()[:4] == ["student", "data", "recall", "teacher_recall"]
    for command in (["export", str(result.folder)], ["predict", str(result.folder), "a.png"]):
        assert main(command) == 1
        said = capsys.readouterr().err
        assert f"`{command[0]}` must be given a run of the task images" in said
        assert "got one of the task `vectors`" in said
    with pytest.raises(ValueError, match=r"`mixup` must be left out, got 0\.2: the task `vectors` does not read it"):
        train(replace(config, method="ce", mixup=0.2))


def test_bad_data_of_ones_own_task_are_refused(vectors):
    config = TrainConfig(ModelConfig("toy_task:Perceptron"), task="vectors", method="ce", data=VectorsConfig(examples=1))
    with pytest.raises(ValueError, match=r"^`data\.examples` must be at least 3, got 1\.$"):
        train(config)
    with pytest.raises(ValueError, match=r"`data\.noise` must be a number, got 'much'"):
        train(replace(config, data=VectorsConfig(noise="much")))


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match=r"`task`|unknown task"):
        train(TrainConfig(ModelConfig("cifar_resnet8"), task="vektors", method="ce"))
