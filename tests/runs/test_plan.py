"""What the flags of `logitkd train` come to, and what wrong ones are told: no data, no run."""

import re
from pathlib import Path

import pytest

from logitkd import methods
from logitkd.cli.commands import planned
from logitkd.runs.config import OptimConfig, StonesConfig
from logitkd.runs.networks import ModelConfig, TeacherConfig, TeacherSource
from logitkd.runs.plan import plan
from logitkd.runs.settings import SettingsError


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(*arguments):
    with pytest.raises(SettingsError) as caught:
        planned(list(arguments))
    return caught.value.problems


def finished_run(folder):
    folder.mkdir(parents=True)
    (folder / "student.safetensors").touch()


PAIR = "cifar100/resnet32x4-resnet8x4"


def test_flags_override_the_recipe(empty_folder):
    (empty_folder / "t.safetensors").touch()
    flags = "--method gdkd --method.top_k 3 --seed 1 --epochs=30 --data.source me/x --optim.lr 0.1 --quiet --schedule cosine"
    config = planned([PAIR, *flags.split(), "--teacher.checkpoint", "t.safetensors", "--trackers", "[tensorboard]"])
    assert (config.method, config.seed, config.epochs, config.optim.lr) == ("gdkd", 1, 30, 0.1)
    assert config.method_options == {"top_k": 3, "w_top": 2}  # w_top: the pair's
    assert (config.data.source, config.data.label_column) == ("me/x", "fine_label")
    assert (config.quiet, config.schedule.name, config.trackers) == (True, "cosine", ("tensorboard",))
    # The same network as the recipe's teacher under a checkpoint of its own, and where the data are, as hashes.
    assert re.fullmatch(
        f"runs/{PAIR}/gdkd-top_k3-teacher_t_safetensors_.{{6}}-source_x_.{{6}}-lr0.1-[^/]*-seed1", config.output
    )


def test_a_switch_takes_a_value_or_none():
    base = ["--student", "cifar_resnet8", "--method", "ce"]
    assert planned([*base, "--quiet", "--debug", "false"]).quiet
    assert not planned([*base, "--data.flip=false"]).data.flip
    assert not planned([*base, "--data.flip", "false", "--quiet", "false"]).data.flip
    alone = planned([*base, "--channels_last", "--data.flip", "--debug"])
    assert alone.channels_last
    assert alone.data.flip
    assert alone.debug
    assert planned(["--quiet", "digits", "--method", "ce"]).student.name == "cifar_resnet8"  # not the switch's value


def test_every_problem_is_named_at_once():
    line = (
        "digits extra --method gdk --method.topk 3 --lr 3 --epochs x --optim adam --seed -1 --schedule.decay 3"
        " --student resnett18 --device tpu --batch-size 3 --precision"
    )
    found = problems(*line.split())
    for part in (
        "one recipe at a time: `extra` is one too many.",
        "unknown method `gdk`. Did you mean `gdkd`?",
        "unknown option `--lr`. Did you mean `--optim.lr`?",
        "`epochs` must be a whole number, got 'x'.",
        "`optim.name` must be one of 'sgd', 'adamw', got 'adam'. Did you mean `adamw`?",
        "`seed` must be in [0, 9223372036854775807], got -1.",
        "`schedule.decay` must be in [0, 1], got 3.0.",
        "unknown model `resnett18`. Nearest: ",
        "`device` must be auto, cpu, cuda or cuda:N, got 'tpu'.",
        "unknown option `--batch-size`. Did you mean `--batch_size`?",
        "`--precision` needs a value.",
    ):
        assert any(part in problem for problem in found), part


def test_data_seed_and_trackers_are_checked_before_any_data():
    line = f"--student cifar_resnet8 --method ce --data.crop_padding -1 --data.train_per_class 0 --seed {2**63}"
    found = problems(*line.split(), "--trackers", "[tensorbord]")
    assert [problem.split("`")[1] for problem in found] == ["data.train_per_class", "data.crop_padding", "seed", "trackers"]


def test_method_options_are_strict():
    found = problems("digits", "--method", "gdkd", "--method.topk", "3", "--method.w_rest", "abc", "--method.top_k", "0")
    assert found[0].startswith("method `gdkd`: unknown option `method.topk`. Did you mean `method.top_k`? It has ")
    assert found[1] == "method `gdkd`, `method.w_rest`: `w_rest` must be a number, got 'abc' (str)."
    assert found[2] == "method `gdkd`, `method.top_k`: `top_k` must be at least 1, got 0."


def test_method_options_take_lists_and_exponents(empty_folder):
    finished_run(empty_folder / "runs/digits/cifar_resnet20/ce-seed0")
    config = planned(["digits", "--method", "sdd-kd", "--method.scales", "[1, 2, 4]", "--method.disagreement", "1e-1"])
    assert config.method_options["disagreement"] == 0.1
    assert config.method_options.get("scales", (1, 2, 4)) == (1, 2, 4)


def test_nothing_given_says_what_is_needed():
    assert [problem.split(" must")[0] for problem in problems()] == ["`student`", "`teacher`"]


def test_stepping_stones_are_set_by_flags(empty_folder):
    finished_run(empty_folder / "runs/digits/cifar_resnet20/ce-seed0")
    flags = ["--stones.use", "[1, 2]", "--stones.student", "[layer1, layer2, layer3]", "--method.d_beta", "2"]
    config = planned(["digits", "--method", "block-dkd", *flags])
    assert config.stones == StonesConfig(use=(1, 2), student=("layer1", "layer2", "layer3"))
    assert methods.get("block-dkd").replace(**config.method_options).loss.d.term_weights["nckd"] == 2
    assert planned(["digits", "--method", "block-kd", "--stones.use", "last"]).stones.use == "last"


def test_stepping_stones_that_cannot_be_are_refused_before_the_run():
    found = problems(
        "digits", "--method", "block-kd", "--stones.use", "[2, 1]", "--stones.student", "[a]", "--stones.teacher", "[b, c]"
    )
    assert any("`stones.use` must be `all`, `last` or rising numbers from 1, got [2, 1]" in problem for problem in found)
    assert any("must hold as many paths, got 1 and 2" in problem for problem in found)


class TestTeacher:
    def test_a_missing_one_comes_with_the_command_that_trains_it(self):
        for split in ("train", "test"):
            Path("my data", split).mkdir(parents=True)
        (found,) = problems(PAIR, "--method", "dkd", "--data.source", "my data", "--seed", "4")
        assert f"logitkd train {PAIR} --role teacher --data.source 'my data'\n" in found
        (found,) = problems("--student", "cifar_resnet8", "--teacher", "cifar_resnet20", "--data.source", "me/x")
        assert "logitkd train --student cifar_resnet20 --method ce --data.source me/x\n" in found

    def test_the_command_has_the_flags_both_runs_share(self):
        given = "--epochs 3 --batch_size 8 --optim adamw --optim.lr 0.001 --schedule cosine --device cpu --precision bfloat16"
        own = "--seed 4 --method dkd --method.temperature 2 --quiet --student.pool avgpool"
        (found,) = problems("--student", "cifar_resnet8", "--teacher", "cifar_resnet20", *own.split(), *given.split())
        assert f"logitkd train --student cifar_resnet20 --method ce {given}\n" in found

    def test_there_is_no_command_for_an_unknown_network(self):
        found = problems("--student", "cifar_resnet8", "--teacher", "cifar_resnett20", "--epochs", "3")
        assert [problem.split(".")[0] for problem in found] == [
            "the teacher `cifar_resnett20` has no weights: give its checkpoint with `--teacher",
            "unknown model `cifar_resnett20`",
        ]

    @pytest.mark.parametrize(
        ("pair", "teacher"),
        [
            ([PAIR], [PAIR, "--role", "teacher"]),
            (["digits"], ["digits", "--role", "teacher"]),
            (["cifar100/resnet32x4-shufflenetv1"], [PAIR, "--role", "teacher"]),  # another pair's, the same network
            ([PAIR, "--teacher", "cifar_vgg13"], [PAIR, "--teacher", "cifar_vgg13", "--role", "teacher"]),
        ],
    )
    def test_the_one_trained_by_role_is_found(self, empty_folder, pair, teacher):
        taught = planned(teacher)
        assert (taught.method, taught.teacher, taught.seed) == ("ce", None, 0)
        finished_run(empty_folder / taught.output)
        config = planned([*pair, "--method", "kd"])
        assert (config.teacher.name, config.teacher.checkpoint) == (taught.student.name, taught.output)

    def test_the_one_trained_without_a_recipe_is_found(self, empty_folder):
        finished_run(empty_folder / "runs/cifar_resnet20/ce-seed0")
        config = planned(["--student", "cifar_resnet8", "--teacher", "cifar_resnet20"])
        assert config.teacher.checkpoint == "runs/cifar_resnet20/ce-seed0"

    def test_an_unfinished_run_does_not_teach(self, empty_folder):
        (empty_folder / "runs/digits/cifar_resnet20/ce-seed0").mkdir(parents=True)
        assert len(problems("digits", "--method", "kd")) == 1

    def test_where_regions_enter(self, empty_folder):
        finished_run(empty_folder / "runs/digits/cifar_resnet20/ce-seed0")
        paths = ["--student.pool", "avgpool", "--teacher.head", "fc"]
        config = planned(["digits", "--method", "sdd-kd", *paths])
        assert (config.student.pool, config.student.head, config.teacher.pool, config.teacher.head) == (
            "avgpool",
            None,
            None,
            "fc",
        )
        taught = planned(["digits", "--role", "teacher", "--teacher.head", "fc"])
        assert (taught.student.pool, taught.student.head, taught.teacher) == (None, "fc", None)

    def test_role_teacher_refuses_what_does_not_fit(self):
        found = problems("digits", "--role", "teacher", "--student.pool", "x")
        assert "`student.pool` does not go with `role: teacher`" in found[0]
        found = problems("digits", "--role", "teacher", "--method", "kd", "--student.checkpoint", "x")
        assert ["got `method` kd" in found[0], "`student.checkpoint` does not go" in found[1]] == [True, True]
        assert "needs a teacher to train" in problems("--student", "cifar_resnet8", "--role", "teacher")[0]

    def test_ce_does_without_unless_weights_are_given(self, empty_folder):
        finished_run(empty_folder / "runs/digits/cifar_resnet20/ce-seed0")
        assert planned(["digits", "--method", "ce"]).teacher is None  # whether or not one was trained: same run, same record
        given = planned(["digits", "--method", "ce", "--teacher.checkpoint", "runs/digits/cifar_resnet20/ce-seed0"])
        assert given.teacher.name == "cifar_resnet20"

    def test_a_checkpoint_that_is_not_there_is_refused(self):
        assert "there is no gone.pt" in problems("digits", "--teacher.checkpoint", "gone.pt")[0]


def test_another_student_gets_another_folder(empty_folder):
    config = planned([PAIR, "--method", "ce", "--student", "cifar_resnet20"])
    assert config.output == "runs/cifar100/cifar_resnet20/ce-seed0"


def test_labels_none_takes_the_weights_of_the_labels_away(empty_folder):
    (empty_folder / "t.safetensors").touch()
    base = [PAIR, "--teacher.checkpoint", "t.safetensors", "--labels", "none"]
    config = planned([*base, "--method", "sdd-kd"])
    assert (config.labels, config.method_options["ce_weight"], config.method_options["judge"]) == ("none", 0.0, "teacher")
    assert planned([*base, "--method", "kd", "--method.ce_weight", "0"]).method_options["ce_weight"] == 0
    (problem,) = problems(*base, "--method", "kd", "--method.ce_weight", "0.1")
    assert problem == "`ce_weight` must be 0.0 without labels, got 0.1. Leave it out, or give labels."
    (problem,) = problems(*base, "--method", "dkd")
    assert problem.startswith("`method` must be one that can be trained without labels, got `dkd`: its loss needs them.")


def test_mixing_is_refused_where_classes_are_needed(empty_folder):
    (empty_folder / "t.safetensors").touch()
    base = [PAIR, "--teacher.checkpoint", "t.safetensors", "--mixup", "0.2"]
    assert planned([*base, "--method", "gdkd", "--cutmix", "1"]).cutmix == 1.0
    found = problems(*base[:3], "--method", "block-kd", "--class_weights", "balanced")
    assert "Leave it out, or give the labels a share of the loss: `--method.ce_weight 0.1`." in found[-1]
    assert planned([*base[:3], "--method", "block-kd", "--class_weights", "balanced", "--method.ce_weight", "0.1"])
    found = problems(*base, "--method", "nkd", "--class_weights", "nowhere.yaml")
    assert any(problem.startswith("`mixup` must be 0 for `nkd`") for problem in found)
    assert any("got nowhere.yaml: no such file" in problem for problem in found)


def test_data_of_any_size_and_a_share_to_evaluate_on():
    line = "--data.source me/photos --data.image_size 64 --data.eval_fraction 0.1 --data.workers 3 --data.mean [0.5,0.5,0.5]"
    flags = line.split()
    flags += ["--data.std", "[0.2, 0.2, 0.2]", "--data.transforms", "[resize, random_crop, trivialaugment]"]
    data = planned(["--student", "cifar_resnet8", "--method", "ce", *flags]).data
    assert (data.source, data.image_size, data.eval_fraction, data.workers) == ("me/photos", 64, 0.1, 3)
    assert (data.mean, data.std) == ((0.5,) * 3, (0.2,) * 3)
    assert data.transforms == ("resize", "random_crop", "trivialaugment")


DEEP = "[" * 3000 + "]" * 3000


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--epochs", DEEP, "`epochs` must be a whole number, got '[[["),
        ("--trackers", DEEP, "Here lists and sections must be at most 20 deep, this goes deeper (line 1, column 21)."),
        ("--data.mean", f"[{DEEP}]", "`data.mean` must be a list such as [0.5, 0.75] or null, got '[[["),
        ("--teacher.others", DEEP, "`teacher.others` must be a list such as [{name: a, checkpoint: b}"),
        ("--teacher.others", "[{name: a, name: b}]", "Here the key `name` is given twice (line 1, column 12)."),
        ("--stones.use", "[&a [&b [1], *b], " + "*a, " * 5000 + "]", "Here aliases (`*name`) must stand for at most 10,000"),
        ("--method.warmup_epochs", DEEP, "`warmup_epochs` must be an integer, got '[[["),
        ("--method.ce_weight", DEEP, "`ce_weight` must be a number, got '[[["),
        ("--epochs", "!!bool maybe", "`epochs` must be a whole number, got '!!bool maybe'."),
        ("--epochs", "1" + "0" * 400, "`epochs` must be at least 1, got 1000"),
    ],
)
def test_values_nobody_could_mean_are_refused_in_short(flag, value, words):
    (problem,) = problems("--student", "cifar_resnet8", "--method", "ce", flag, value)
    assert words in problem
    assert len(problem) < 600


def test_text_that_is_no_yaml_is_text():
    config = planned(["--student", "cifar_resnet8", "--method", "ce", "--data.image_column", "[a", "--output", "2020-13-45"])
    assert (config.data.image_column, config.output) == ("[a", "2020-13-45")


def test_problems_of_the_data_are_named_among_the_others():
    line = "--student resnet18 --method ce --seed -1 --data_seed -2 --data.workers 1 --data.crop_ratio 2"
    found = problems(*line.split(), "--data.transforms", "[flop,center_crop]")
    for part in (
        "`seed` must be",
        "`data_seed` must be in [0, 9223372036854775807], got -2",
        "got 'flop'. Did you mean `flip`?",
        "`data.workers` must be left out",
        "`data.crop_ratio` must be above 0 and at most 1",
    ):
        assert any(part in problem for problem in found), part


def test_names_that_lead_nowhere_are_among_the_others(empty_folder, monkeypatch):
    monkeypatch.syspath_prepend(str(empty_folder))
    (empty_folder / "nets_here.py").write_text("def small(num_classes):\n    raise SystemExit('built')\n")
    (empty_folder / "nets_broken.py").write_text("import nothing_of_that_name\n")
    (empty_folder / "b.pt").touch()
    found = problems(
        *("--student", "nets_here:smal", "--seed", "-1", "--data.source", "gone", "--method", "block-kd"),
        *("--teacher", "nets_nowhere:big", "--teacher.num_classes", "3", "--teacher.label_map", "map.yaml"),
        *("--teacher.others", "[{name: 'nets_broken:net', checkpoint: b.pt}]"),
    )
    for part in (
        "`seed` must be in",
        "`data.source` must be `digits`, an existing folder, or a hub id `owner/name`, got 'gone'",
        "`teacher.others` must be empty for the method `block-kd`, got 1",
        "model `nets_here:smal`: `nets_here` has no `smal`. Did you mean `small`?",
        "there is no module `nets_nowhere`. It must be importable: installed, or in the folder the command runs in.",
        "model `nets_broken:net` cannot be imported: No module named 'nothing_of_that_name'.",
        "`teacher.label_map` must be a file, but there is no map.yaml",
    ):
        assert any(part in problem for problem in found), part
    assert len(found) == 7
    assert planned(["--student", "nets_here:small", "--method", "ce"]).student.name == "nets_here:small"  # not built


def test_splits_that_are_not_there_are_named_before_anything_is_read(empty_folder):
    def told(*arguments):
        return problems("--student", "cifar_resnet8", "--method", "ce", "--seed", "-1", *arguments)

    (empty_folder / "images/train/cat").mkdir(parents=True)
    assert "there is no split `test` in images" in told("--data.source", "images")[1]
    (empty_folder / "images/test").mkdir()
    assert len(told("--data.source", "images")) == 1
    share = ("--data.eval_fraction", "0.1")
    assert (
        "`data.eval_fraction` must be left out where there is an evaluation split" in told("--data.source", "images", *share)[1]
    )
    (empty_folder / "classes/cat").mkdir(parents=True)
    assert len(told("--data.source", "classes", *share)) == 1  # class folders: one split, whatever its name
    (empty_folder / "tables").mkdir()
    (empty_folder / "tables/train-00000-of-00001.parquet").touch()
    assert "there is no split `test` in tables. Splits there: train." in told("--data.source", "tables")[1]
    assert "got the file tables/train-00000-of-00001.parquet" in told("--data.source", "tables/train-00000-of-00001.parquet")[1]


def test_several_teachers_from_flags_and_from_a_recipe(empty_folder):
    for name in ("a.pt", "b.pt", "map.yaml"):
        (empty_folder / name).touch()
    first = ["--teacher", "resnet50", "--teacher.checkpoint", "a.pt", "--teacher.num_classes", "1000"]
    first += ["--teacher.label_map", "map.yaml", "--teacher.std", "[0.5, 0.5, 0.5]", "--teacher.combine", "logits"]
    others = "[{name: cifar_resnet8, checkpoint: b.pt}, {name: resnet18.a1_in1k, label_map: map.yaml, mean: [0.1, 0.2, 0.3]}]"
    expected = TeacherConfig(
        "resnet50", "a.pt", "map.yaml", 1000, None, (0.5, 0.5, 0.5),
        (TeacherSource("cifar_resnet8", "b.pt"), TeacherSource("resnet18.a1_in1k", None, "map.yaml", mean=(0.1, 0.2, 0.3))),
        "logits",
    )  # fmt: skip
    assert planned(["--student", "cifar_resnet8", *first, "--teacher.others", others]).teacher == expected
    (empty_folder / "mine.yaml").write_text(
        "student: cifar_resnet8\nteacher:\n  name: resnet50\n  checkpoint: a.pt\n  label_map: map.yaml\n  num_classes: 1000\n"
        f"  std: [0.5, 0.5, 0.5]\n  combine: logits\n  others: {others}\n"
    )
    config = planned(["mine.yaml"])
    assert config.teacher == expected
    assert config.output == "runs/mine/kd-seed0"
    more = planned(["mine.yaml", "--teacher.others", "[{name: cifar_resnet8, checkpoint: b.pt}]"])
    assert re.fullmatch("runs/mine/resnet50\\+cifar_resnet8-cifar_resnet8/kd-others_.{6}-seed0", more.output)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (
            "[{checkpoint: a}]",
            "must be a list such as [{name: a, checkpoint: b}, {name: c}], with the keys name, checkpoint",
        ),
        ("[{name: a, chekpoint: b}]", "`teacher.others`: unknown key `chekpoint`. Did you mean `checkpoint`?"),
        ("[{name: a, xyz: b}]", "`teacher.others`: unknown key `xyz`. There are name, checkpoint, "),
        ("cifar_resnet8", "must be a list such as"),
        ("[{name: cifar_resnet8}]", "`teacher.others[0].checkpoint` must be given: without it `cifar_resnet8` would teach"),
        ("[{name: resnet18.a1_in2k}]", "timm has no weights `a1_in2k` for `resnet18`. Did you mean `a1_in1k`?"),
        ("[{name: 'torchvision:resnt18', checkpoint: no.pt}]", "Did you mean `resnet18`?"),
    ],
)
def test_wrong_teachers_are_named_before_anything_runs(empty_folder, others, message):
    (empty_folder / "a.pt").touch()
    words = ["--student", "cifar_resnet8", "--teacher", "resnet50", "--teacher.checkpoint", "a.pt", "--teacher.others", others]
    assert any(message in problem for problem in problems(*words))


def test_a_name_that_brings_weights_needs_no_checkpoint():
    words = ["--student", "torchvision:resnet18", "--teacher", "resnet18.a1_in1k"]
    assert planned(words).teacher == TeacherConfig("resnet18.a1_in1k")
    assert planned([*words, "--method", "ce"]).teacher == TeacherConfig("resnet18.a1_in1k")
    assert planned([*words[:2], "--teacher", "resnet18", "--method", "ce"]).teacher is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": 3}, r"`method` must be a name, got 3"),
        ({"method": "ce", "overrides": [1]}, r"`overrides` must be values by key"),
        ({"method": "ce", "overrides": {3: 4}}, r"`overrides` must be values by key"),
        ({"method": "ce", "overrides": {"schedule": "poly", "schedule.power": 0}}, r"`schedule\.power` must be above 0, got 0"),
        ({"method": "kd", "overrides": {"mixup": 1e308}}, r"`mixup` must be in \[0, 1000\], got 1e\+308"),
        ({"method": "ce", "overrides": {"output": ""}}, r"`output` must be a folder's name, got ''"),
    ],
)
def test_what_no_run_can_be_planned_of(arguments, message):
    with pytest.raises(SettingsError, match=message):
        plan("digits", **arguments)


def test_a_section_may_be_a_dataclass():
    planned_run = plan("digits", "ce", overrides={"optim": OptimConfig(lr=0.3), "student": ModelConfig("cifar_resnet14")})
    assert (planned_run.optim.lr, planned_run.student.name) == (0.3, "cifar_resnet14")


def test_what_is_put_back_to_nothing_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("student: cifar_resnet8\nmethod: ce\nclass_weights: balanced\ndata_seed: 3\n")
    names = [plan("own.yaml", overrides=given).output for given in ({}, {"class_weights": None}, {"data_seed": None})]
    assert len(set(names)) == 3
    assert plan("own.yaml", overrides={"data_seed": 0}).output == names[2]  # the seed, which is its default
