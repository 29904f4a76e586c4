"""Whole runs on images of any size: decoded by workers, resumed exactly, evaluated, and no worker left behind."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from image_files import SHAPES, write_mixed_folder
from interrupted_runs import StopAfter, outcome
from logitkd import ModelConfig, TrainConfig, evaluate, train
from logitkd.data import DataConfig
from logitkd.training.checkpoint import FILE
from logitkd.training.display import Lines
from logitkd.training.interrupt import Interrupted


@pytest.fixture
def config(tmp_path):
    """Three epochs of six steps; the teacher is a network of the same folder."""
    folder = write_mixed_folder(tmp_path / "shapes", per_class=10, splits=["."])
    data = DataConfig(
        str(folder), image_size=12, eval_fraction=0.2, transforms=("random_resized_crop", "randaugment"), workers=1
    )
    common = {"data": data, "epochs": 3, "batch_size": 4, "quiet": True}
    teacher = tmp_path / "teacher"
    train(TrainConfig(ModelConfig("tiny_net:TinyNet"), method="ce", output=str(teacher), **{**common, "epochs": 1}))
    return TrainConfig(
        ModelConfig("tiny_net:TinyNet"),
        teacher=ModelConfig("tiny_net:TinyNet", checkpoint=str(teacher)),
        method="dkd",
        method_options={"warmup_epochs": 2},
        output=str(tmp_path / "run"),
        seed=1,
        **common,
    )


def with_workers(config, workers, output):
    return replace(config, data=replace(config.data, workers=workers), output=str(output))


def test_run(config, capsys):
    result = train(config)
    err = capsys.readouterr().err
    assert "24 training and 6 evaluation images of 3 classes: circle, square, star" in err
    assert "0.2 of train" in err
    record = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert record["data"]["classes"] == SHAPES
    assert (record["data"]["train"], record["data"]["eval"]) == (24, 6)
    assert record["run"]["data"]["transforms"] == ["random_resized_crop", "randaugment"]
    assert result.best["split"] == "0.2 of train"
    assert set(result.metrics) == {"loss", "top1", "calibration_error", "agreement"}
    again = train(with_workers(config, 0, config.output))  # the number of workers is no part of what a run is
    assert again == replace(result, resumed_finished=True)
    found = evaluate(result.folder, teacher=config.teacher.checkpoint, latency=False)
    assert {key: found[key] for key in result.metrics} == pytest.approx(result.metrics)
    assert (found["images"], found["split"]) == (6, "0.2 of train")


@pytest.mark.parametrize("step", [9, 12])
def test_a_crashed_run_goes_on_exactly_with_any_number_of_workers(config, tmp_path, step):
    train(with_workers(config, 0, tmp_path / "whole"))
    crashed = replace(config, checkpoint_every=2)
    with pytest.raises(RuntimeError, match="crash"):
        train(crashed, display=StopAfter(step))
    assert not multiprocessing.active_children()
    train(with_workers(crashed, 2, crashed.output))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_changed_files_are_other_data(config):
    with pytest.raises(RuntimeError, match="crash"):
        train(config, display=StopAfter(8))
    image = next(path for path in (config.data.source + f"/star/{row}.png" for row in range(10)) if os.path.exists(path))
    with open(image, "ab") as file:
        file.write(b"\0")
    with pytest.raises(ValueError, match=r"belongs to another run; under `data`:\n  fingerprint: "):
        train(config)


def test_a_broken_image_stops_the_run_and_is_named(config):
    image = os.path.join(config.data.source, "circle", "1.png")
    with open(image, "r+b") as file:
        file.truncate(os.path.getsize(image) - 40)
    with pytest.raises(ValueError, match=f"^cannot decode the image in {image}: "):
        train(replace(config, method="ce", teacher=None, method_options={}))
    assert not multiprocessing.active_children()
    with open(image, "wb") as file:
        file.write(b"no image at all")
    with pytest.raises(ValueError, match=f"^cannot decode the image in {image}: "):  # before the first step
        train(config, display=StopAfter(0))


class Stopping(Lines):
    """Sends its own process a signal after a number of steps."""

    def step(self, epoch, done, numbers):
        if done == 8:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_ends_the_workers_with_the_run(config, tmp_path):
    with pytest.raises(Interrupted) as stopped:
        train(config, display=Stopping())
    assert not multiprocessing.active_children()  # although `stopped` holds the frames of the run
    assert stopped.value.code == 143
    train(config)
    train(with_workers(config, 0, tmp_path / "whole"))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def members(group):
    """The processes of a group that are not yet gone."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, leader = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(leader) == group and state != "Z":
            found.append(stat.parent.name)
    return found


def alone(config):
    """Train in a process group of its own, as a shell starts a command."""
    os.setsid()
    train(config)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc")
def test_ctrl_c_leaves_a_checkpoint_and_no_worker(config):
    """The workers of the group get the signal as well."""
    process = multiprocessing.get_context("fork").Process(
        target=alone, args=(replace(config, epochs=500, data=replace(config.data, workers=2)),)
    )
    process.start()
    folder = Path(config.output)
    while process.is_alive() and not (folder / "metrics.jsonl").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 130
    assert (folder / "checkpoint" / FILE).exists()
    assert not (folder / "result.json").exists()
    assert not members(process.pid)
