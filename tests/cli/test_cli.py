"""The command line as a person meets it: pages, listings, exit codes, and one real run of it from teacher to evaluation."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from logitkd import __version__
from logitkd.cli import main


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def logitkd(*arguments, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "logitkd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)


@pytest.mark.parametrize("words", [[], ["--help"], ["--help-all"], ["help"]])
def test_the_main_page_names_every_command(words, capsys):
    assert main(words) == 0
    page = capsys.readouterr().out
    assert all(f"\n  {name} " in page for name in ("demo", "train", "eval", "predict", "show", "export", "list"))


def test_help_and_version_come_without_torch():
    code = "import sys; from logitkd.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    for words in (
        ["--help"],
        ["--version"],
        *([name, "--help"] for name in ("train", "eval", "predict", "show", "export", "demo", "list")),
    ):
        assert subprocess.run([sys.executable, "-c", code, *words], capture_output=True, timeout=60).returncode == 0


def test_help_of_a_command_comes_without_the_heavy_packages():
    code = (
        "import sys; from logitkd.cli import main; main(['train', '--help']);"
        "sys.exit(any(name in sys.modules for name in ('timm', 'datasets', 'accelerate', 'torchmetrics', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"logitkd {__version__}\n"


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("train", ["--method.OPTION VALUE", "--optim.lr", "--quiet", "--help-all", "examples a step", "default 240"]),
        ("eval", ["--model", "--data.source", "--teacher.checkpoint"]),
        ("predict", ["--format", "--top", "--output", "RUN FILES..."]),
        ("show", ["--count", "--output", "--teacher.checkpoint", "--data.source", "default 12"]),
        ("export", ["--output", "--format", "logitkd[export]", "default safetensors,onnx,torch_export"]),
        ("demo", ["--seed", "--epochs", "--quiet"]),
        ("list", ["logitkd list METHOD", "logitkd list recipes"]),
    ],
)
def test_pages_of_the_commands(command, parts, capsys):
    assert main([command, "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert all(part in page for part in parts)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command `trian`. Did you mean `train`?"),
        (["list", "gdk"], "Did you mean `gdkd`?"),
        (["list", "models", "zzzz"], "no network has `zzzz`"),
        (["list", "kd", "dkd"], "one thing at a time"),
        (["demo", "--epochs", "x"], "`epochs` must be a whole number or null, got 'x'."),
        (["demo", "digits"], "`digits` is not expected here."),
        (["eval"], "a run folder or a checkpoint must be given"),
        (["eval", "gone"], "`gone` is neither a run folder nor a checkpoint"),
        (["eval", "gone", "--batch", "3"], "unknown option `--batch`. Did you mean `--batch_size`?"),
        (["predict"], "a run folder and files must be given: `logitkd predict RUN FILES...`, got none."),
        (["predict", "run"], "`logitkd predict RUN FILES...`, got a run alone."),
        (["predict", "run", "a.png", "--format", "xml"], "`format` must be one of 'csv', 'json', got 'xml'."),
        (["train"], "`student` must be given, or a recipe"),
        (["train", "mine\udce9.yaml"], "`argument 1` must be UTF-8 text without null bytes, got 'mine\\udce9.yaml'."),
        (
            ["train", "--student", "a", "--output", "o\udce9"],
            "`output` must be UTF-8 text without null bytes, got 'o\\udce9'.",
        ),
        (["train", "--teacher", "a" * 300], "`teacher.name` must have at most 255 bytes between two slashes, got 300 in 'aaaa"),
        (["eval", "a" * 300], "`argument 1` must have at most 255 bytes between two slashes, got 300"),
        (["export", "gone\udce9"], "`argument 1` must be UTF-8 text"),
        (["export", "gone", "--output", "a" * 300], "`output` must have at most 255 bytes"),
        (["demo", "--output", "a" * 300], "`output` must have at most 255 bytes"),
        (["demo", "--output", "o\udce9"], "`output` must be UTF-8 text"),
        (["train", "--teachr", "resnet18"], "unknown option `--teachr`. Did you mean `--teacher`?"),
        (["train", "--seed", "1", "--quiet", "--seed=2"], "`--seed` is given twice, as '1' and '2'. Leave one out."),
        (["train", "--optim", "sgd", "--optim.name", "sgd"], "`--optim.name` is given twice, as 'sgd' and 'sgd'."),
        (["train", "--method.top_k", "3", "--method.top_k", "4"], "`--method.top_k` is given twice, as '3' and '4'."),
        (["eval", "gone", "--latency", "--latency", "false"], "`--latency` is given twice, as 'true' and 'false'."),
        (["export", "gone", "--output", "a", "--output", "b"], "`--output` is given twice, as 'a' and 'b'."),
    ],
)
def test_usage_errors_leave_with_2(words, message, capsys):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_run_errors_leave_with_1_and_a_traceback_only_when_asked(tmp_path, capsys, monkeypatch):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
    words = ["train", "--student", "cifar_resnet8", "--method", "ce", "--data.source", str(tmp_path)]
    assert main(words) == 1
    assert "logitkd train: split `train` of" in capsys.readouterr().err
    monkeypatch.setenv("LOGITKD_TRACEBACK", "1")
    with pytest.raises(ValueError, match="is empty"):
        main(words)


def test_an_sgd_rate_for_adamw_is_pointed_out_once(capsys):
    words = "train digits --method ce --optim adamw --epochs 1 --data.train_per_class 1 --device cpu --quiet"
    assert main(words.split()) == 0
    assert capsys.readouterr().err.count("warning: `optim.lr` should be lower for `adamw`, got 0.05") == 1


def test_a_reader_that_leaves_early_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "logitkd", "list"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_teacher_student_and_evaluation(empty_folder, capsys):
    """What the README tells a reader to do, at its smallest."""
    assert main(["train", "digits", "--method", "dkd"]) == 2
    (command,) = [line.split() for line in capsys.readouterr().err.splitlines() if line.startswith("    ")]
    short = ["--epochs", "2", "--data.train_per_class", "10"]
    assert main([*command[1:], *short]) == 0
    taught = "runs/digits/cifar_resnet20/ce-train_per_class10-epochs2-seed0"
    assert main(["train", "digits", "--method", "dkd"]) == 2  # which is not what it asked for
    assert f"Trained with other settings: {taught}." in capsys.readouterr().err
    learnt = logitkd("train", "digits", "--method", "dkd", "--method.warmup_epochs", "1", *short)
    assert learnt.returncode == 0, learnt.stderr
    assert f"teacher: cifar_resnet20 from {taught}, top-1 " in learnt.stderr
    folder = empty_folder / "runs/digits/dkd-warmup_epochs1-train_per_class10-epochs2-seed0"
    assert (folder / "student.safetensors").exists()
    run = yaml.safe_load((folder / "config.yaml").read_text())
    assert run["method"]["beta"] == 2
    assert run["method"]["warmup_epochs"] == 1

    capsys.readouterr()
    assert main(["eval", str(folder), taught]) == 0
    table = capsys.readouterr().out.splitlines()
    top1 = next(line.split()[2] for line in learnt.stdout.splitlines() if line.startswith("last epoch"))
    assert table[0].split() == ["student", "data", "top-1", "top-5", "agreement", "ECE", "teacher", "top-1"]
    assert table[1].split()[4] == top1
    assert [row.split()[:3] for row in table[6:]] == [
        ["cifar_resnet8", "student", "78,042"],
        ["cifar_resnet20", "teacher", "272,474"],
        ["cifar_resnet20", "student", "272,474"],
    ]
    weights = ["eval", str(folder / "student.safetensors"), "--model", "cifar_resnet8", "--data.source", "digits"]
    assert main([*weights, "--teacher.checkpoint", taught]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1:] == table[1].split()[1:]


def test_a_stopped_run_says_how_to_go_on(empty_folder):
    command = [sys.executable, "-m", "logitkd", "train", "digits", "--method", "ce", "--epochs", "100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    metrics = empty_folder / "runs/digits/ce-epochs100000-seed0/metrics.jsonl"
    for _ in range(600):
        if metrics.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Run the same command again to go on." in errors
    assert "Traceback" not in errors


def test_ones_own_module_is_found_where_one_works(empty_folder):
    """The console script does not put the working folder on the path, as ``python -m`` does; ``-P`` is like it."""
    (empty_folder / "mynet.py").write_text(
        "from torch import nn\n\n\ndef net(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))\n"
    )
    words = ["train", "digits", "--student", "mynet:net", "--method", "ce", "--epochs", "1"]
    done = subprocess.run([sys.executable, "-P", "-m", "logitkd", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "seed 0, 1 epoch\n" in done.stdout
