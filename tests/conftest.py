"""What all tests share: helpers beside them are importable, each process keeps to one thread, and SIGINT interrupts.

``tiny`` makes runs of a second each on the embedded digits, taught by the run in ``teacher_folder``.
"""

import dataclasses
import os
import shutil
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


@pytest.fixture(scope="session")
def text_run(tmp_path_factory):
    """A finished run on text: a tiny BERT whose own folder is gone, taught by a DistilBERT that reads other token ids."""
    from logitkd.data.text_config import TextConfig
    from text_folders import WORDS, network_folder, write_lines

    home = tmp_path_factory.mktemp("text")
    write_lines(home / "data")
    network_folder(home / "small", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    network_folder(home / "big", "distilbert", words=WORDS[::-1], seed=1)
    config = logitkd.TrainConfig(
        logitkd.ModelConfig(f"transformers:{home / 'small'}"),
        logitkd.TeacherConfig(f"transformers:{home / 'big'}"),
        task="text",
        data=TextConfig(str(home / "data"), max_length=24),
        optim=logitkd.OptimConfig("adamw", lr=1e-2, weight_decay=0.01),
        epochs=6,
        batch_size=8,
        output=str(home / "run"),
        device="cpu",
        quiet=True,
        method_options={"warmup_epochs": 0, "ce_weight": 1.0, "kd_weight": 0.01},
    )
    with pytest.warns(UserWarning, match="little to teach"):
        logitkd.train(config)
    shutil.rmtree(home / "small")
    return home / "run"


@pytest.fixture(scope="session")
def mask_run(tmp_path_factory):
    """A finished run of segmentation in a folder with its data, ``scenes``, and its teacher's run, ``teacher``."""
    from logitkd.runs.plan import plan
    from scenes import COLORS, NAMES, write_scenes

    home = tmp_path_factory.mktemp("masks")
    write_scenes(home / "scenes", {"train": 6, "val": 5}, 48, 64)
    common = {
        "task": "segmentation",
        "data.source": str(home / "scenes"),
        "data.classes": list(NAMES),
        "data.palette": [list(color) for color in COLORS],
        "data.scale": [1.0, 1.0],
        "data.workers": 0,
        "epochs": 10,
        "batch_size": 2,
        "optim.name": "adamw",
        "optim.lr": 0.01,
        "device": "cpu",
        "quiet": True,
    }
    networks = {"teacher": {"student.name": "dense_networks:build_teacher"}, "run": {"student.name": "dense_networks:build"}}
    networks["run"] |= {"teacher": str(home / "teacher"), "method.top_k": 1}
    for name, method in (("teacher", "ce"), ("run", "gdkd")):
        logitkd.train(plan(None, method, overrides={**common, **networks[name], "output": str(home / name)}))
    return home / "run"


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
