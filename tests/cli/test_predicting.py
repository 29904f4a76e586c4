"""`logitkd predict`: what it prints is what predict() returns, in two formats that other programs read back."""

import csv
import io
import json
import sys

import pytest

from image_files import pixels, png
from logitkd import predict
from logitkd.cli import main


@pytest.fixture
def files(tmp_path):
    """Images of the digits' size, one with a name that CSV has to quote."""
    names = ["b.png", 'a, "b".png', "ü.png"]
    for row, name in enumerate(names):
        (tmp_path / name).write_bytes(png(pixels(row, 8, 8)))
    return [str(tmp_path / name) for name in names]


def test_csv_has_a_line_a_class_and_quotes_names(teacher_folder, files, capsys):
    assert main(["predict", str(teacher_folder), *files, "--top", "2", "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    rows = list(csv.DictReader(io.StringIO(said.out)))
    found = predict(teacher_folder, files, top=2)
    assert [(row["file"], row["rank"], row["class"]) for row in rows] == [
        (one.file, str(rank), one.classes[rank - 1]) for one in found for rank in (1, 2)
    ]
    shares = [share for one in found for share in one.probabilities]
    assert [float(row["probability"]) for row in rows] == pytest.approx(shares, rel=1e-5)
    assert said.out.splitlines()[0] == "file,rank,class,probability"


def test_json_has_an_object_a_line(teacher_folder, files, capsys):
    assert main(["predict", str(teacher_folder), files[1], files[0], "--format", "json", "--top", "10"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == [files[1], files[0]]
    assert [tuple(line["classes"]) for line in lines] == [
        one.classes for one in predict(teacher_folder, [files[1], files[0]], top=10)
    ]
    assert all(sum(line["probabilities"]) == pytest.approx(1, abs=1e-5) for line in lines)


def test_a_file_that_cannot_be_read_leaves_nothing_printed(teacher_folder, files, tmp_path, capsys):
    (tmp_path / "large.png").write_bytes(png(pixels(0, 16, 8)))
    assert main(["predict", str(teacher_folder), *files, str(tmp_path / "large.png"), "gone.png"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "large.png must be 8x8 pixels (height x width), the size that the run was trained on, got 16x8." in said.err
    assert "gone.png" in said.err


def test_code_in_the_run_folder_runs_only_if_it_is_trusted(tmp_path, files, monkeypatch, capsys):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/foreign_net.py").write_text(
        "from torch import nn\ndef build(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path / "home")
    words = [
        "train",
        "--student",
        "foreign_net:build",
        "--method",
        "ce",
        "--epochs",
        "1",
        "--data.train_per_class",
        "5",
        "--quiet",
    ]
    assert main([*words, "--output", str(tmp_path / "run"), "--device", "cpu"]) == 0
    sys.modules.pop("foreign_net")
    (tmp_path / "home/foreign_net.py").rename(tmp_path / "run/foreign_net.py")
    monkeypatch.chdir(tmp_path / "run")
    capsys.readouterr()
    assert main(["predict", ".", *files]) == 1
    assert "must be importable from elsewhere" in capsys.readouterr().err
    assert "foreign_net" not in sys.modules
    assert main(["predict", ".", *files, "--trust_code"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(files)
    sys.modules.pop("foreign_net")


def test_texts_are_named_by_file_and_row(text_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.txt").write_text("the card")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"my loan\nhigh rate\n")))
    assert main(["predict", str(text_run), str(tmp_path / "a.txt"), "-", "--top", "2", "--device", "cpu"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["file"], row["row"], row["rank"]) for row in rows] == [
        (file, row, rank) for file, row in ((str(tmp_path / "a.txt"), ""), ("-", "0"), ("-", "1")) for rank in ("1", "2")
    ]
    found = predict(text_run, texts=["the card", "my loan", "high rate"], top=2)
    assert [row["class"] for row in rows] == [name for one in found for name in one.classes]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"my loan\n")))
    assert main(["predict", str(text_run), "-", "--format", "json", "--device", "cpu"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["file"], line["row"], line["classes"]) == ("-", 0, list(found[1].classes[:1]))


def test_masks_have_a_line_an_image(mask_run, tmp_path, capsys):
    images = mask_run.parent / "scenes/images/val"
    words = ["predict", str(mask_run), str(images), "--device", "cpu"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["file"] for row in rows] == sorted(map(str, images.iterdir()))
    assert [row["mask"] for row in rows] == sorted(map(str, (tmp_path / "out").iterdir()))
    assert list(rows[0]) == ["file", "mask", "share of ground", "share of disc", "share of bar"]
    assert all(sum(float(row[f"share of {name}"]) for name in ("ground", "disc", "bar")) == pytest.approx(1) for row in rows)
    assert main([*words, "--output", str(tmp_path / "more"), "--format", "json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == [row["file"] for row in rows]
    assert set(lines[0]["shares"]) == {"ground", "disc", "bar"}
    assert main(words) == 1
    assert "`output` must be given for a run on masks" in capsys.readouterr().err
    assert main([*words, "--output", str(tmp_path / "out")]) == 1
    assert "already, perhaps corrected by hand" in capsys.readouterr().err
