"""Every shipped recipe, read strictly, with every method; and what a recipe of one's own is told."""

import shlex

import pytest

from logitkd import methods, recipes
from logitkd.cli.commands import planned
from logitkd.losses import ICDLoss
from logitkd.runs.config import data_settings
from logitkd.runs.rules import resolve_method
from logitkd.runs.settings import SettingsError

# METHODS.md: learning rate, DKD beta, GDKD w_top and w_rest, LS-KD temperature and weight, LS-DKD the same and beta.
PAIRS = {
    "resnet32x4-resnet8x4": (0.05, 8, (2, 8), (2, 9), (2, 9, 8)),
    "resnet56-resnet20": (0.05, 2, (1, 1), (2, 9), (3, 18, 2)),
    "resnet110-resnet32": (0.05, 2, (1, 1), (2, 9), (2, 15, 2)),
    "wrn_40_2-wrn_16_2": (0.05, 6, (2, 6), (2, 9), (2, 12, 2)),
    "wrn_40_2-wrn_40_1": (0.05, 6, (2, 6), (2, 9), (2, 12, 2)),
    "vgg13-vgg8": (0.05, 6, (1, 6), (3, 9), (2, 15, 2)),
    "resnet32x4-shufflenetv1": (0.01, 8, (1, 8), None, None),
    "resnet32x4-shufflenetv2": (0.01, 8, (1, 8), (2, 9), (2, 9, 8)),
    "wrn_40_2-shufflenetv1": (0.01, 8, (2, 6), None, None),
    "resnet50-mobilenetv2": (0.01, 8, (1, 8), (3, 1), (2, 15, 2)),
    "vgg13-mobilenetv2": (0.01, 6, (1, 6), (3, 9), (3, 9, 2)),
}


SCENES = ("camvid", "cityscapes")
TEXTS = ("banking77", "mrpc", "rte", "sst2")
MINILM = "transformers:sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def teacher(tmp_path):
    path = tmp_path / "teacher.safetensors"
    path.touch()
    return ["--teacher.checkpoint", str(path)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, with one of scenes in it for the recipes that come without data."""
    for path in (f"{scene}/{kind}/{split}" for scene in SCENES for kind in ("images", "masks") for split in ("train", "val")):
        (tmp_path / path).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


def task_of(name):
    return recipes.read(recipes.find(name)).get("task", "images")


def data_of(name):
    """What has to be said of a recipe's data."""
    return ["--data.source", name.rpartition("/")[2]] if task_of(name) == "segmentation" else []


def options(name, method, teacher):
    config = planned([name, "--method", method, *data_of(name), *teacher])
    return config, methods.get(method).replace(**config.method_options).options


def test_the_eleven_pairs_the_digits_the_scenes_and_the_texts_are_shipped():
    others = [*(f"segmentation/{name}" for name in SCENES), *(f"text/{name}" for name in TEXTS)]
    assert recipes.names() == sorted([*(f"cifar100/{pair}" for pair in PAIRS), "digits", *others])


@pytest.mark.parametrize("name", recipes.names())
def test_every_method_that_fits_resolves_with_every_recipe(name, teacher, here):
    for method in methods.names():
        loss = methods.get(method).loss
        if loss is None or not loss.unfit(data_settings(task_of(name)).output):
            config, _ = options(name, method, teacher)
            assert config.method == method
    assert planned([name, "--role", "teacher", *data_of(name)]).method == "ce"


def test_a_shipped_recipe_builds_the_loss_of_its_run_alone(teacher, monkeypatch):
    def build(*args, **options):
        raise AssertionError("the loss of another method was built")

    monkeypatch.setattr(methods, "_BUILT", {})
    monkeypatch.setattr(ICDLoss, "__init__", build)
    assert planned(["digits", "--method", "gdkd", *teacher]).method_options["top_k"] == 3
    with pytest.raises(AssertionError):
        planned(["digits", "--method", "icd-kd", *teacher])


@pytest.mark.parametrize("name", recipes.names())
def test_first_line_is_the_command_that_runs_it(name, teacher, here):
    words = shlex.split(recipes.command(recipes.find(name)))
    assert words[:3] == ["logitkd", "train", name]
    planned([*words[2:], *teacher])


@pytest.mark.parametrize("pair", PAIRS)
def test_pairs_hold_the_papers_numbers(pair, teacher):
    lr, beta, gdkd, ls_kd, ls_dkd = PAIRS[pair]
    name = f"cifar100/{pair}"
    config, found = options(name, "dkd", teacher)
    teacher_name, student_name = pair.split("-")
    assert (config.teacher.name, config.student.name) == (f"cifar_{teacher_name}", f"cifar_{student_name}")
    assert (config.optim.name, config.optim.lr, config.optim.momentum, config.optim.weight_decay) == ("sgd", lr, 0.9, 5e-4)
    assert (config.epochs, config.batch_size, config.data.crop_padding, config.data.flip) == (240, 64, 4, True)
    assert [config.epochs * share for share in config.schedule.milestones] == [150, 180, 210]
    assert found["beta"] == beta
    for method in ("gdkd", "ls-gdkd", "gdkd3", "sdd-gdkd", "icd-gdkd"):
        _, found = options(name, method, teacher)
        assert (found["w_top"], found["w_rest"]) == gdkd
    if ls_kd:
        _, found = options(name, "ls-kd", teacher)
        assert (found["temperature"], found["kd_weight"]) == ls_kd
        _, found = options(name, "ls-dkd", teacher)
        assert (found["temperature"], found["kd_weight"], found["beta"]) == ls_dkd
    for method in ("sdd-kd", "icd-dkd"):
        assert options(name, method, teacher)[1]["scales"] == ((1, 2) if lr == 0.05 else (1, 2, 4))
    assert planned([name, "--role", "teacher"]).optim.lr == 0.05


@pytest.mark.parametrize("pair", PAIRS)
def test_pairs_hold_the_numbers_of_ldrld_s_authors(pair, teacher):
    name = f"cifar100/{pair}"
    for method in ("ldrld", "ls-ldrld", "sdd-ldrld", "block-ldrld"):
        config, found = options(name, method, teacher)
        assert round(config.schedule.warmup * config.epochs) == 20
        assert found["warmup_epochs"] == 0
        weights = ("d_alpha", "d_beta") if method == "block-ldrld" else ("alpha", "beta")
        assert [found[option] for option in (*weights, "depth", "temperature")] == [10.5, 7, 7, 4]
    assert options(name, "block-ldrld", teacher)[1]["beta"] == 1  # Block-KD's own, of the same name
    for arguments in (["--method", "gdkd", *teacher], ["--role", "teacher"]):
        assert planned([name, *arguments]).schedule.warmup == 0
    assert planned([name, "--method", "ldrld", "--schedule.warmup", "0.1", *teacher]).schedule.warmup == 0.1


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_recipe_trains_its_teacher_and_starts_the_student_from_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taught = planned([f"text/{name}", "--role", "teacher"])
    assert (taught.student.name, taught.student.layers, taught.teacher) == (MINILM, None, None)
    assert (taught.optim.name, taught.optim.weight_decay, taught.schedule.name) == ("adamw", 0.01, "linear")
    assert not taught.output.startswith(planned(["text/rte" if name != "rte" else "text/mrpc", "--role", "teacher"]).output)
    folder = tmp_path / taught.output
    for method in ("kd", "ce"):
        (problem,) = problems([f"text/{name}", "--method", method])
        assert problem.startswith(
            f"the teacher `{MINILM}` is not trained yet, and no finished run of it is in {taught.output}."
        )
        assert f"logitkd train text/{name} --role teacher" in problem
    folder.mkdir(parents=True)
    (folder / "student.safetensors").touch()
    for method in ("dkd", "block-kd", "ce"):
        run = planned([f"text/{name}", "--method", method])
        assert (run.teacher.checkpoint, run.student.layers) == (taught.output, (1, 3, 5))
        assert run.output == f"runs/{name}/{method}-seed0"
        assert methods.get(method).replace(**run.method_options).warmup_epochs in (0, 20)
        assert resolve_method(run).warmup_epochs == 0
    alone = planned([f"text/{name}", "--method", "ce", "--student.layers", "null"])
    assert (alone.teacher, alone.student.layers) == (None, None)
    other = planned([f"text/{name}", "--method", "kd", "--teacher", "transformers:me/finished"])  # with a classifier of its own
    assert (other.teacher.name, other.teacher.checkpoint) == ("transformers:me/finished", None)
    (folder / "config.yaml").write_text(CONFIG)
    again = planned([f"text/{name}", "--method", "kd", "--student", taught.output])
    assert (again.student.checkpoint, again.student.layers) == (taught.output, None)


CONFIG = f"run: {{student: {{name: '{MINILM}'}}, data: {{}}}}\nmethod: {{}}\nversions: {{logitkd: '1'}}\n"


@pytest.mark.parametrize("name", ["mrpc", "rte", "sst2"])
def test_recipes_of_two_classes_have_options_that_fit(name, teacher):
    for method in methods.names():
        if method == "cwd":
            continue
        config, _ = options(f"text/{name}", method, teacher)
        if methods.get(method).wants.reads == "logits" and method != "gdkd3":
            resolve_method(config).check_classes(2)


def test_pairs_on_the_same_data_share_their_teachers():
    assert recipes.shares_data("cifar100/resnet56-resnet20")
    assert not any(recipes.shares_data(name) for name in ("digits", *(f"text/{name}" for name in TEXTS)))


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def problems(arguments):
    with pytest.raises(SettingsError) as caught:
        planned(arguments)
    return caught.value.problems


def test_own_recipe_and_what_overrides_it(tmp_path):
    path = write(
        tmp_path,
        "student: {name: cifar_resnet8}\nmethod: {name: ce, ce_weight: 2}\noptim: {name: adamw, lr: 1e-3}\ndata: {flip: no}\n",
    )
    config = planned([path, "--optim.lr", "0.005"])
    assert (config.optim.name, config.optim.lr, config.data.flip) == ("adamw", 0.005, False)
    assert config.method_options == {"ce_weight": 2}
    assert config.output == "runs/mine/ce-lr0.005-seed0"
    assert planned([path]).output == "runs/mine/ce-seed0"
    assert planned([path, "--method.ce_weight", "3"]).method_options == {"ce_weight": 3}


def test_a_recipe_sets_optimiser_and_schedule_by_method(tmp_path, teacher):
    path = write(
        tmp_path,
        "student: cifar_resnet8\nteacher: cifar_resnet20\nschedule: {warmup: 0.5, decay: 0.2}\n"
        "teacher_training: {optim.lr: 0.3}\n"
        "methods: {'*kd': {optim: adamw}, dkd: {beta: 2, schedule: {warmup: 0.25}, optim.lr: 1e-3}, ce: {optim.lr: 0.2}}",
    )
    config = planned([path, "--method", "dkd", *teacher])
    assert (config.schedule.warmup, config.schedule.decay, config.optim.lr, config.optim.name) == (0.25, 0.2, 1e-3, "adamw")
    assert config.method_options == {"beta": 2}
    assert planned([path, "--method", "kd", *teacher]).schedule.warmup == 0.5
    assert planned([path, "--method", "dkd", "--optim.lr", "0.01", *teacher]).optim.lr == 0.01
    assert planned([path, "--method", "ce"]).optim.lr == 0.2
    own = write(tmp_path, "student: cifar_resnet8\nmethod: {name: ce, ce_weight: 2, schedule.warmup: 0.2, optim: {lr: 0.4}}\n")
    config = planned([own])
    assert (config.schedule.warmup, config.optim.lr, config.method_options) == (0.2, 0.4, {"ce_weight": 2})
    path = write(
        tmp_path, "student: cifar_resnet8\nmethods: {ce: {optim.lr: 0.2}}\nteacher_training: {optim.lr: 0.3}\nteacher: vgg11\n"
    )
    assert planned([path, "--role", "teacher"]).optim.lr == 0.3


def test_options_of_the_recipes_method_do_not_leak_into_another(tmp_path, teacher):
    path = write(tmp_path, "student: cifar_resnet8\nteacher: cifar_resnet20\nmethod: {name: gdkd, top_k: 3}\n")
    assert planned([path, *teacher]).method_options == {"top_k": 3}
    assert planned([path, "--method", "dkd", *teacher]).method_options == {}


def test_all_problems_of_a_recipe_come_at_once(tmp_path):
    path = write(
        tmp_path,
        "student: {name: cifar_resnet8, chekpoint: x}\nlr: 0.1\nepochs: many\noptim: {lrr: 1, name: sdg}\ndata: digits\n"
        "methods: {gdk: {top_k: 3}, '*gdkd': {topk: 2, w_top: -1},"
        "kd: {schedule.warmpu: 1, optim: {lr: fast}}}\nmethod: {name: dkd, betta: 2}\nteacher_training: 3\n",
    )
    found = "\n".join(problems([path]))
    for part in (
        "unknown key `student.chekpoint`. Did you mean `student.checkpoint`?",
        "unknown key `lr`. Did you mean `optim.lr`?",
        "`epochs` must be a whole number, got 'many'.",
        "unknown key `optim.lrr`. Did you mean `optim.lr`?",
        "`optim.name` must be one of 'sgd', 'adamw', got 'sdg'. Did you mean",
        "`data` must be a section with some of source, train_split",
        "unknown method `gdk`. Did you mean `gdkd`?",
        "method `ls-gdkd`: unknown option `methods.*gdkd.topk`. Did you mean `methods.*gdkd.top_k`?",
        "method `gdkd`, `methods.*gdkd.w_top`: `w_top` must be",
        "method `dkd`: unknown option `method.betta`. Did you mean `method.beta`?",
        "`teacher_training` must be a section, got 3.",
        "`methods.kd`: unknown key `schedule.warmpu`. Did you mean `schedule.warmup`?",
        "`methods.kd`: `optim.lr` must be a number, got 'fast'.",
    ):
        assert part in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("student: a\nepochs: 3\nepochs: 4\n", "the key `epochs` is given twice"),
        ("student: a\noptim: {lr: 0.1}\noptim.lr: 0.2\n", "`optim.lr` is given twice, as 0.1 and 0.2. Leave one out."),
        ("optim.lr: 0.2\nstudent: a\noptim: {lr: 0.2}\n", "`optim.lr` is given twice"),
        ("student: a\nstudent.name: b\n", "`student.name` is given twice, as 'a' and 'b'."),
        ("student: a\noptim: {name: adamw}\noptim.name: sgd\n", "`optim.name` is given twice"),
        ("student: a\nteachr: b\n", "unknown key `teachr`. Did you mean `teacher`?"),
        ("student: a\nteacher: null\nteacher.name: b\n", "`teacher.name` is given twice"),
        ("student: a\nteacher_training: {optim: {lr: 1}, optim.lr: 2}\n", "`teacher_training`: `optim.lr` is given twice"),
        ("student: a\noptim: &x {lr: 1}\nschedule:\n  <<: *x\n", "mine.yaml: merge keys (`<<`) are not supported"),
        ("student: a\n[a, b]: 3\n", "mine.yaml: a key must be text, got ['a', 'b']"),
        ("student: a\nepochs: " + "[" * 3000 + "]" * 3000, "mine.yaml: lists and sections must be at most 20 deep"),
        (
            "student: &a [&b [&c [1]], *b]\nepochs: [" + "*a, " * 3000 + "]",
            "mine.yaml: aliases (`*name`) must stand for at most",
        ),
        ("student: a\nepochs: [*x]\n", "is not valid YAML: found undefined alias 'x' (line 2, column 10)"),
        ("student: a\noutput: 2020-13-45\n", "is not valid YAML: month must be in 1..12"),
        ("- student\n", "must hold `key: value` lines, got list."),
        ("student: [a\n", "is not valid YAML"),
        ("student: a\nmetod: kd\n", "unknown key `metod`. Did you mean `method`?"),
        ("student: a\nmethod: {top_k: 3}\n", "`method` must hold a `name` beside its options."),
        ("student: a\nmethods: [kd]\n", "`methods` must be a section"),
        ("student: a\nmethods: {kd: 3}\n", "`methods.kd` must be options"),
        ("student: a\nteacher_training: {teacher: b}\n", "`teacher_training`: unknown key `teacher`"),
    ],
)
def test_a_broken_recipe_is_refused(tmp_path, text, message):
    assert any(message in problem for problem in problems([write(tmp_path, text)]))


def test_values_are_shown_in_short(tmp_path):
    problem = problems([write(tmp_path, f"student: a\nmethod: ce\nepochs: {[[[1000] * 50] * 5] * 20}\n")])[0].partition("mine")[
        2
    ]
    assert "`epochs` must be a whole number, got [[[1000, 1000, " in problem
    assert len(problem) < 300


def test_unknown_recipe_names_the_nearest():
    assert "Did you mean `cifar100/vgg13-vgg8`?" in problems(["cifar100/vgg13-vgg9"])[0]
    assert "Did you mean `cifar100/vgg13-vgg8`?" in problems(["vgg13-vgg8"])[0]
    assert "there is no recipe file digit.yaml. Did you mean `digits`?" in problems(["digit.yaml"])[0]
