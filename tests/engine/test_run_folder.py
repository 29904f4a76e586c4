import json
import multiprocessing
import os
from pathlib import Path

import pytest
import yaml

from logitkd.engine.run_folder import RunFolder, read_result, read_run

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


@pytest.mark.parametrize("text", ['{"top1": 3', "[]", '{"top1": 3}', "\xff"])
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


def hold(path):
    RunFolder(path).__enter__()
    os._exit(0)  # no clean-up, as after a kill


def test_a_dead_process_holds_no_lock(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path / "run",))
    process.start()
    process.join()
    assert (tmp_path / "run" / ".lock").exists()
    with RunFolder(tmp_path / "run"):
        pass


def test_leftovers_are_deleted(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(RECORD))
    for name in ("config.yaml", "result.json", "student.safetensors", "checkpoint/state.safetensors"):
        (tmp_path / f"{name}.new").write_text("half")
    (tmp_path / "notes.new").write_text("mine")
    with RunFolder(tmp_path):
        assert sorted(p.name for p in tmp_path.rglob("*")) == [".lock", "checkpoint", "config.yaml", "notes.new"]


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
            folder.warn_versions({"logitkd": "0.1", "torch": "2.7.0"})


def test_no_space(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.check_space(2**20)
        with pytest.raises(OSError, match=r"must have \d+ MiB free for checkpoints, got \d+ MiB"):
            folder.check_space(2**60)


def test_metrics_are_cut_back_to_what_the_checkpoint_knows(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.truncate_metrics(0)
        first = folder.append_metrics({"epoch": 1})
        folder.append_metrics({"epoch": 2})
        with folder.metrics.open("a") as file:
            file.write('{"epo')
        folder.truncate_metrics(first)
        folder.append_metrics({"epoch": 2})
        assert [json.loads(line) for line in folder.metrics.read_text().splitlines()] == [{"epoch": 1}, {"epoch": 2}]
        with pytest.raises(ValueError, match="changed by hand"):
            folder.truncate_metrics(1000)
