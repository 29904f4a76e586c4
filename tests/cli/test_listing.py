"""What `logitkd list` shows: every method, the options of one, recipes, networks."""

import re

import pytest

from logitkd import methods
from logitkd.cli import main


def test_list_shows_every_method_on_a_line_of_its_own(capsys):
    assert main(["list"]) == 0
    table, notes = capsys.readouterr().out.split("\n\n")
    header, *lines = table.splitlines()
    assert header.split() == ["method", "what", "it", "matches", "labels", "reads", "CE", "KD", "warm-up"]
    rows = {line.split()[0]: line for line in lines}
    assert list(rows) == methods.names()
    assert rows["dkd"].split()[-5:] == ["needed", "logits", "1", "1", "20"]
    assert rows["gdkd"].split()[-5:] == ["optional", "logits", "1", "1", "20"]
    assert rows["icd-kd"].split()[-5:] == ["optional", "regions", "0.1", "0.9", "0"]
    assert rows["block-dkd"].split()[-5:] == ["needed", "blocks", "0", "1", "0"]
    assert rows["ce"].split()[-5:] == ["needed", "-", "1", "-", "-"]
    assert all(methods.get(name).summary in row for name, row in rows.items())
    assert "Tasks: images, segmentation, text (`train --task NAME`)." in notes
    assert max(map(len, [header, *lines, *notes.splitlines()])) <= 100


@pytest.mark.parametrize(("columns", "rows"), [(100, 1), (80, None)])
def test_list_fits_a_terminal_with_nothing_cut_off(columns, rows, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["list"]) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    table = text.split("\n\n")[0].splitlines()
    assert max(map(len, table)) <= columns
    assert "…" not in text
    if rows:
        assert len(table) == rows + len(methods.names())


@pytest.mark.parametrize("words", [[], ["recipes"], ["models"], *[[name] for name in methods.names()]], ids=" ".join)
def test_every_list_fits_100_columns_in_a_pipe(words, capsys):
    assert main(["list", *words]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_list_of_one_method_explains_every_option(capsys):
    for name in methods.names():
        assert main(["list", name]) == 0
        about, options = capsys.readouterr().out.split("meaning\n")
        assert methods.get(name).paper in about
        options = [line for line in options.splitlines() if not line.startswith(" ")]  # else a meaning goes on
        assert [line.split()[0] for line in options] == [f"--method.{option}" for option in methods.get(name).options]
        assert all(len(line.split()) > 3 for line in options), f"an option of {name} has no meaning"


def test_list_recipes_and_models(capsys):
    assert main(["list", "recipes"]) == 0
    assert "logitkd train cifar100/vgg13-vgg8 --method dkd" in capsys.readouterr().out
    assert main(["list", "models"]) == 0
    assert "cifar_resnet8x4" in capsys.readouterr().out
    assert main(["list", "models", "convnext_atto"]) == 0
    assert "convnext_atto" in capsys.readouterr().out.splitlines()
    assert main(["list", "models", "lraspp"]) == 0
    assert capsys.readouterr().out.splitlines() == ["torchvision:lraspp_mobilenet_v3_large"]
