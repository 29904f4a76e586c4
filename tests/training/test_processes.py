"""A launcher of several processes is refused before anything else."""

import pytest

from logitkd import ModelConfig, TrainConfig, train
from logitkd.cli import main


@pytest.mark.parametrize(
    ("name", "value"), [("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("LOCAL_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "4")]
)
def test_a_launcher_is_refused_first(tmp_path, monkeypatch, capsys, name, value):
    """Before what else is wrong, and before the folder."""
    monkeypatch.setenv(name, value)
    output = tmp_path / "run"
    said = f"training must be started in one process, got {name}={value}, as launchers set it"
    with pytest.raises(ValueError, match=said):
        train(TrainConfig(ModelConfig("cifar_resnet8"), method="ce", epochs=0, output=str(output), quiet=True))
    assert main(["train", "--no_such_flag", "1", "--output", str(output)]) == 1
    assert capsys.readouterr().err.startswith(f"logitkd train: {said}")
    assert not output.exists()


def test_one_process_is_welcome(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(ValueError, match="`epochs` must be at least 1"):
        train(TrainConfig(ModelConfig("cifar_resnet8"), method="ce", epochs=0))
