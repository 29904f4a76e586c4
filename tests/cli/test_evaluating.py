"""`logitkd eval` of runs on text; of images see test_commands.py."""

import shutil

from logitkd.cli import main
from text_folders import write_csv


def test_costs_are_by_length(text_run, capsys):
    assert main(["eval", str(text_run), "--device", "cpu"]) == 0
    scores, costs = capsys.readouterr().out.split("\n\n")
    assert scores.splitlines()[0].split()[-2:] == ["teacher", "top-1"]
    title, header, *rows = costs.splitlines()
    assert title == "One text, float32, CPU, 1 thread:"
    assert " ".join(header.split()) == "network role parameters size multiply-adds ms, batch 1 ms, batch 64"
    assert [row.split()[1:5] for row in rows if "student" in row] == [
        ["student", "6,179", "16", "tokens"],
        ["student", "6,179", "64", "tokens"],
    ]
    assert len(rows) == 4


def test_flags_are_those_of_the_runs_task(text_run, tmp_path, capsys):
    write_csv(tmp_path / "other", test=9)
    words = ["--data.source", str(tmp_path / "other"), "--data.max_length", "8", "--latency", "false", "--device", "cpu"]
    assert main(["eval", str(text_run), *words]) == 0
    assert "other test (9)" in capsys.readouterr().out
    assert main(["eval", str(text_run), "--data.image_size", "32"]) == 2
    assert "unknown option `--data.image_size`" in capsys.readouterr().err
    assert main(["eval", str(text_run), "--task", "images"]) == 2
    assert "`--task` must be left out, or what" in capsys.readouterr().err
    assert main(["eval", str(text_run), "--help"]) == 0
    assert "--data.max_length" in capsys.readouterr().out


def test_a_checkpoint_file(text_run, tmp_path, capsys):
    """Beside its network's folder it needs no run."""
    shutil.copytree(text_run / "network", tmp_path / "net")
    shutil.copy(text_run / "student.safetensors", tmp_path / "weights.safetensors")
    words = ["eval", str(tmp_path / "weights.safetensors"), "--model", f"transformers:{tmp_path / 'net'}", "--latency", "false"]
    data = ["--data.source", str(text_run.parent / "data"), "--data.max_length", "24"]
    assert main([*words, "--task", "text", *data, "--device", "cpu"]) == 0
    assert "test (30)" in capsys.readouterr().out
    assert main([*words, "--task", "txt", "--data.source", "x"]) == 2
    assert "unknown task `txt`. Did you mean `text`?" in capsys.readouterr().err
