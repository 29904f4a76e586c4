"""A run folder in a network's place: its student, in every role, planned and in Python."""

import json
from pathlib import Path

import pytest

from logitkd import DataConfig, ModelConfig, TeacherConfig, TeacherSource, TrainConfig, train
from logitkd.runs.of_run import is_run_folder
from logitkd.runs.plan import plan
from logitkd.runs.rules import checked
from logitkd.runs.settings import SettingsError


def run_folder(path, name="cifar_resnet8", finished=True, **student):
    """What is left of a run as far as its networks are looked up by it."""
    run = {"student": {"name": name, **student}, "data": {}}
    Path(path).mkdir(parents=True)
    (Path(path) / "config.yaml").write_text(json.dumps({"run": run, "method": {}, "versions": {"logitkd": "1"}}))
    if finished:
        (Path(path) / "student.safetensors").touch()
    return path


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def said(function, *args, **options):
    with pytest.raises(SettingsError) as caught:
        function(*args, **options)
    return caught.value.problems


def test_it_is_that_runs_student_in_every_role():
    run_folder("runs/a", "cifar_resnet20")
    run_folder("runs/b", "transformers:gone", layers=[1, 3])
    given = {"student": "runs/a", "teacher": "runs/a", "teacher.others": [{"name": "runs/a"}]}
    source = TeacherSource("cifar_resnet20", "runs/a")
    teacher = TeacherConfig("cifar_resnet20", "runs/a", others=(source,))
    expected = ModelConfig("cifar_resnet20", "runs/a"), teacher
    planned = plan(None, "kd", overrides=given)
    assert (planned.student, planned.teacher) == expected
    config = TrainConfig(ModelConfig("runs/a"), TeacherConfig("runs/a", others=(TeacherSource("runs/a"),)))
    assert checked(config) == checked(checked(config)) == checked(planned)
    assert (checked(config).student, checked(config).teacher) == expected


def test_a_recipe_may_name_one_and_a_flag_wins_over_it():
    run_folder("runs/a", "cifar_resnet20")
    Path("mine.yaml").write_text("student: cifar_resnet8\nteacher: runs/a\n")
    assert plan("mine.yaml", "kd").teacher == TeacherConfig("cifar_resnet20", "runs/a")
    Path("t.pt").touch()
    other = plan("mine.yaml", "kd", overrides={"teacher.name": "cifar_resnet56", "teacher.checkpoint": "t.pt"})
    assert other.teacher == TeacherConfig("cifar_resnet56", "t.pt")
    Path("runs/a/student.safetensors").unlink()
    assert said(plan, "mine.yaml", "kd") == [
        "`teacher` must be the folder of a finished run, but runs/a holds no student.safetensors. Finish it first."
    ]


def test_weights_given_beside_it_are_refused():
    run_folder("runs/a")
    Path("t.pt").touch()
    expected = "`teacher.checkpoint` must be left out where `teacher` is a run folder"
    given = {"student": "cifar_resnet8", "teacher": "runs/a", "teacher.checkpoint": "t.pt"}
    assert [line.startswith(expected) for line in said(plan, None, "kd", overrides=given)] == [True]
    config = TrainConfig(ModelConfig("cifar_resnet8"), TeacherConfig("runs/a", "t.pt"))
    assert [line.startswith(expected) for line in said(checked, config)] == [True]
    config = TrainConfig(ModelConfig("cifar_resnet8"), TeacherConfig("x", "t.pt", others=(TeacherSource("runs/a", "t.pt"),)))
    assert said(checked, config)[0].startswith("`teacher.others[0].checkpoint` must be left out")
    assert said(plan, None, "ce", overrides={"student": "runs/a", "student.layers": [0]})[0].startswith(
        "`student.layers` must be"
    )


def test_its_teacher_is_not_trained_again():
    run_folder("runs/a")
    assert said(plan, "digits", None, "teacher", {"teacher": "runs/a"}) == [
        "`teacher.checkpoint` does not go with `role: teacher`, which trains the teacher anew."
    ]


def test_a_folder_that_is_no_runs_and_one_that_is_not_finished():
    run_folder("runs/a", finished=False)
    run_folder("runs/b")
    Path("runs/b/config.yaml").write_text("{}")
    told = said(plan, None, "ce", overrides={"student": "runs/a"})
    assert told == ["`student` must be the folder of a finished run, but runs/a holds no student.safetensors. Finish it first."]
    told = said(checked, TrainConfig(ModelConfig("cifar_resnet8"), ModelConfig("runs/b")))
    assert told == ["runs/b/config.yaml must be what a run wrote, but it has no `run`."]


def test_a_name_without_a_slash_is_a_networks():
    run_folder("cifar_resnet8", "cifar_resnet56")
    assert not is_run_folder("cifar_resnet8")
    assert is_run_folder("./cifar_resnet8")
    assert plan(None, "ce", overrides={"student": "cifar_resnet8"}).student == ModelConfig("cifar_resnet8")
    assert not is_run_folder("runs/gone")
    config = TrainConfig(ModelConfig("runs/gone"), method="ce")
    given = {"student": "transformers:a/b", "student.layers": [1], "teacher": "runs/gone"}
    told = ["`teacher` must be a network's name or a run folder, but there is no runs/gone/config.yaml."]
    assert said(plan, None, "kd", overrides=given) == told
    assert said(checked, config) == [
        "`student` must be a network's name or a run folder, but there is no runs/gone/config.yaml."
    ]
    Path("runs/gone").mkdir(parents=True)
    Path("runs/gone/config.json").write_text("{}")
    (told,) = said(checked, config)
    assert told.endswith("config.yaml. Give what `save_pretrained` wrote as `transformers:runs/gone`.")


def test_code_that_lies_in_it_is_not_run():
    run_folder("runs/a", "evil_net:Net")
    Path("runs/a/evil_net.py").write_text("raise SystemExit('run')")
    (told,) = said(plan, None, "ce", overrides={"student": "runs/a"})
    assert "must be importable from elsewhere" in told


def test_training_goes_on_from_one_and_learns_from_one(teacher_folder):
    data = DataConfig(crop_padding=1, flip=False, train_per_class=5)
    name = str(teacher_folder)
    config = TrainConfig(ModelConfig(name), ModelConfig(name), data=data, epochs=1, output="out", quiet=True)
    result = train(config)
    assert result.metrics["agreement"] > 50
    recorded = Path("out/config.yaml").read_text()
    assert "name: cifar_resnet8" in recorded
    assert f"checkpoint: {name}" in recorded
    assert train(config).resumed_finished
