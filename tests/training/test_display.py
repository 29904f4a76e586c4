import io

from rich.console import Console

from logitkd.training.display import Bar, Lines, clock, make_display

LINE = {
    "epoch": 2,
    "lr": 0.05,
    "loss": 1.25,
    "train": {"top1": 41.5},
    "split": "test",
    "eval": {"top1": 40.25},
    "best": {"top1": 43.5, "epoch": 1},
    "images_per_second": 812.4,
    "seconds": 12.0,
    "eta": 61.0,
}


def play(display):
    display.start("student kd", 3, 10, 10)
    display.step(2, 15, {"lr": 0.05, "loss": 1.25, "train_top1": 41.5, "images_per_second": 812.4, "eta": 61.0})
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
    for part in ("student kd", "epoch 3/3", "loss 1.250", "train 41.5", "eval 40.25", "best 43.50", "lr 0.05", "img/s 812"):
        assert part in text
    assert "ETA 1:01" in text
    assert "a [word] to say" in text


def test_bar_fits_a_narrow_terminal():
    screen = io.StringIO()
    play(Bar(Console(file=screen, force_terminal=True, width=60, color_system=None)))
    last = screen.getvalue().replace("\r", "\n").splitlines()[-2]
    assert "epoch 3/3" in last
    assert "eval 40.25  ETA 1:01" in last
    assert "lr" not in last


def test_no_bar_without_a_terminal(capsys):
    assert isinstance(make_display(quiet=False), Lines)
    assert isinstance(make_display(quiet=True), Lines)


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3600)] == ["0:00", "1:00", "1:00:00"]
