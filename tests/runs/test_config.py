"""The settings of a run: ordinary dataclasses that load no torch."""

import copy
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

from logitkd import ModelConfig, OptimConfig, ScheduleConfig, TrainConfig, tasks
from logitkd.cli.commands import page, planned
from logitkd.data.config import DataConfig
from logitkd.runs.config import run_settings, warmup_length
from logitkd.runs.naming import default_folder
from logitkd.runs.plan import plan
from logitkd.runs.rules import checked, resolve_method
from logitkd.runs.settings import SettingsError
from toy_task import PaceConfig, VectorTask

GOOD = TrainConfig(ModelConfig("cifar_resnet8"), ModelConfig("cifar_resnet20"), data=DataConfig(mean=[0.5] * 3))


def test_they_are_made_unchecked_copied_and_pickled_as_any_dataclass():
    assert replace(GOOD, epochs="abc").epochs == "abc"  # checked when a run is planned or begun
    assert copy.deepcopy(GOOD) == pickle.loads(pickle.dumps(GOOD)) == GOOD
    with pytest.raises(FrozenInstanceError):
        GOOD.epochs = 3


@pytest.mark.parametrize(
    "names",
    ["runs.config", "runs.networks", "runs.folder", "runs.settings", "runs.values", "data.config", "tasks", "cli.commands"],
)
def test_they_load_no_torch(names):
    code = f"import sys, logitkd.{names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_a_warmup_is_a_whole_number_of_epochs():
    assert warmup_length(ScheduleConfig(warmup=0.0833), 240) == 20
    assert OptimConfig().lr == 0.05


STUDENT = ModelConfig("toy_task:Perceptron")
ADAMW = OptimConfig("adamw", 2e-3, clip_grad=1.0)
LINEAR = ScheduleConfig("linear", warmup=0.1)


@pytest.fixture
def pace(monkeypatch, tmp_path):
    """A task with defaults of its own for how its students are trained."""
    monkeypatch.setattr(tasks, "_TABLE", dict(tasks._TABLE))
    monkeypatch.chdir(tmp_path)
    tasks.register("pace", VectorTask, PaceConfig)
    return {"task": "pace", "student": "toy_task:Perceptron", "method": "ce"}


def test_how_a_student_is_trained_is_its_tasks_to_say(pace):
    config = TrainConfig(STUDENT, task="pace", method="ce", data=PaceConfig())
    assert (config.optim, config.schedule, config.epochs, config.batch_size) == (ADAMW, LINEAR, 3, 30)
    assert checked(config) == config == plan(None, "ce", overrides={"task": "pace", "student": "toy_task:Perceptron"})
    assert pickle.loads(pickle.dumps(config)) == config
    images = TrainConfig(STUDENT)
    assert (images.optim, images.schedule) == (OptimConfig(), ScheduleConfig())
    assert (images.epochs, images.batch_size, images.optim.lr, images.schedule.name) == (240, 64, 0.05, "multistep")


def test_what_is_changed_leaves_the_tasks_other_defaults(pace):
    given = {"task": "pace", "student": "toy_task:Perceptron", "optim.lr": 1e-4, "epochs": 5}
    config = plan(None, "ce", overrides=given)
    assert (config.optim, config.schedule, config.epochs, config.batch_size) == (replace(ADAMW, lr=1e-4), LINEAR, 5, 30)
    in_python = TrainConfig(STUDENT, task="pace", method="ce", data=PaceConfig(), optim=OptimConfig(lr=1e-4), epochs=5)
    assert in_python == config == checked(in_python)
    flags = "--task pace --student toy_task:Perceptron --method ce --optim.lr 1e-4 --epochs 5"
    assert planned(flags.split()) == config
    assert default_folder(config).name == "ce-lr0.0001-epochs5-seed0"
    plain = TrainConfig(STUDENT, task="pace", data=PaceConfig(), optim=OptimConfig("sgd", 0.05, clip_grad=None))
    assert plain.optim == OptimConfig()  # given all the same


def test_a_recipe_wins_over_the_task(pace, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("task: pace\nstudent: toy_task:Perceptron\nmethod: ce\noptim: {weight_decay: 0.1}\nschedule: cosine\n")
    config = plan(path)
    assert config.optim == replace(ADAMW, weight_decay=0.1)
    assert config.schedule == replace(LINEAR, name="cosine")
    path.write_text(path.read_text() + "epochs: null\n")
    with pytest.raises(SettingsError, match="`epochs` must be a whole number, got None"):
        plan(path)


def test_a_method_has_its_tasks_options_until_somebody_says_otherwise(pace, tmp_path):
    teacher = tmp_path / "teacher.pt"
    teacher.touch()
    taught = {**pace, "teacher.name": "toy_task:Perceptron", "teacher.checkpoint": str(teacher)}
    del taught["method"]
    quick, slow = plan(None, "dkd", overrides=taught), plan(None, "dkd", overrides={**taught, "method.warmup_epochs": 20})
    assert (resolve_method(quick).warmup_epochs, resolve_method(slow).warmup_epochs) == (0, 20)
    assert quick.method_options == {}
    assert resolve_method(replace(quick, method_options={"beta": 2.0})).warmup_epochs == 0
    assert "warmup_epochs20" in default_folder(slow).name
    assert "warmup" not in default_folder(quick).name
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("task: pace\nstudent: toy_task:Perceptron\nmethods:\n  dkd: {warmup_epochs: 2}\n")
    rest = {key: value for key, value in taught.items() if key.startswith("teacher")}
    assert resolve_method(plan(recipe, "dkd", overrides=rest)).warmup_epochs == 2
    assert resolve_method(replace(quick, task="images")).warmup_epochs == 20


def test_the_help_page_shows_the_tasks_defaults(pace):
    assert (run_settings("pace")["epochs"].default, run_settings()["epochs"].default) == (3, 240)
    shown = page("train", ["--task", "pace", "--help-all"])
    assert "adamw" in shown.partition("--optim ")[2][:200].partition("default ")[2][:10]
    assert "default 0.002" in shown
    assert "default 240" not in shown
