"""Tiny runs on the embedded digits: a second each, on one thread, so that sums are added in one order."""

import dataclasses
from pathlib import Path

import pytest
import torch

from logitkd.data import DataConfig
from logitkd.engine import ModelConfig, TrainConfig, train


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """Use one thread, and find ``tiny_net``."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """A finished run: cifar_resnet8 on the digits."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    data = DataConfig(crop_padding=1, flip=False)
    train(TrainConfig(ModelConfig("cifar_resnet8"), method="ce", data=data, epochs=3, output=str(folder), quiet=True))
    return folder


@pytest.fixture
def tiny(teacher_folder, tmp_path):
    """Return a function that makes a small configuration: ``tiny(epochs=3)``."""

    def make(**changes):
        config = TrainConfig(
            ModelConfig("tiny_net:TinyNet"),
            teacher=ModelConfig("cifar_resnet8", checkpoint=str(teacher_folder)),
            method="kd",
            data=DataConfig(crop_padding=1, flip=False, train_per_class=40),
            epochs=3,
            batch_size=32,
            output=str(tmp_path / "run"),
            quiet=True,
        )
        return dataclasses.replace(config, **changes)

    return make
