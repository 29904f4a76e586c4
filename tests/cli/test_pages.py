"""The help pages: which flags they show, in whose words, and how wide they are."""

import re
from typing import Literal, get_args, get_origin

import pytest

from logitkd.cli import COMMANDS, commands, main, pages
from logitkd.cli.options import train_flags
from logitkd.runs.settings import Setting

FLAGS = train_flags()


def shown(page):
    return [line.split()[0] for line in page.splitlines() if re.match(r"  --\w", line)]


def test_training_leads_with_the_fifteen_flags_people_use():
    page = commands.page("train")
    first = [key for key in pages.FIRST if key in FLAGS]
    assert shown(page) == ["--" + key.removesuffix(".name") for key in first]
    assert len(first) == len(set(first)) == 15
    assert f"`--help-all` shows all {len(FLAGS)} flags." in page
    assert set(pages.FIRST) <= FLAGS.keys() | train_flags("text").keys() | train_flags("segmentation").keys()


@pytest.mark.parametrize("arguments", [["--task", "text"], ["text/banking77"], ["--quiet", "text/banking77"]])
def test_texts_have_flags_and_defaults_of_their_own(arguments):
    page = commands.page("train", arguments)
    assert {"--data.source", "--data.text_columns", "--data.max_length"} < set(shown(page))
    assert "--data.image_size" not in shown(page)
    defaults = dict(re.findall(r"\n  --(epochs|batch_size|optim\.lr|data\.max_length) [^(]*\([^)]*default ([^)]*)\)", page))
    assert defaults == {"epochs": "3", "batch_size": "32", "optim.lr": "5e-05", "data.max_length": "128"}
    assert "default )" not in page
    every = commands.page("train", [*arguments, "--help-all"])
    assert {"--student.layers", "--optim", "--schedule.warmup"} < set(shown(every))
    assert "default adamw" in every
    assert "default linear" in every


def test_a_flag_to_lead_with_that_does_not_exist_is_an_error():
    with pytest.raises(KeyError, match="epoch"):
        pages.render("text", {"epochs": Setting("epochs", int, 1, "")}, ["epoch"])


def test_help_all_shows_every_flag_once(capsys):
    assert main(["train", "--help-all"]) == 0
    page = capsys.readouterr().out
    assert sorted(shown(page)) == sorted("--" + key.removesuffix(".name") for key in FLAGS)
    assert "\noptim: the optimizer:\n" in page
    assert "--help-all" not in page


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "list"])
def test_no_programmers_types(command):
    page = commands.page(command, ["--help-all"])
    wrong = (
        "Literal",
        "tuple",
        "None",
        "null",
        "NoneType",
        "Optional",
        "(type",
        " bool",
        " int)",
        " str",
        "float,",
        "True",
        "False",
    )
    assert [word for word in wrong if word in page] == []


def test_types_defaults_and_choices_in_a_persons_words():
    page = " ".join(commands.page("train", ["--help-all"]).split())
    for part in (
        "--epochs passes over the training split (a whole number; default 240)",
        "--optim.clip_grad largest gradient norm; none leaves gradients alone (a number) ",
        "--optim sgd or adamw (default sgd)",
        "--quiet plain log lines instead of a progress bar (true | false; default false)",
        "(student | teacher; default student)",
        "([a number, ...]; default [0.625, 0.75, 0.875])",
        "their numbers, from 1: [2, 3] ([a whole number, ...]; default all)",
    ):
        assert part in page


def test_choices_are_listed_once():
    columns = 10_000  # a line a flag
    page = pages.render("", FLAGS, columns=columns)
    for key, setting in FLAGS.items():
        if get_origin(setting.type) is Literal:
            (line,) = (line for line in page.splitlines() if line.split()[:1] == ["--" + key.removesuffix(".name")])
            listed = [line.count(joint.join(get_args(setting.type))) for joint in (" | ", " or ")]
            assert sum(listed) <= 1, line
            assert all(choice in line for choice in get_args(setting.type)), line


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
@pytest.mark.parametrize("command", COMMANDS)
def test_pages_wrap_to_the_width_there_is(command, columns, monkeypatch):
    monkeypatch.setattr(pages, "width", lambda: columns)
    text = getattr(pages, command.upper())
    by_hand = {line for line in [*pages.MAIN.splitlines(), *text.splitlines()] if line.startswith(" ")}  # commands, tables
    for page in (commands.page(command, ["--help-all"]), commands.page(command), pages.render(pages.MAIN, {})):
        wide = [line for line in page.splitlines() if len(line) > columns and line not in by_hand]
        assert [line for line in wide if " " in line.strip()] == []  # a word alone is not broken
        assert page.endswith("\n")
    assert max(map(len, by_hand)) <= 100


def test_a_pipe_has_100_columns_and_a_terminal_its_own(monkeypatch):
    monkeypatch.setenv("COLUMNS", "77")
    assert pages.width() == 100
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert pages.width() == 77


def test_short_code_is_not_broken_over_lines():
    page = pages.render("Say `logitkd list METHOD` or `--quiet true` to see it.", {}, columns=24)
    assert page == "Say\n`logitkd list METHOD` or\n`--quiet true` to see\nit.\n"
