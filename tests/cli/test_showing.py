"""`logitkd show`: what it writes is what show() writes."""

from __future__ import annotations

import pytest

from logitkd import show
from logitkd.cli import main


def test_the_command_writes_the_same_page(mask_run, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["show", str(mask_run), "--count", "2", "--output", str(page), "--device", "cpu"]) == 0
    said = capsys.readouterr()
    same = show(mask_run, tmp_path / "same.html", count=2, device="cpu")
    assert said.out == f"{page}: 2 examples. {same.summary}.\n"
    assert page.read_text() == same.path.read_text()


def test_flags_name_another_teacher_and_other_data(mask_run, tmp_path, capsys):
    words = ["show", str(mask_run), "--count", "1", "--output", str(tmp_path / "page.html"), "--device", "cpu"]
    assert main([*words, "--teacher", str(mask_run), "--data.eval_split", "train"]) == 0
    student, _, teacher = capsys.readouterr().out.partition(": 1 examples. student: ")[2].rstrip(".\n").partition("; teacher: ")
    assert student == teacher != ""
    assert "split train" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "one run folder must be given: `logitkd show RUN`, got none."),
        (["a", "b"], 2, "one run folder must be given: `logitkd show RUN`, got a b."),
        (["gone"], 2, "`gone` must be a run folder, but there is no config.yaml in it."),
        (["RUN", "--count", "0"], 2, "`count` must be at least 1, got 0."),
        (["RUN", "--model", "x"], 2, "unknown option `--model`"),
    ],
)
def test_usage_errors(mask_run, words, code, message, capsys):
    assert main(["show", *(str(mask_run) if word == "RUN" else word for word in words)]) == code
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


def test_a_run_with_nothing_to_show(teacher_folder, capsys):
    assert main(["show", str(teacher_folder)]) == 1
    assert "must be given a run of the task segmentation, got one of `images`: nothing to draw." in capsys.readouterr().err
