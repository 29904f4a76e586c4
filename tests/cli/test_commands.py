"""``logitkd eval`` on run folders that are not as a run left them."""

import json
from pathlib import Path

import pytest
import yaml

from logitkd.cli import main
from logitkd.data import DataConfig
from logitkd.engine import ModelConfig, TrainConfig, train
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
