import io
import re

import pytest
from rich.console import Console

from logitkd.training.display import Bar, Lines, clock, make_display

LINE = {
    "epoch": 2,
    "lr": 0.05,
    "loss": 1.25,
    "train": {"top1": 41.5},
    "split": "test",
    "eval": {"top1": 40.25},
    "headline": "top1",
    "units": "images",
    "best": {"top1": 43.5, "epoch": 1},
    "examples_per_second": 812.4,
    "seconds": 12.0,
    "eta": 61.0,
}


PARTS = ["epoch 3/3", "eval 40.25", "best 43.50", "ETA 1:01", "loss 1.250", "ex/s 812", "train 41.5", "lr 0.05"]


def play(display, title="student kd", epochs=3):
    display.start(title, epochs, 10, 10)
    display.step(2, 15, {"lr": 0.05, "loss": 1.25, "train": 41.5, "examples_per_second": 812.4, "eta": 61.0})
    display.epoch(LINE)
    display.note("a [word] to say")
    display.step(3, 21, {"lr": 0.05})
    display.stop()
    display.stop()


def test_lines(capsys):
    play(Lines())
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "student kd: going on after step 10 of 30",
        "epoch 2/3  lr 0.05  loss 1.2500  train 41.50  test 40.25  best 43.50 (epoch 1)  812 images/s  12.0 s  ETA 1:01",
        "a [word] to say",
    ]


def test_bar_shows_what_a_person_watches():
    screen = io.StringIO()
    play(Bar(Console(file=screen, force_terminal=True, width=160, color_system=None)))
    text = screen.getvalue()
    for part in ("student kd", "epoch 3/3", "loss 1.250", "train 41.5", "eval 40.25", "best 43.50", "lr 0.05", "ex/s 812"):
        assert part in text
    assert "ETA 1:01" in text
    assert "a [word] to say" in text


def last_line(width, title="student kd", epochs=3):
    """Return the bar as it stands in the end on a terminal of ``width`` columns."""
    screen = io.StringIO()
    bar = Bar(Console(file=screen, force_terminal=True, width=width, color_system=None))
    play(bar, title, epochs)
    lines = screen.getvalue().replace("\r", "\n").splitlines()
    assert max(map(len, map(without_codes, lines))) <= width
    return without_codes(lines[-2])


def without_codes(text):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize(
    "title", ["student kd", "cifar_resnet8x4 gdkd", "transformers:microsoft/resnet-18-of-a-long-name icd-gdkd"]
)
def test_the_bar_uses_the_width_there_is(width, title):
    line = last_line(width, title, epochs=240)
    assert len(line) == width
    assert "epoch 3/240" in line
    assert "ETA 1:01" in line


def test_a_wider_terminal_shows_more_numbers_then_a_longer_bar():
    numbers = {width: [part for part in PARTS if part in last_line(width)] for width in (60, 80, 120, 200)}
    assert numbers[60] == ["epoch 3/3", "eval 40.25", "ETA 1:01"]
    assert numbers[80] == ["epoch 3/3", "eval 40.25", "best 43.50", "ETA 1:01", "loss 1.250"]
    assert numbers[120] == numbers[200] == PARTS
    drawn = {width: sum(last_line(width).count(piece) for piece in "━╸╺") for width in (120, 160, 200)}  # of 21 steps in 30
    assert drawn[160] >= drawn[120] + 20
    assert drawn[200] == drawn[160] + 40 * 21 // 30


def test_the_bar_keeps_its_length_while_numbers_come():
    screen = io.StringIO()
    bar = Bar(Console(file=screen, force_terminal=True, width=160, color_system=None))
    bar.start("student kd", 3, 10, 10)
    drawn = []
    for numbers in ({"lr": 0.05}, {"lr": 0.0004, "loss": 1.25, "train": 100.0, "examples_per_second": 81.4, "eta": 36100.0}):
        screen.seek(0)
        screen.truncate()
        bar.step(2, 15, numbers)
        bar.bar.refresh()
        drawn.append(sum(screen.getvalue().splitlines()[-1].count(piece) for piece in "━╸╺"))
    bar.stop()
    assert drawn[0] == drawn[1] > 20


def test_no_bar_without_a_terminal(capsys):
    assert isinstance(make_display(quiet=False), Lines)
    assert isinstance(make_display(quiet=True), Lines)


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3600)] == ["0:00", "1:00", "1:00:00"]
