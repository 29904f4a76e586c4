import json
import random
import struct
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from logitkd import OptimConfig
from logitkd.training.checkpoint import FILE, Progress, checkpoint_bytes, load_checkpoint, save_checkpoint, student_bytes
from logitkd.training.optim import build_optimizer

CPU = torch.device("cpu")


def make(optim, memory_format=torch.contiguous_format):
    torch.manual_seed(0)
    student = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5), nn.Dropout(0.5))
    student.to(memory_format=memory_format)
    return student, build_optimizer(OptimConfig(name=optim, lr=0.01), student)


def steps(student, optimizer, count):
    for _ in range(count):
        optimizer.zero_grad()
        student(torch.randn(6, 3, 8, 8)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("optim", ["sgd", "adamw"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_going_on_is_exact(tmp_path, optim, memory_format):
    """Weights, momentum, Adam's step count, batch norm's statistics and the random stream all come back."""
    student, optimizer = make(optim, memory_format)
    steps(student, optimizer, 3)
    progress = Progress(epoch=2, step=3, seconds=1.5, sums={"ce": 0.1 + 0.2}, best={"top1": 1 / 3}, threads=1)
    save_checkpoint(tmp_path / "checkpoint", {"student": student}, optimizer, progress, CPU)
    steps(student, optimizer, 2)
    expected = {name: tensor.clone() for name, tensor in student.state_dict().items()}

    student, optimizer = make(optim, memory_format)
    assert load_checkpoint(tmp_path / "checkpoint", {"student": student}, optimizer, CPU) == progress
    for parameter in student.parameters():
        for value in optimizer.state[parameter].values():
            assert value.ndim == 0 or value.stride() == parameter.stride()
    steps(student, optimizer, 2)
    assert all(torch.equal(student.state_dict()[name], tensor) for name, tensor in expected.items())


def test_before_the_first_step_there_is_no_momentum(tmp_path):
    student, optimizer = make("sgd")
    save_checkpoint(tmp_path / "checkpoint", {"student": student}, optimizer, Progress(), CPU)
    assert load_checkpoint(tmp_path / "checkpoint", *named("sgd"), CPU) == Progress()


def test_no_checkpoint(tmp_path):
    assert load_checkpoint(tmp_path, *named("sgd"), CPU) is None


def test_damaged_file(tmp_path):
    (tmp_path / FILE).write_bytes(b"\x08\0\0\0\0\0\0\0notjson!")
    with pytest.raises(ValueError, match=r"is damaged .* Delete it"):
        load_checkpoint(tmp_path, *named("sgd"), CPU)


def test_file_of_another_kind(tmp_path):
    (tmp_path / FILE).write_bytes(student_bytes(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="is not a checkpoint of this version"):
        load_checkpoint(tmp_path, *named("sgd"), CPU)


def test_a_flipped_bit_is_refused_wherever_it_is(tmp_path):
    """In the header, the numbers, the hash itself, weights, momentum and random states."""
    student, optimizer = make("sgd")
    steps(student, optimizer, 1)
    save_checkpoint(tmp_path, {"student": student}, optimizer, Progress(epoch=2), CPU)
    whole = (tmp_path / FILE).read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    names = [b"sha256", b'"progress"', b"generators", b"epoch", b"student.0.weight", b"optimizer.0", b"offsets", b"F32"]
    places = [0, 7, 8, header + 7, header + 8, len(whole) - 1, *(whole.index(name) for name in names)]
    places += [whole.index(b'"sha256":"') + 10, *random.Random(0).sample(range(len(whole)), 100)]
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        (tmp_path / FILE).write_bytes(flipped)
        with pytest.raises(ValueError, match="Delete it to start the run again"):
            load_checkpoint(tmp_path, *named("sgd"), CPU)
    (tmp_path / FILE).write_bytes(whole)
    assert load_checkpoint(tmp_path, *named("sgd"), CPU).epoch == 2


def named(*args):
    """The student under its name, and its optimizer, as a checkpoint takes them."""
    student, optimizer = make(*args)
    return {"student": student}, optimizer


def old_state(path, tensors=None, progress=None, text=None):
    """Write the state as earlier versions did: without a hash, so that whatever is edited is read; ``text`` for the JSON."""
    student, optimizer = make("adamw")
    steps(student, optimizer, 1)
    save_checkpoint(path, {"student": student}, optimizer, Progress(), CPU)
    known = load_file(path / FILE) | (tensors or {})
    numbers = asdict(Progress()) | (progress or {})
    del numbers["metrics_sha256"]
    metadata = {"format": "logitkd-checkpoint-1", "progress": json.dumps(numbers) if text is None else text}
    save_file({name: tensor for name, tensor in known.items() if tensor is not None}, path / FILE, metadata=metadata)


@pytest.mark.parametrize(
    "edit",
    [
        {"tensors": {"random.cpu": None}},
        {"tensors": {"random.cpu": torch.zeros(3, dtype=torch.uint8)}},
        {"tensors": {"optimizer.99.exp_avg": torch.zeros(2)}},
        {"tensors": {"optimizer.x": torch.zeros(2)}},
        {"tensors": {"optimizer.0.exp_avg": None}},
        {"tensors": {"optimizer.0.exp_avg": torch.zeros(2)}},
        {"progress": {"epoch": "2"}},
        {"progress": {"step": -1}},
        {"progress": {"epok": 2}},
        {"progress": {"sums": [1]}},
        {"text": "[" * 100_000},
        {"text": "{"},
        {"text": "null"},
    ],
    ids=lambda edit: str(edit)[:40],
)
def test_an_edited_state_is_refused_with_what_to_do(tmp_path, edit):
    old_state(tmp_path, **edit)
    with pytest.raises(ValueError, match=r"is damaged .* Delete it"), pytest.warns(UserWarning, match="earlier version"):
        load_checkpoint(tmp_path, *named("adamw"), CPU)


def test_a_state_of_an_earlier_version_goes_on_and_says_what_it_lacks(tmp_path):
    old_state(tmp_path, progress={"epoch": 3, "metrics_size": 7})
    with pytest.warns(UserWarning, match="written by an earlier version of logitkd: it has no hash"):
        progress = load_checkpoint(tmp_path, *named("adamw"), CPU)
    assert (progress.epoch, progress.metrics_size, progress.metrics_sha256) == (3, 7, "")


class Remembering(nn.Module):
    """Has buffers outside its state dict: one that keeps its shape, one that is made later, one that goes."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)
        expanded = torch.arange(3).expand(2, 3)  # which cannot be written in place
        for name, value in (("mean", torch.zeros(2)), ("cache", None), ("once", torch.ones(1)), ("positions", expanded)):
            self.register_buffer(name, value, persistent=False)


def test_buffers_outside_the_state_dict_come_back(tmp_path):
    student, connectors = Remembering(), nn.Sequential(Remembering())
    optimizer = build_optimizer(OptimConfig(), student)
    for module in (student, connectors[0]):
        module.mean += 3
        module.cache, module.once = torch.arange(4), None
    save_checkpoint(tmp_path, {"student": student, "connectors": connectors}, optimizer, Progress(), CPU)
    student, connectors = Remembering(), nn.Sequential(Remembering())
    mean = student.mean
    modules = {"student": student, "connectors": connectors}
    load_checkpoint(tmp_path, modules, build_optimizer(OptimConfig(), student), CPU)
    assert student.mean is mean
    for module in (student, connectors[0]):
        assert module.mean.tolist() == [3, 3]
        assert module.cache.tolist() == [0, 1, 2, 3]
        assert module.once is None


def test_every_generator_comes_back(tmp_path):
    def draw():
        return random.random(), random.gauss(0, 1), np.random.rand(), np.random.normal(), torch.rand(1).item()

    draw()  # a normal number is drawn in pairs: the second is kept
    save_checkpoint(tmp_path, *named("sgd"), Progress(), CPU)
    expected = draw()
    random.seed(1)
    np.random.seed(1)
    load_checkpoint(tmp_path, *named("sgd"), CPU)
    assert draw() == expected


def test_another_student(tmp_path):
    save_checkpoint(tmp_path, *named("sgd"), Progress(), CPU)
    student = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="does not fit the student"):
        load_checkpoint(tmp_path, {"student": student}, build_optimizer(OptimConfig(), student), CPU)


def test_tied_weights(tmp_path):
    student = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    student[1].weight = student[0].weight
    optimizer = build_optimizer(OptimConfig(), student)
    save_checkpoint(tmp_path, {"student": student}, optimizer, Progress(), CPU)
    expected = student[0].weight.detach().clone()
    nn.init.zeros_(student[0].weight)
    load_checkpoint(tmp_path, {"student": student}, optimizer, CPU)
    assert torch.equal(student[1].weight, expected)


def test_size_is_not_underestimated(tmp_path):
    student, optimizer = make("adamw")
    steps(student, optimizer, 1)
    save_checkpoint(tmp_path, {"student": student}, optimizer, Progress(), CPU)
    assert (tmp_path / FILE).stat().st_size <= checkpoint_bytes({"student": student}, slots=2)
