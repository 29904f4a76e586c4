"""What all tests share: helpers beside them are importable, each process keeps to one thread, and SIGINT interrupts.

``tiny`` makes runs of a second each on the embedded digits, taught by the run in ``teacher_folder``.
"""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# Tests run in several processes; threads of each would only wait for each other. Inherited by the processes tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell that starts pytest in the background has it ignore SIGINT, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import torch

import logitkd


@pytest.fixture(autouse=True)
def _one_thread():
    """Add sums in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep nothing in the user's own cache, and find nothing there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOGITKD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """A finished run: cifar_resnet8 on the digits."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    data = logitkd.DataConfig(crop_padding=1, flip=False)
    logitkd.train(
        logitkd.TrainConfig(
            logitkd.ModelConfig("cifar_resnet8"), method="ce", data=data, epochs=3, output=str(folder), quiet=True
        )
    )
    return folder


@pytest.fixture
def tiny(teacher_folder, tmp_path):
    """Return a function that makes a small configuration: ``tiny(epochs=3)``."""

    def make(**changes):
        config = logitkd.TrainConfig(
            logitkd.ModelConfig("tiny_net:TinyNet"),
            teacher=logitkd.ModelConfig("cifar_resnet8", checkpoint=str(teacher_folder)),
            method="kd",
            data=logitkd.DataConfig(crop_padding=1, flip=False, train_per_class=40),
            epochs=3,
            batch_size=32,
            output=str(tmp_path / "run"),
            quiet=True,
        )
        return dataclasses.replace(config, **changes)

    return make
