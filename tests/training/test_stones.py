"""Training with stepping stones: connectors learn, are checkpointed, and are not in the student."""

import importlib
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from logitkd import ModelConfig, StonesConfig, train
from logitkd.models import build_model
from logitkd.training.checkpoint import FILE
from logitkd.training.display import Lines


class Notes(Lines):
    """Remembers what the run said, and may break it off."""

    def __init__(self, crash_at=None):
        super().__init__()
        self.said, self.crash_at = [], crash_at

    def note(self, message):
        self.said.append(message)

    def step(self, epoch, done, numbers):
        if done == self.crash_at:
            raise RuntimeError("crash")


@pytest.fixture
def stones(tiny):
    """A run with stepping stones: resnet8 on the digits, its teacher another resnet8."""
    return tiny(student=ModelConfig("cifar_resnet8"), method="block-kd", epochs=2, checkpoint_every=3)


def state_of(folder):
    with safe_open(folder / "checkpoint" / FILE, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_connectors_are_trained_and_not_exported(stones, precision):
    display = Notes()
    result = train(replace(stones, precision=precision, channels_last=precision == "bfloat16"), display=display)
    assert result.top1 > 40  # ten classes
    assert display.said[0] == (
        "stepping stones (share of the multiply-adds done there): layer1 (41%) -> layer1 (41%), layer2 (71%) -> layer2 (71%),"
        " layer3 (100%) -> layer3 (100%)"
    )
    student = load_file(result.folder / "student.safetensors")
    assert student.keys() == build_model("cifar_resnet8", 10).state_dict().keys()
    state = state_of(result.folder)
    norms = [value for name, value in state.items() if name.startswith("connectors.") and name.endswith("norm.weight")]
    assert len(norms) == 3
    assert all(not torch.equal(norm, torch.ones_like(norm)) for norm in norms)
    record = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert record["run"]["stones"] == {"use": "all", "student": None, "teacher": None}


@pytest.mark.parametrize("cuts", [None, ("body.3", "body.6")], ids=["found", "given"])
def test_cuts_and_what_is_put_out_at_them_are_those_of_either_precision(stones, cuts, tmp_path):
    """In bfloat16 the teacher's norms are folded: behind a cut they must not be, nor may folding move the cuts."""
    said, outputs = [], []
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for precision in ("float32", "bfloat16"):
        config = replace(
            stones, teacher=ModelConfig("tiny_net:row"), precision=precision, epochs=1, output=str(tmp_path / precision)
        )
        student = ("layer1", "layer2") if cuts else None
        display = Notes()
        with pytest.warns(UserWarning, match="it has little to teach"):
            train(replace(config, stones=StonesConfig(student=student, teacher=cuts)), display=display)
        said.append(display.said[0])
        teacher = importlib.import_module("tiny_net").ROWS[0]
        seen = []
        for path in ("body.3", "body.6"):
            teacher.get_submodule(path).register_forward_hook(lambda *call, seen=seen: seen.append(call[2]))
        with torch.no_grad():
            teacher(images)
        outputs.append(seen)
    folded = [isinstance(module, torch.nn.Identity) for module in teacher.body]
    assert any(folded)
    assert said[0] == said[1]
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_crashed_run_goes_on_to_the_very_student(stones, tmp_path):
    whole = train(replace(stones, output=str(tmp_path / "whole"))).folder
    crashed = replace(stones, output=str(tmp_path / "crashed"))
    with pytest.raises(RuntimeError, match="crash"):
        train(crashed, display=Notes(crash_at=13 + 5))
    folder = train(crashed).folder
    assert (folder / "student.safetensors").read_bytes() == (whole / "student.safetensors").read_bytes()
    ends = state_of(folder), state_of(whole)
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_fewer_stones_and_given_cuts(stones):
    cuts = StonesConfig(use=(2,), student=("layer1.0", "layer2"), teacher=("layer2", "layer3.0"))
    display = Notes()
    result = train(replace(stones, epochs=1, stones=cuts), display=display)
    assert display.said[0] == "stepping stones (share of the multiply-adds done there): layer2 (71%) -> layer3.0 (100%)"
    assert not any(name.startswith("connectors.1") for name in state_of(result.folder))


def test_other_stones_are_another_run(stones):
    train(replace(stones, epochs=1))
    with pytest.raises(ValueError, match=r"stones\.use: all in the folder, last now"):
        train(replace(stones, epochs=1, stones=StonesConfig(use="last")))


def test_a_last_batch_of_one_image_is_refused(stones):
    with pytest.raises(ValueError, match=r"`batch_size` must not leave one example for an epoch's last batch.*got 57 with 400"):
        train(replace(stones, batch_size=57))


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        (StonesConfig(student=("layer1",), teacher=("layer9",)), "teacher cut `layer9` is no module of CifarResNet"),
        (StonesConfig(student=("layer2", "layer1")), "student cuts of CifarResNet must be in the order in which they run"),
        (StonesConfig(use=(4,)), r"stones must be `all`, `last` or rising numbers in \[1, 3\]"),
    ],
)
def test_bad_cuts_are_refused_and_a_corrected_run_may_take_the_folder(stones, cuts, message, monkeypatch):
    with monkeypatch.context() as patch:  # before the teacher is asked about every evaluation image
        patch.setattr("logitkd.training.run.measure", lambda *_: pytest.fail("time was spent"))
        with pytest.raises(ValueError, match=message):
            train(replace(stones, stones=cuts))
    assert train(replace(stones, epochs=1)).top1 > 10
