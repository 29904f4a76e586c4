"""The demo at a fraction of its length, twice: the second time everything is there already."""

import re

import pytest

from logitkd.cli import main
from logitkd.cli.demo import METHODS, run_demo
from logitkd.cli.flags import UsageError


def test_options_that_no_run_can_have_are_refused_before_the_first(tmp_path):
    with pytest.raises(UsageError) as caught:
        run_demo(tmp_path / "demo", seed=-1, epochs=0)
    assert [problem.split("`")[1] for problem in caught.value.problems] == ["epochs", "seed"]
    assert not (tmp_path / "demo").exists()


def test_demo_trains_all_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--epochs", "1"]) == 0
    first = capsys.readouterr()
    folder = tmp_path / "runs/demo-seed0-epochs1"
    assert sorted(path.name for path in folder.iterdir()) == sorted(["teacher", *METHODS])
    assert all((folder / name / "student.safetensors").exists() for name in METHODS)

    rows = [line for line in first.out.splitlines() if re.search(r"\d\d,\d\d\d +\d+\.\d$", line)]
    assert [row.split()[0] for row in rows] == ["teacher", "student", *METHODS[1:]]
    for row in rows[1:]:
        accuracy, agreement, parameters = row.split()[-4:-1]
        assert 0 <= float(accuracy) <= 100
        assert 0 <= float(agreement) <= 100
        assert parameters == "78,042"
    assert "on 500 test scans" in first.out
    assert "runs/demo-seed0-epochs1/teacher" in first.out
    assert first.out.splitlines()[-1].startswith("Next, your own images: `logitkd train")

    assert main(["demo", "--epochs", "1"]) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert second.err.count("trained earlier") == 1 + len(METHODS)
