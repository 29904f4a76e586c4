"""What `logitkd train` prints when it is done: the scores of student and teacher, the gain, the command to give next."""

import contextlib
import io
import json
import shlex
import shutil

import pytest
import yaml

from logitkd.cli import main
from logitkd.cli.outcome import student_alone
from scenes import write_scenes

SHORT = ["--data.train_per_class", "10", "--device", "cpu", "--quiet"]


def next_commands(said):
    """Return the words of each command that is proposed at the end, without `logitkd`."""
    lines = said.splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith("next: "))
    assert all(line.startswith("      logitkd ") for line in lines[start + 1 :])
    return [shlex.split(line[len("next: ") :])[1:] for line in lines[start:]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A teacher of the recipe `digits` and its student, trained by the command that training the teacher proposed."""
    home = tmp_path_factory.mktemp("home")
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        words = ["train", "digits", "--role", "teacher", "--epochs", "2", *SHORT]
        for name in ("teacher", "kd"):
            with contextlib.redirect_stdout(io.StringIO()) as text:
                assert main(words) == 0
            said[name] = text.getvalue()
            if name == "teacher":
                (words,) = next_commands(said[name])
                assert words[:4] == ["train", "digits", "--method", "kd"]
                assert words[-4:] == ["--data.train_per_class", "10", "--device", "cpu"]  # as the teacher's, but for its epochs
                words += ["--epochs", "1", "--quiet", "--output", "runs/digits/kd-seed0"]
    return home, said


def train(home, monkeypatch, capsys, *flags):
    monkeypatch.chdir(home)
    assert main(["train", "digits", *SHORT, *flags]) == 0
    return capsys.readouterr().out


def test_the_teachers_own_score_stands_below_the_students(runs):
    home, said = runs
    result = json.loads((home / "runs/digits/kd-seed0/result.json").read_text())
    title, header, student, teacher, *_ = said["kd"].splitlines()
    assert title == "runs/digits/kd-seed0: cifar_resnet8, kd, seed 0, 1 epoch"
    assert header.split() == ["top-1", "top-5", "agreement", "ECE"]
    assert student.split()[:3] == ["last", "epoch", f"{result['top1']:.2f}"]
    assert teacher.split() == ["its", "teacher", f"{result['teacher_top1']:.2f}", "-", "-", "-"]
    assert "its teacher" not in said["teacher"]
    assert "gain" not in said["kd"]


def test_the_commands_proposed_are_evaluation_and_export(runs, monkeypatch, capsys):
    home, said = runs
    monkeypatch.chdir(home)
    commands = next_commands(said["kd"])
    assert [words[0] for words in commands] == ["eval", "export"]
    assert main([*commands[0], "--latency", "false"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("runs/digits/kd-seed0 ")
    assert main([*commands[1], "--format", "safetensors"]) == 0


def test_the_gain_over_the_same_student_alone(runs, monkeypatch, capsys):
    home, _ = runs
    assert "gain" not in train(home, monkeypatch, capsys, "--method", "ce", "--epochs", "2")  # other epochs, and no teacher
    (teacher,) = home.glob("runs/digits/cifar_resnet20/*")
    kd = ("--epochs", "1", "--output", "runs/digits/kd-seed0", "--teacher.checkpoint", str(teacher.relative_to(home)))
    assert "gain" not in train(home, monkeypatch, capsys, *kd)
    alone = train(home, monkeypatch, capsys, "--method", "ce", "--epochs", "1", "--output", "runs/digits/alone")
    assert "gain" not in alone
    again = train(home, monkeypatch, capsys, *kd)
    ours, theirs = (
        json.loads((home / f"runs/digits/{name}/result.json").read_text())["top1"] for name in ("kd-seed0", "alone")
    )
    assert f"gain over the student alone (runs/digits/alone, top-1 {theirs:.2f}): {ours - theirs:+.2f}\n" in again


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run.student.name", "cifar_resnet14"),
        ("run.seed", 1),
        ("run.epochs", 2),
        ("run.batch_size", 16),
        ("run.data.flip", True),
        ("run.mixup", 0.2),
        ("data.fingerprint", "0" * 32),
        ("run.optim.lr", 0.123),  # a recipe may set it for a method: the same student all the same
        ("run.data.workers", 3),
    ],
)
def test_another_run_is_not_the_student_alone(runs, tmp_path, key, value):
    """Each difference but what may differ hides the gain."""
    record = yaml.safe_load((runs[0] / "runs/digits/kd-seed0/config.yaml").read_text())
    for name, method in (("run", "kd"), ("alone", "ce")):
        (tmp_path / name).mkdir()
        changed = json.loads(json.dumps(record))
        changed["run"]["method"] = changed["method"]["name"] = method
        result = {"top1": 50.0, "metrics": {}, "best": {}, "seconds": 0, "parameters": 1, "method": method, "seed": 0}
        if name == "alone":
            *path, last = key.split(".")
            inner = changed
            for part in path:
                inner = inner[part]
            assert inner[last] != value
            inner[last] = value
            result["seed"] = changed["run"]["seed"]
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(changed))
        (tmp_path / name / "result.json").write_text(json.dumps(result))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/config.yaml").write_text("a: [")
    (tmp_path / "damaged/result.json").write_text('{"top1"')
    may_differ = key in ("run.optim.lr", "run.data.workers")
    assert student_alone(tmp_path / "run") == ((tmp_path / "alone", 50.0) if may_differ else None)
    assert student_alone(tmp_path / "alone") is None
    shutil.rmtree(tmp_path / "alone")
    assert student_alone(tmp_path / "run") is None


def test_a_run_of_segmentation_shows_its_own_scores_and_each_class(tmp_path, monkeypatch, capsys):
    write_scenes(tmp_path / "scenes", {"train": 4, "val": 2})
    monkeypatch.chdir(tmp_path)
    words = [
        "--task",
        "segmentation",
        "--data.source",
        "scenes",
        "--data.classes",
        "[ground, disc, bar]",
        "--data.workers",
        "0",
    ]
    words += ["--student", "dense_networks:build", "--epochs", "1", "--batch_size", "4", "--device", "cpu", "--quiet"]
    assert main(["train", *words, "--method", "ce", "--output", "runs/teacher"]) == 0
    capsys.readouterr()
    assert main(["train", *words, "--method", "kd", "--teacher", "runs/teacher", "--output", "runs/kd"]) == 0
    result = json.loads((tmp_path / "runs/kd/result.json").read_text())
    said = capsys.readouterr()
    assert f"teacher: dense_networks:build from runs/teacher, mIoU {result['teacher_miou']:.2f} on scenes" in said.err
    _, header, student, teacher, blank, classes, *rows = said.out.splitlines()
    assert header.split() == ["mIoU", "pixel", "accuracy", "agreement"]
    assert student.split()[2:] == [f"{result['metrics'][key]:.2f}" for key in ("miou", "pixel_accuracy", "agreement")]
    assert teacher.split() == ["its", "teacher", f"{result['teacher_miou']:.2f}", "-", "-"]
    assert (blank, classes.split()) == ("", ["iou", "of", "last", "epoch"])
    assert rows[0].split() == ["ground", f"{result['metrics']['iou/ground']:.2f}"]
    assert main(["eval", "runs/kd", "runs/teacher", "--device", "cpu", "--latency", "false"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["student", "data", "mIoU", "pixel", "accuracy", "agreement", "teacher", "mIoU"]
    assert next(line for line in lines if line.startswith("iou of")).split() == ["iou", "of", "runs/kd", "runs/teacher"]
