"""The demo at a fraction of its length, twice: the second time everything is there already."""

import re
import warnings
from pathlib import Path

import pytest

from logitkd import RunResult
from logitkd.cli import demo, main
from logitkd.cli.demo import METHODS, run_demo
from logitkd.runs.settings import SettingsError


def test_options_that_no_run_can_have_are_refused_before_the_first(tmp_path):
    with pytest.raises(SettingsError) as caught:
        run_demo(tmp_path / "demo", seed=-1, epochs=0)
    assert [problem.split("`")[1] for problem in caught.value.problems] == ["epochs", "seed"]
    assert not (tmp_path / "demo").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path, capsys):
    """Whether beside where the runs would be, or in their place."""
    for name, message in (
        ("thesis.tex", "must be a new folder or an earlier demo's, but {} holds thesis.tex, which no demo wrote."),
        ("kd/thesis.tex", "must be a new folder or a run's folder, but {}/kd holds thesis.tex and no config.yaml."),
        ("teacher", "`output` must be a folder, but {}/teacher is a file."),
    ):
        folder = tmp_path / name.replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
        assert main(["demo", "--output", str(folder)]) == 1
        said = capsys.readouterr()
        assert message.format(folder) in said.err
        assert said.out == ""
        with pytest.raises(OSError, match="`output` must be a"):
            run_demo(folder, methods=["kd"])
        assert [path for path in folder.rglob("*") if path.is_file()] == [folder / name]


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
    assert first.err.count("the teacher's own top-1 on test (500 images): ") == 1

    (folder / "notes.txt").touch()  # beside a demo's runs: a demo's folder all the same
    assert main(["demo", "--epochs", "1"]) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert second.err.count("trained earlier") == 1 + len(METHODS)
    assert second.err.count("finished: nothing to train") == 1


def test_what_every_student_would_say_is_said_once(tmp_path, monkeypatch, capsys):
    """Notes and warnings; what only one of them says is said."""

    def trained(config, *, display):
        Path(config.output).mkdir(parents=True)
        warnings.warn("the rate is high", stacklevel=1)
        warnings.warn(f"this is {config.method}", stacklevel=1)
        display.note("what all say")
        display.note(f"{config.output} is where this run is")
        display.note(f"only {config.method}")
        return RunResult(Path(config.output), "top1", {"top1": 1.0}, {}, 0.0, 1)

    monkeypatch.setattr(demo, "train", trained)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run_demo(tmp_path / "demo", methods=["kd", "dkd"], quiet=True, epochs=1)
    assert sorted(str(one.message) for one in seen) == ["the rate is high", "this is ce", "this is dkd", "this is kd"]
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("what all say") == said.count("is where this run is") == 1
    assert all(f"only {method}" in said for method in ("ce", "kd", "dkd"))
