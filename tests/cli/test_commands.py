"""``logitkd eval`` on run folders that are not as a run left them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from logitkd import ModelConfig, TrainConfig, evaluate, train
from logitkd.cli import main
from logitkd.data import DataConfig
from network_folders import timm_folder

DIGITS = DataConfig(crop_padding=1, flip=False, train_per_class=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run with a teacher."""
    home = tmp_path_factory.mktemp("runs")
    config = TrainConfig(
        ModelConfig("cifar_resnet8"), method="ce", data=DIGITS, epochs=1, output=str(home / "teacher"), quiet=True
    )
    train(config)
    teacher = ModelConfig("cifar_resnet8", str(home / "teacher"))
    student = TrainConfig(
        ModelConfig("cifar_resnet8"), teacher=teacher, data=DIGITS, epochs=1, seed=1, output=str(home / "kd"), quiet=True,
        method_options={"warmup_epochs": 0},
    )  # fmt: skip
    train(student)
    return home / "kd"


def test_eval_measures_agreement_with_the_recorded_teacher(folder, capsys):
    assert main(["eval", str(folder), "--device", "cpu"]) == 0
    header, row = capsys.readouterr().out.splitlines()[:2]
    assert header.endswith("agreement   ECE  teacher top-1")
    assert row.split()[6] != "-"
    own = json.loads((folder.parent / "teacher" / "result.json").read_text())["top1"]
    assert row.split()[-1] == f"{own:.2f}"
    assert json.loads((folder / "result.json").read_text())["teacher_top1"] == own
    assert main(["eval", str(folder.parent / "teacher"), "--device", "cpu", "--latency", "false"]) == 0
    assert "teacher top-1" not in capsys.readouterr().out


def test_eval_says_what_each_network_costs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)
    assert main(["eval", "kd", "teacher", "--device", "cpu"]) == 0
    tables, costs = capsys.readouterr().out.split("\n\n")
    assert len(tables.splitlines()) == 3
    title, header, *rows = [line.split() for line in costs.splitlines()]
    assert title[:3] == ["One", "image,", "float32,"]
    assert " ".join(header) == "network role parameters multiply-adds ms, batch 1 ms, batch 64"
    assert [row[:3] for row in rows] == [["cifar_resnet8", "student", "78,042"], ["cifar_resnet8", "teacher", "78,042"]]
    assert all(float(cell) > 0 for row in rows for cell in row[-2:])
    assert max(len(line) for line in costs.splitlines()) <= 100
    assert main(["eval", "kd", "--device", "cpu", "--latency", "false"]) == 0
    assert capsys.readouterr().out.splitlines()[4].split() == ["network", "role", "parameters", "multiply-adds"]


def test_eval_without_the_recorded_teacher(folder, capsys):
    """The student can be measured all the same."""
    teacher = folder.parent / "teacher"
    teacher.rename(folder.parent / "moved")
    try:
        assert main(["eval", str(folder), "--device", "cpu"]) == 0
    finally:
        (folder.parent / "moved").rename(teacher)
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split()[-2] == "-"
    assert f"no agreement, as its teacher's checkpoint {teacher} is not there" in said.err
    assert main(["eval", str(folder), "--teacher.checkpoint", "gone"]) == 2  # asked for: then it must be there


@pytest.mark.parametrize("text", ["name: my project\n", "- a\n", "a: ["])
def test_eval_of_another_programs_folder(tmp_path, capsys, text):
    (tmp_path / "config.yaml").write_text(text)
    assert main(["eval", str(tmp_path)]) == 2
    assert "config.yaml must be what a run wrote" in capsys.readouterr().err
    (tmp_path / "x.safetensors").touch()
    words = ["eval", str(tmp_path / "x.safetensors"), "--model", "cifar_resnet8", "--data.source", "digits"]
    assert main([*words, "--teacher.checkpoint", str(tmp_path)]) == 2
    assert "config.yaml must be what a run wrote" in capsys.readouterr().err


EVIL = """
import pathlib
from torch import nn
pathlib.Path(__file__).with_name("ran").touch()
def build(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))
"""

LAZY = """
plain, kept_out = build, False
def build(num_classes):
    global kept_out
    try:
        import lazily
    except ImportError:
        kept_out = True
    return plain(num_classes)
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A finished run from elsewhere that names code in its own folder; where one works when it is opened."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "evilnet.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path / "home")
    words = ["train", "--student", "evilnet:build", "--method", "ce", "--epochs", "1", "--data.train_per_class", "5", "--quiet"]
    assert main([*words, "--output", str(tmp_path / "run"), "--device", "cpu"]) == 0  # typed, so it is found where one works
    del sys.modules["evilnet"]
    (tmp_path / "home" / "evilnet.py").rename(tmp_path / "run" / "evilnet.py")
    (tmp_path / "home" / "ran").unlink()
    yield tmp_path / "run"
    sys.modules.pop("evilnet", None)


@pytest.mark.parametrize("words", [["eval", "."], ["export", ".", "--format", "safetensors"]], ids=["eval", "export"])
def test_a_run_folders_own_code_runs_only_if_it_is_trusted(foreign, monkeypatch, capsys, words):
    monkeypatch.chdir(foreign)
    before = sys.path[:]
    assert main(words) == 1
    assert "model `evilnet:build`, which the run folder . names, must be importable from elsewhere" in capsys.readouterr().err
    assert not (foreign / "ran").exists()
    assert not (foreign / "export").exists()
    assert main([*words, "--trust_code"]) == 0
    assert (foreign / "ran").exists()
    assert sys.path == before


def test_a_teacher_that_is_a_run_folder_is_not_trusted_either(foreign, folder, monkeypatch, capsys):
    monkeypatch.chdir(foreign)
    words = ["eval", str(folder), "--device", "cpu", "--latency", "false", "--teacher.checkpoint", "."]
    assert main(words) == 1
    assert "model `evilnet:build`, which the run folder . names" in capsys.readouterr().err
    assert not (foreign / "ran").exists()
    for teacher in (foreign, str(foreign)):
        with pytest.raises(ValueError, match="must be importable from elsewhere"):
            evaluate(folder, teacher=teacher, latency=False)
    assert main([*words, "--trust_code"]) == 0
    assert evaluate(folder, teacher=foreign, latency=False, trust_code=True)["agreement"] > 0


def test_ones_own_module_serves_a_run_folder_that_names_it(foreign, tmp_path, monkeypatch, capsys):
    """From where one works, which may hold the run folder; and where it is typed."""
    monkeypatch.chdir(foreign)
    words = ["eval", "student.safetensors", "--model", "evilnet:build", "--data.source", "digits", "--device", "cpu"]
    (foreign / "lazily.py").write_text(EVIL)
    with open(foreign / "evilnet.py", "a") as code:  # what is typed is the user's; what is imported later is not
        code.write(LAZY)
    assert main([*words, "--latency", "false"]) == 0
    assert sys.modules["evilnet"].kept_out
    del sys.modules["evilnet"]
    (foreign / "evilnet.py").rename(tmp_path / "evilnet.py")
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "run", "--device", "cpu", "--latency", "false"]) == 0
    assert (tmp_path / "ran").exists()


def test_no_library_is_taken_from_a_run_folder(foreign):
    """A file there with a library's name is on Python's path while one works there, whatever the network is."""
    record = yaml.safe_load((foreign / "config.yaml").read_text())
    record["run"]["student"]["name"] = "cifar_resnet8"
    (foreign / "config.yaml").write_text(yaml.safe_dump(record))
    for library in ("timm", "torchmetrics", "accelerate"):
        (foreign / f"{library}.py").write_text(EVIL)
    teacher = [
        "train",
        "--student",
        "cifar_resnet8",
        "--teacher",
        "cifar_resnet8",
        "--teacher.checkpoint",
        ".",
        "--output",
        "../a",
    ]
    command = [sys.executable, "-m", "logitkd"]
    begun = [
        subprocess.Popen([*command, *words], cwd=foreign, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for words in (["eval", "."], teacher)
    ]
    for process in begun:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 1
        assert "does not fit" in said  # the weights are another network's: it came so far
    assert not (foreign / "ran").exists()


def test_a_teacher_whose_result_is_damaged(folder, tmp_path, capsys):
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    for name in ("config.yaml", "student.safetensors"):
        (teacher / name).write_bytes((folder.parent / "teacher" / name).read_bytes())
    (teacher / "result.json").write_text('{"top1": 3')
    words = ["train", "--student", "cifar_resnet8", "--teacher", "cifar_resnet8", "--teacher.checkpoint", str(teacher)]
    assert main([*words, "--data.source", "digits", "--output", str(tmp_path / "run")]) == 1
    assert f"{Path(teacher) / 'result.json'} is damaged" in capsys.readouterr().err
    assert yaml.safe_load((teacher / "config.yaml").read_text())["run"]["epochs"] == 1


def test_two_teachers_and_a_label_map_on_the_command_line(folder, tmp_path, monkeypatch, capsys):
    """Train, and evaluate with what the run recorded and with other teachers."""
    monkeypatch.chdir(tmp_path)
    timm_folder(tmp_path / "net", 12)
    (tmp_path / "map.csv").write_text("teacher,student\n" + "".join(f"{i},{i % 10}\n" for i in range(12)))
    words = ["train", "--student", "cifar_resnet8", "--epochs", "1", "--method.warmup_epochs", "0", "--output", "run"]
    words += ["--data.train_per_class", "5", "--quiet", "--device", "cpu", "--teacher", "local-dir:net"]
    assert main(words) == 1
    assert "must have the data's classes, 10, or a label map: local-dir:net has 12" in capsys.readouterr().err
    others = f"[{{name: cifar_resnet8, checkpoint: {folder.parent / 'teacher'}}}]"
    assert main([*words, "--teacher.label_map", "map.csv", "--teacher.others", others]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines()[:2][0] == "teacher: local-dir:net"
    assert said.err.splitlines()[:2][1].startswith(f"teacher: cifar_resnet8 from {folder.parent / 'teacher'}, top-1")
    recorded = said.out.splitlines()[2].split()[-2]

    def agreement(*flags):
        assert main(["eval", "run", "--device", "cpu", "--latency", "false", *flags]) == 0
        return capsys.readouterr().out.splitlines()[1].split()[6]

    assert agreement() == recorded
    alone = agreement("--teacher", "local-dir:net", "--teacher.label_map", "map.csv")
    assert agreement("--teacher.others", "[]") == alone  # the rest as recorded
    (tmp_path / "map.csv").unlink()
    assert agreement() == "-"
