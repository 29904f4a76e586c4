import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from logitkd import ModelConfig, OptimConfig, ScheduleConfig, StonesConfig, TrainConfig, evaluate, export, train
from logitkd.data import DataConfig
from logitkd.models import build_model
from logitkd.runs.folder import read_result, read_run
from logitkd.training.folder import RunFolder

RECORD = {
    "run": {"student": {"name": "tiny"}, "data": {"source": "digits"}, "seed": 0},
    "method": {"name": "kd"},
    "versions": {"logitkd": "0.1"},
}


def test_output_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(NotADirectoryError, match=r"must be a folder, but .*file is a file"), RunFolder(path):
            pass


def test_output_holds_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match=r"holds thesis\.tex and no config\.yaml"), RunFolder(tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "text",
    [
        "name: my project\n",
        "- a\n- b\n",
        "",
        "run: 3\nmethod: {}\n",
        "run: {student: {name: a}, data: {source: b}}\nmethod: {}\n",
        "a: [",
        "run: " + "[" * 3000 + "]" * 3000,
        "\xff\x00",
    ],
)
def test_the_config_of_another_program_is_no_run(tmp_path, text):
    """Nothing in the folder is touched, whatever its names."""
    names = {"config.yaml": text, "draft.new": "mine", "metrics.jsonl": "{}\n", "result.json": "{}"}
    for name, content in names.items():
        (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(FileExistsError, match="must be a new folder or a run's folder"), RunFolder(tmp_path):
        pass
    assert {p.name: p.read_text(encoding="latin-1") for p in tmp_path.iterdir()} == names
    with pytest.raises(ValueError, match="must be what a run wrote"):
        read_run(tmp_path)


def test_a_folder_named_checkpoint_may_be_another_programs(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model.pt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds checkpoint/model\.pt and no config\.yaml"), RunFolder(tmp_path):
        pass


@pytest.mark.parametrize("text", ['{"top1": 3', "[]", '{"top1": 3}', "\xff", "[" * 100_000, "[" * 99_999 + "]" * 99_999])
def test_a_damaged_result(tmp_path, text):
    assert read_result(tmp_path) is None
    (tmp_path / "result.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"result\.json is damaged.* Delete it"):
        read_result(tmp_path)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a file system that nobody may write, as /proc")
def test_output_cannot_be_written():
    with pytest.raises(OSError, match="must be a folder that can be written"), RunFolder(Path("/proc/run")):
        pass


def test_one_process_at_a_time(tmp_path):
    busy = pytest.raises(BlockingIOError, match=f"in use by another process .id {os.getpid()}")
    with RunFolder(tmp_path / "run"), busy:
        RunFolder(tmp_path / "run").__enter__()
    with RunFolder(tmp_path / "run"):
        pass


def hold(path, ready):
    with RunFolder(path):
        ready.set()
        time.sleep(60)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_dead_process_holds_no_lock(tmp_path, end):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", ready))
    process.start()
    assert ready.wait(30)
    with pytest.raises(BlockingIOError, match=f"in use by another process .id {process.pid}"):
        RunFolder(tmp_path / "run").__enter__()
    os.kill(process.pid, end)
    process.join()
    assert process.exitcode == -end
    assert (tmp_path / "run" / ".owner").exists()  # nobody was there to delete it
    with RunFolder(tmp_path / "run"):
        assert (tmp_path / "run" / ".owner").read_text() == f"{os.getpid()}\n"
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_no_system_is_shut_out_by_the_lock():
    code = "import sys; sys.modules['fcntl'] = None; from logitkd.training.folder import RunFolder"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_leftovers_are_deleted(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(RECORD))
    for name in ("config.yaml", "result.json", "student.safetensors", "checkpoint/state.safetensors"):
        (tmp_path / f"{name}.new").write_text("half")
    (tmp_path / "notes.new").write_text("mine")
    with RunFolder(tmp_path):
        assert sorted(p.name for p in tmp_path.rglob("*")) == [".lock", ".owner", "checkpoint", "config.yaml", "notes.new"]


def test_differing_keys_are_named_with_both_values(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.check_same("run", {"seed": 0})
        run = RECORD["run"] | {"optim": {"lr": 0.1}, "milestones": (0.5,), "quiet": True}
        folder.write_config(RECORD | {"run": run})
        other = run | {"seed": 1, "optim": {"lr": 0.2}, "quiet": False}
        folder.check_same("run", other)  # nothing came of the first
        folder.append_metrics({"epoch": 1})
        folder.check_same("run", run)
        with pytest.raises(ValueError, match="another run") as error:
            folder.check_same("run", other, ignore=("quiet",))
    assert "optim.lr: 0.1 in the folder, 0.2 now\n  seed: 0 in the folder, 1 now" in str(error.value)
    assert "quiet" not in str(error.value)


def test_a_block_that_was_lost_is_no_agreement(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.write_config(RECORD)
        folder.check_same("data", {"train": 400})
        folder.append_metrics({"epoch": 1})
        with pytest.raises(ValueError, match="must have the section `data`"):
            folder.check_same("data", {"train": 400})


def test_other_versions_only_warn(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.write_config(RECORD | {"versions": {"logitkd": "0.1", "torch": "2.6.0"}})
        with pytest.warns(UserWarning, match=r"torch: 2\.6\.0 in the folder, 2\.7\.0 now"):
            folder.warn_changes({"versions": {"logitkd": "0.1", "torch": "2.7.0"}, "source": {"student": {"net": "abc"}}})


def test_no_space(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.check_space(2**20)
        with pytest.raises(OSError, match=r"must have \d+ MiB free for checkpoints, got \d+ MiB"):
            folder.check_space(2**60)


def test_metrics_are_cut_back_to_what_the_checkpoint_knows(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.truncate_metrics(0)
        first, digest = folder.append_metrics({"epoch": 1})
        folder.append_metrics({"epoch": 2})
        with folder.metrics.open("a") as file:
            file.write('{"epo')
        folder.truncate_metrics(first, digest)
        folder.append_metrics({"epoch": 2})
        assert [json.loads(line) for line in folder.metrics.read_text().splitlines()] == [{"epoch": 1}, {"epoch": 2}]
        with pytest.raises(ValueError, match="changed by hand"):
            folder.truncate_metrics(1000)


def test_metrics_of_the_same_length_and_other_content(tmp_path):
    with RunFolder(tmp_path) as folder:
        size, digest = folder.append_metrics({"epoch": 1, "top1": 61.5})
        folder.metrics.write_text(folder.metrics.read_text().replace("61.5", "91.5"))
        folder.truncate_metrics(size)  # as an earlier version remembers it
        with pytest.raises(ValueError, match=r"must begin with the \d+ bytes that the checkpoint remembers, got others"):
            folder.truncate_metrics(size, digest)


@pytest.fixture
def finished(teacher_folder, tmp_path):
    """A copy of a finished run that a test may spoil."""
    shutil.copytree(teacher_folder, tmp_path / "finished")
    return tmp_path / "finished"


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replaced(path):
    torch.manual_seed(5)
    save_file(build_model("cifar_resnet8", 10).state_dict(), path)


def not_a_number(path):
    save_file({name: tensor * float("nan") for name, tensor in load_file(path).items()}, path)


@pytest.mark.parametrize("damage", [truncated, flipped, replaced, not_a_number])
def test_whoever_reads_a_student_checks_that_the_run_wrote_it(finished, tiny, damage):
    config = TrainConfig(**replace_networks(read_run(finished)["run"], output=str(finished)))
    assert train(config).resumed_finished
    first = (finished / "student.safetensors").read_bytes()
    damage(finished / "student.safetensors")
    readers = [
        lambda: train(config),
        lambda: evaluate(finished, latency=False),
        lambda: evaluate(ModelConfig("cifar_resnet8", str(finished / "student.safetensors")), config.data, latency=False),
        lambda: export(finished, formats=["safetensors"]),
        lambda: train(tiny(teacher=ModelConfig("cifar_resnet8", checkpoint=str(finished)))),
    ]
    for read in readers:
        with pytest.raises(ValueError, match=r"student\.safetensors is not what the run wrote.* delete it and give the"):
            read()
    (finished / "student.safetensors").unlink()  # what the message says
    train(config)
    assert (finished / "student.safetensors").read_bytes() == first


def replace_networks(run, **changes):
    """The arguments of a run's configuration, from what config.yaml says of it."""
    kinds = {
        "student": ModelConfig,
        "data": DataConfig,
        "optim": OptimConfig,
        "schedule": ScheduleConfig,
        "stones": StonesConfig,
    }
    return {key: kinds[key](**value) if key in kinds else value for key, value in run.items()} | changes


def test_a_result_of_an_earlier_version_has_no_hash(finished):
    before = json.loads((finished / "result.json").read_text())
    digest = before.pop("student_sha256")
    assert digest == hashlib.sha256((finished / "student.safetensors").read_bytes()).hexdigest()
    (finished / "result.json").write_text(json.dumps(before))
    with pytest.warns(UserWarning, match="holds no hash of its student"):
        assert evaluate(finished, latency=False)["top1"] == before["top1"]
