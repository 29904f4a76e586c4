import pytest
import torch
from torch import nn

from logitkd.engine import OptimConfig
from logitkd.engine.checkpoint import FILE, Progress, checkpoint_bytes, load_checkpoint, save_checkpoint, student_bytes
from logitkd.engine.optim import build_optimizer

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
    save_checkpoint(tmp_path / "checkpoint", student, optimizer, progress, CPU)
    steps(student, optimizer, 2)
    expected = {name: tensor.clone() for name, tensor in student.state_dict().items()}

    student, optimizer = make(optim, memory_format)
    assert load_checkpoint(tmp_path / "checkpoint", student, optimizer, CPU) == progress
    for parameter in student.parameters():
        for value in optimizer.state[parameter].values():
            assert value.ndim == 0 or value.stride() == parameter.stride()
    steps(student, optimizer, 2)
    assert all(torch.equal(student.state_dict()[name], tensor) for name, tensor in expected.items())


def test_before_the_first_step_there_is_no_momentum(tmp_path):
    student, optimizer = make("sgd")
    save_checkpoint(tmp_path / "checkpoint", student, optimizer, Progress(), CPU)
    assert load_checkpoint(tmp_path / "checkpoint", *make("sgd"), CPU) == Progress()


def test_no_checkpoint(tmp_path):
    assert load_checkpoint(tmp_path, *make("sgd"), CPU) is None


def test_damaged_file(tmp_path):
    (tmp_path / FILE).write_bytes(b"\x08\0\0\0\0\0\0\0notjson!")
    with pytest.raises(ValueError, match=r"is damaged .* Delete it"):
        load_checkpoint(tmp_path, *make("sgd"), CPU)


def test_file_of_another_kind(tmp_path):
    (tmp_path / FILE).write_bytes(student_bytes(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="is not a checkpoint of this version"):
        load_checkpoint(tmp_path, *make("sgd"), CPU)


def test_another_student(tmp_path):
    save_checkpoint(tmp_path, *make("sgd"), Progress(), CPU)
    student = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="does not fit the student"):
        load_checkpoint(tmp_path, student, build_optimizer(OptimConfig(), student), CPU)


def test_tied_weights(tmp_path):
    student = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    student[1].weight = student[0].weight
    optimizer = build_optimizer(OptimConfig(), student)
    save_checkpoint(tmp_path, student, optimizer, Progress(), CPU)
    expected = student[0].weight.detach().clone()
    nn.init.zeros_(student[0].weight)
    load_checkpoint(tmp_path, student, optimizer, CPU)
    assert torch.equal(student[1].weight, expected)


def test_size_is_not_underestimated(tmp_path):
    student, optimizer = make("adamw")
    steps(student, optimizer, 1)
    save_checkpoint(tmp_path, student, optimizer, Progress(), CPU)
    assert (tmp_path / FILE).stat().st_size <= checkpoint_bytes(student, slots=2)
