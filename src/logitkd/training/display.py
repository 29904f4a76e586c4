"""What a person watching a run sees: one bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

__all__ = ["Bar", "Display", "Lines", "clock", "make_display"]


class Display(Protocol):
    """Receives a run's news. All numbers are plain Python ones."""

    def start(self, title: str, epochs: int, steps: int, done: int, about: str = "") -> None:
        """A run of ``epochs`` times ``steps`` begins, ``done`` of these steps already taken; ``about`` says on what data."""

    def step(self, epoch: int, done: int, numbers: dict[str, float]) -> None:
        """``done`` steps of the run are taken; ``numbers`` may hold loss, train, examples_per_second, lr, eta."""

    def epoch(self, line: dict[str, Any]) -> None:
        """An epoch is finished and evaluated.

        ``line`` is what ``metrics.jsonl`` got, and ``headline``, which metric a person asks for, ``units``, what examples are
        called, and ``eta``, in seconds.
        """

    def note(self, message: str) -> None:
        """Say something that is not a number."""

    def stop(self) -> None:
        """The run has ended, for whatever reason."""


def clock(seconds: float) -> str:
    """Return ``seconds`` as hours, minutes and seconds.

    >>> clock(59), clock(3723)
    ('0:59', '1:02:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Lines:
    """One plain line an epoch on standard error."""

    def __init__(self) -> None:
        self.epochs = 0

    def start(self, title: str, epochs: int, steps: int, done: int, about: str = "") -> None:
        """Print what runs."""
        self.epochs = epochs
        if about:
            self.note(about)
        self.note(title if not done else f"{title}: going on after step {done} of {epochs * steps}")

    def step(self, epoch: int, done: int, numbers: dict[str, float]) -> None:
        """Print nothing."""

    def epoch(self, line: dict[str, Any]) -> None:
        """Print the epoch's numbers."""
        headline = line["headline"]
        train = f"train {line['train'][headline]:.2f}  " if headline in line["train"] else ""  # nothing without labels
        self.note(
            f"epoch {line['epoch']}/{self.epochs}  lr {line['lr']:.4g}  loss {line['loss']:.4f}  "
            f"{train}{line['split']} {line['eval'][headline]:.2f}  "
            f"best {line['best'][headline]:.2f} (epoch {line['best']['epoch']})  "
            f"{line['examples_per_second']:.0f} {line['units']}/s  {line['seconds']:.1f} s  ETA {clock(line['eta'])}"
        )

    def note(self, message: str) -> None:
        """Print ``message``."""
        print(message, file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Print nothing."""


# key, label, format, in the order shown; the rank says what stays when the terminal is narrow
_FIELDS = (
    ("epoch", "epoch", "", 0),
    ("loss", "loss", ".3f", 4),
    ("train", "train", ".1f", 6),
    ("eval", "eval", ".2f", 2),
    ("best", "best", ".2f", 3),
    ("lr", "lr", ".4g", 7),
    ("examples_per_second", "ex/s", ".0f", 5),
    ("eta", "ETA", "", 1),
)


_NUMBERS_AT_LEAST, _BAR_AT_LEAST = 36, 6  # columns: room for the two most important numbers, and a bar one can see move


class _Widths:
    """How the columns of a terminal are shared, asked at each look, as its size may change.

    The numbers get the room that all of them can need, or all there is beside the title and a short bar; the bar the rest. So
    it keeps its length while they change.
    """

    def __init__(self, console: Console, title: str, epochs: int) -> None:
        self.console, self.title = console, title
        widest = (f"epoch {epochs}/{epochs}", "loss 1000.000", "train 100.0", "eval 100.00", "best 100.00", "lr 0.0001234",
                  "ex/s 100000", "ETA 10:00:00")  # fmt: skip
        self.all_numbers = len("  ".join(widest))

    @property
    def free(self) -> int:
        return max(self.console.width - len(self.title) - 2, 0)  # a space between two columns

    @property
    def numbers(self) -> int:
        return max(min(self.all_numbers, self.free - _BAR_AT_LEAST), 0)

    @property
    def bar(self) -> int:
        return max(self.free - self.numbers, 1)


class _FittedBar(BarColumn):
    """The bar, as long as there is room for."""

    def __init__(self, widths: _Widths) -> None:
        super().__init__()
        self.widths = widths

    def render(self, task: Task) -> ProgressBar:
        self.bar_width = self.widths.bar
        return super().render(task)


class _Numbers(ProgressColumn):
    """The run's numbers, as many as there is room for, the most important first."""

    max_refresh = 0.2

    def __init__(self, widths: _Widths) -> None:
        super().__init__()
        self.widths = widths

    def render(self, task: Task) -> Text:
        parts = {
            key: f"{label} {format(task.fields[key], form)}"
            for key, label, form, _ in _FIELDS
            if task.fields.get(key) is not None
        }
        width = self.widths.numbers
        room, chosen = width + 2, set()  # no space before the first
        for key, _, _, _ in sorted((field for field in _FIELDS if field[0] in parts), key=lambda item: item[3]):
            room -= len(parts[key]) + 2
            if room < 0:
                break
            chosen.add(key)
        return Text("  ".join(text for key, text in parts.items() if key in chosen).ljust(width), no_wrap=True)


class Bar:
    """One progress bar for the whole run, over the whole width of the console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def start(self, title: str, epochs: int, steps: int, done: int, about: str = "") -> None:
        """Show the bar."""
        self.epochs = epochs
        if about:
            self.note(about)
        most = max(self.console.width - _NUMBERS_AT_LEAST - _BAR_AT_LEAST - 2, 10)
        title = title if len(title) <= most else title[: most - 1] + "…"
        widths = _Widths(self.console, title, epochs)
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            _FittedBar(widths),
            _Numbers(widths),
            console=self.console,
            refresh_per_second=4,
        )
        self.task = self.bar.add_task(title, total=epochs * steps, completed=done)
        self.bar.start()

    def step(self, epoch: int, done: int, numbers: dict[str, float]) -> None:
        """Move the bar."""
        shown: dict[str, Any] = dict(numbers)
        if "eta" in shown:
            shown["eta"] = clock(shown["eta"])
        self.bar.update(self.task, completed=done, epoch=f"{epoch}/{self.epochs}", **shown)

    def epoch(self, line: dict[str, Any]) -> None:
        """Show the evaluation's headline."""
        self.bar.update(self.task, eval=line["eval"][line["headline"]], best=line["best"][line["headline"]])

    def note(self, message: str) -> None:
        """Print ``message`` above the bar."""
        self.console.print(message, highlight=False, markup=False)

    def stop(self) -> None:
        """Leave the bar as it stands."""
        if hasattr(self, "bar"):
            self.bar.stop()


def make_display(quiet: bool) -> Display:
    """Return a bar on a terminal, plain lines elsewhere or when ``quiet``."""
    console = Console(stderr=True)
    return Lines() if quiet or not console.is_terminal else Bar(console)
