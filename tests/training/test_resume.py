"""An interrupted run, continued, ends in the very student of an uninterrupted one.

``LOGITKD_KILLS=20 pytest tests/training/test_resume.py`` repeats the test with real kills twenty times.
"""

import importlib
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from interrupted_runs import StopAfter, outcome
from logitkd import ModelConfig, ScheduleConfig, train
from logitkd.training.checkpoint import FILE
from logitkd.training.interrupt import Interrupted

TESTS = Path(__file__).parents[1]
IMAGES = ["logitkd.tasks.images", "logitkd.data.digits", "sklearn.datasets", "torchmetrics.classification"]
TRIALS = int(os.environ.get("LOGITKD_KILLS", "2"))


@pytest.fixture
def long_run(tiny):
    """A configuration with many checkpoints, most of them inside an epoch."""
    schedule = ScheduleConfig(warmup=0.5)  # the rate grows in every epoch up to the third
    return tiny(epochs=6, checkpoint_every=2, method="dkd", method_options={"warmup_epochs": 2}, schedule=schedule)


@pytest.fixture(scope="module")
def processes():
    """Processes that start in a moment: they fork from a server that has imported the engine."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["logitkd.training.run", "logitkd.training.train", "logitkd.training.accelerator", *IMAGES])
    yield context
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before


@pytest.mark.parametrize("trial", range(TRIALS))
def test_kill_at_any_moment(long_run, tmp_path, processes, trial):
    inside_a_write = trial % 2 == 1
    if inside_a_write:
        long_run = replace(long_run, student=ModelConfig("tiny_net:HeavyNet"))
    whole = replace(long_run, output=str(tmp_path / "whole"))
    process = processes.Process(target=train, args=(whole,))
    process.start()
    process.join()
    assert process.exitcode == 0

    chance = random.Random(trial + TRIALS * 1000)
    kills = 0
    folder = tmp_path / "killed"
    for _ in range(4):
        process = processes.Process(target=train, args=(replace(long_run, output=str(folder)),))
        process.start()
        wait_for(folder / "config.yaml", process)
        wait_for_checkpoints(folder / "checkpoint" / FILE, chance.randrange(9), process)
        time.sleep(chance.uniform(0, 0.01))
        if inside_a_write:
            wait_for(folder / "checkpoint" / f"{FILE}.new", process)
        if process.is_alive():
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            kills += 1
    process = processes.Process(target=train, args=(replace(long_run, output=str(folder)),))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert kills >= 1
    assert outcome(folder) == outcome(tmp_path / "whole")


def wait_for(path, process):
    while not path.exists() and process.is_alive():
        time.sleep(0.0005)


def wait_for_checkpoints(path, count, process):
    """Wait until ``count`` of the run's 42 checkpoints have been written: progress, where a time would depend on the load."""
    seen = path.stat().st_mtime_ns if path.exists() else None
    while count and process.is_alive():
        now = path.stat().st_mtime_ns if path.exists() else None
        count -= now != seen
        seen = now
        time.sleep(0.0005)


@pytest.fixture
def crashed(long_run, tmp_path):
    """A configuration whose folder holds a run that crashed in the middle of its third epoch, and the whole run's."""
    whole = replace(long_run, output=str(tmp_path / "whole"))
    train(whole)
    config = replace(long_run, output=str(tmp_path / "crashed"))
    with pytest.raises(RuntimeError, match="crash"):
        train(config, display=StopAfter(2 * 13 + 6))
    return config, outcome(tmp_path / "whole")


def test_every_state_a_crash_can_leave(crashed, tmp_path):
    """Checkpoint, metrics and student are each caught half-written, or written before the file that follows them."""
    config, expected = crashed
    start = Path(config.output)
    state = (start / "checkpoint" / FILE).read_bytes()

    def torn_checkpoint(folder, share):
        (folder / "checkpoint" / f"{FILE}.new").write_bytes(state[: int(share * len(state))])

    def torn_metrics(folder):
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"epoch": 3, "lr": 0.0')

    def line_without_checkpoint(folder):
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"epoch": 3}\n')

    def torn_student(folder):
        (folder / "student.safetensors.new").write_bytes(b"half")
        (folder / "result.json.new").write_text('{"top1"')

    def torn_first_checkpoint(folder):
        (folder / "checkpoint" / FILE).unlink()
        torn_checkpoint(folder, 0.5)

    def torn_config(folder):
        (folder / "config.yaml").rename(folder / "config.yaml.new")
        (folder / "metrics.jsonl").unlink()
        (folder / "checkpoint" / FILE).unlink()

    states = [
        lambda folder: torn_checkpoint(folder, 0.0),
        lambda folder: torn_checkpoint(folder, 0.7),
        lambda folder: torn_checkpoint(folder, 1.0),
        torn_metrics,
        line_without_checkpoint,
        torn_student,
        torn_first_checkpoint,
        torn_config,
    ]
    for number, damage in enumerate(states):
        folder = tmp_path / f"state{number}"
        shutil.copytree(start, folder)
        damage(folder)
        train(replace(config, output=str(folder)))
        assert outcome(folder) == expected
        assert not list(folder.rglob("*.new"))


@pytest.mark.parametrize("network", ["Remembers", "Draws"])
def test_buffers_and_generators_beyond_torchs(tiny, tmp_path, network):
    """A buffer outside the state dict, Python's generator and numpy's: what a pass reads, the next sitting reads."""
    config = tiny(student=ModelConfig(f"tiny_net:{network}"), epochs=2, checkpoint_every=2, output=str(tmp_path / "whole"))
    train(config)
    config = replace(config, output=str(tmp_path / "crashed"))
    with pytest.raises(RuntimeError, match="crash"):
        train(config, display=StopAfter(13 + 6))
    random.seed(9)
    np.random.seed(9)
    train(config)
    assert outcome(tmp_path / "crashed") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("network", ["StoppingRemembers", "StoppingDraws"])
def test_an_evaluation_that_is_broken_off_leaves_no_trace(tiny, tmp_path, network):
    """What its batches changed is put back, as they are shown again."""
    importlib.import_module("tiny_net").Stopping.passes = 0
    config = tiny(student=ModelConfig(f"tiny_net:{network}"), epochs=2, output=str(tmp_path / "stopped"))
    with pytest.raises(Interrupted):
        train(config)
    train(config)
    train(replace(config, output=str(tmp_path / "whole")))
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def test_changed_code_of_the_network_is_warned_of(tiny, tmp_path, monkeypatch):
    file = tmp_path / "users_own_net.py"
    file.write_text((TESTS / "tiny_net.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    config = tiny(student=ModelConfig("users_own_net:TinyNet"), epochs=2)

    def go_on(expected):
        sys.modules.pop("users_own_net", None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(RuntimeError, match="crash"):
                train(config, display=StopAfter(20))
        told = [str(warning.message) for warning in caught if "with other code of its networks" in str(warning.message)]
        assert len(told) == expected
        assert all("student.users_own_net: " in one for one in told)

    go_on(0)
    go_on(0)
    file.write_text(file.read_text().replace("nn.Dropout(0.1)", "nn.Dropout(0.2)"))
    go_on(1)


def test_metrics_edited_to_the_same_length(crashed):
    config, _ = crashed
    metrics = Path(config.output) / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"epoch": 1', '"epoch": 7'))
    with pytest.raises(ValueError, match=r"got others of that length\. It was changed by hand"):
        train(config)


def test_a_run_of_an_earlier_version_goes_on(crashed):
    """Its state has no hash, its record no source; a network that needs neither ends in the same student."""
    config, expected = crashed
    folder = Path(config.output)
    state, record = folder / "checkpoint" / FILE, yaml.safe_load((folder / "config.yaml").read_text())
    with safe_open(state, framework="pt") as file:
        progress = json.loads(file.metadata()["progress"])
    del progress["metrics_sha256"], record["source"]
    save_file(load_file(state), state, metadata={"format": "logitkd-checkpoint-1", "progress": json.dumps(progress)})
    (folder / "config.yaml").write_text(yaml.safe_dump(record))
    with pytest.warns(UserWarning, match="was written by an earlier version of logitkd"):
        train(config)
    assert outcome(folder) == expected


def test_student_written_but_no_result(tiny):
    config = tiny(epochs=1)
    first = train(config)
    expected = outcome(first.folder)
    (first.folder / "result.json").unlink()
    again = train(config)
    assert not again.resumed_finished
    assert outcome(first.folder) == expected


KILL_INSIDE = """
import os, signal, sys
from logitkd import files
after, count = sys.argv.pop(1) == "after", 0
rename = os.replace
def replace(source, target):
    global count
    count += str(target).endswith("state.safetensors")
    if count == 5 and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
    if count == 5:
        os.kill(os.getpid(), signal.SIGKILL)
files.os.replace = replace
"""


TRAIN = """
import pickle, sys, torch
torch.set_num_threads(1)
from logitkd import train
train(pickle.loads(bytes.fromhex(sys.argv[1])))
"""


def here():
    """The environment of a process that finds ``tiny_net``, and what this one finds."""
    found = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(found)}


def command(script, config, *arguments):
    return [sys.executable, "-c", script, *arguments, pickle.dumps(config).hex()]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_kill_at_the_rename_of_a_checkpoint(crashed, tmp_path, moment):
    config, expected = crashed
    config = replace(config, output=str(tmp_path / "renamed"))
    done = subprocess.run(command(KILL_INSIDE + TRAIN, config, moment), env=here(), capture_output=True)
    assert done.returncode == -signal.SIGKILL
    train(config)
    assert outcome(Path(config.output)) == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_writes_a_checkpoint_and_says_how_to_go_on(crashed, tmp_path, number, code):
    config, expected = crashed
    folder = tmp_path / "stopped"
    config = replace(config, output=str(folder), checkpoint_every=None)
    process = subprocess.Popen(command(TRAIN, config), env=here(), stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("epoch 1/"):
            break
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == code
    assert f"{number.name}: stopped after step" in said
    assert "Run the same command again" in said
    assert not (folder / "result.json").exists()
    train(config)
    assert outcome(folder) == expected


def test_signal_during_the_evaluation(long_run, tmp_path):
    """The steps of the epoch are kept; the evaluation is done again."""
    config = replace(long_run, student=ModelConfig("tiny_net:SignallingNet"), output=str(tmp_path / "stopped"))
    with pytest.raises(Interrupted) as stopped:
        train(config)
    assert stopped.value.code == 143
    assert not (tmp_path / "stopped" / "metrics.jsonl").exists()
    train(config)
    whole = replace(config, output=str(tmp_path / "whole"))
    train(whole)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")
