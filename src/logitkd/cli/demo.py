"""``logitkd demo``: the whole library on the digits that ship with it, in about a minute, offline.

One teacher, then one student a method: same weights at the start, same five scans of each digit, same order and crops. The
settings are the recipe ``digits``: a budget that leaves the student room to learn, and loss weights of a papers' pair. The
seed is not chosen, and one seed is what it is, so the noise is printed too.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from logitkd import methods as table
from logitkd.data import load_images
from logitkd.files import check_output
from logitkd.runs.config import TrainConfig
from logitkd.runs.folder import CONFIG
from logitkd.runs.plan import plan
from logitkd.training.folder import RunFolder
from logitkd.training.train import RunResult, train

__all__ = ["METHODS", "Demo", "refuse_foreign", "run_demo"]

METHODS = ("ce", "kd", "dkd", "gdkd", "ldrld", "sdd-kd", "icd-kd")


@dataclass(frozen=True)
class Demo:
    """What a demo came to: the teacher's and each student's result, in order, and the table's numbers about the data."""

    folder: Path
    teacher: RunResult
    students: dict[str, RunResult]
    train_per_class: int | None
    test_images: int

    @property
    def standard_error(self) -> float:
        """Percent points that the accuracy of the median student moves by the choice of the test images alone."""
        shares = sorted(result.top1 / 100 for result in self.students.values())
        share = shares[len(shares) // 2]
        return 100 * math.sqrt(share * (1 - share) / self.test_images)

    def note(self) -> str:
        """Say how far the table can be trusted."""
        error = self.standard_error
        return (
            f"Accuracy in percent on {self.test_images} test scans; agreement: the share answered as the teacher does.\n"
            f"One run each: the choice of test scans alone moves an accuracy by about {error:.1f} (one standard error), and"
            f" another --seed moves it too,\nso differences below about {2 * math.sqrt(2) * error:.0f} points say nothing"
            " about which method is better."
        )

    def rows(self) -> list[list[str]]:
        """Return the table: who, accuracy, agreement with the teacher, parameters, seconds."""
        named = {"teacher": self.teacher, **self.students}
        return [
            [
                "student alone (ce)" if name == "ce" else name,
                f"{result.top1:.1f}",
                f"{result.metrics['agreement']:.1f}" if "agreement" in result.metrics else "-",
                f"{result.parameters:,}",
                f"{result.seconds:.1f}",
            ]
            for name, result in named.items()
        ]


def run_demo(
    output: Path, *, seed: int = 0, epochs: int | None = None, methods: Sequence[str] = METHODS, quiet: bool = False
) -> Demo:
    """Train the teacher and the students in folders under ``output``; what is there already is not trained again.

    Args:
        output: holds a run folder each.
        seed: of every run.
        epochs: at most so many in every run, for a quick look; by default the recipe's.
        methods: the students to train.
        quiet: a line a run instead of progress bars.

    Raises:
        SettingsError: a seed or a number of epochs that no run can have.
        FileExistsError: ``output`` holds what no demo wrote.
    """
    refuse_foreign(output, methods)
    home = output / "teacher"
    common: dict[str, Any] = {"seed": seed, "device": "cpu"}
    plan("digits", "ce", overrides=common if epochs is None else {**common, "epochs": epochs})
    teaching = _shorten(plan("digits", role="teacher", overrides={**common, "output": str(home)}), epochs)
    students: dict[str, RunResult] = {}
    with _one_thread(), _warning_once(), _Board(["teacher", *methods], quiet) as board:
        teacher = train(teaching, display=board.row("teacher", home))
        board.finish("teacher", teacher)
        for method in methods:
            learning = {**common, "teacher.checkpoint": str(home), "output": str(output / method)}
            config = _shorten(plan("digits", method, overrides=learning), epochs)
            students[method] = train(config, display=board.row(method, output / method))
            board.finish(method, students[method])
    return Demo(output, teacher, students, config.data.train_per_class, len(load_images(teaching.data).eval))


def refuse_foreign(output: Path, methods: Sequence[str] = METHODS) -> None:
    """Refuse a folder of something else, before anything is printed or trained.

    Raises:
        FileExistsError: it is neither empty nor a demo's, or a folder in it that a run would be in is no run's.
        NotADirectoryError: it is no folder.
        ValueError: it is no name of a folder.
    """
    check_output(output)
    runs = ["teacher", *methods]
    if output.exists() and not (output / "teacher" / CONFIG).exists():  # else a demo's, whatever was put beside its runs
        foreign = sorted(path.name for path in output.iterdir() if path.name not in runs)
        if foreign:
            raise FileExistsError(
                f"`output` must be a new folder or an earlier demo's, but {output} holds {foreign[0]}, which no demo wrote. "
                "Give another path."
            )
    for name in runs:
        RunFolder(output / name).refuse_foreign()


def _shorten(config: TrainConfig, epochs: int | None) -> TrainConfig:
    """Return the run cut down to ``epochs``, the warm-up of its loss by the same factor."""
    if epochs is None or epochs >= config.epochs:
        return config
    warmup = table.get(config.method).replace(**config.method_options).warmup_epochs * epochs // config.epochs
    return replace(config, epochs=epochs, method_options={**config.method_options, "warmup_epochs": warmup})


@contextmanager
def _one_thread() -> Iterator[None]:
    """Images of 8x8 pixels give a second thread nothing to do, and results then do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _warning_once() -> Iterator[None]:
    """Show each warning once, not once a run: the students' settings are alike."""
    seen: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def once(message: Warning | str, *rest: Any) -> None:
            if str(message) not in seen:
                seen.add(str(message))
                show(message, *rest)

        warnings.showwarning = once  # type: ignore[assignment]
        yield


class _Board:
    """One progress bar a run on a terminal, one line a finished run elsewhere; what several runs say is printed once."""

    def __init__(self, names: Sequence[str], quiet: bool) -> None:
        console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[said]:<24}"),
            TimeElapsedColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self.tasks = {name: self.bars.add_task(name, total=None, start=False, said="") for name in names}
        self.notes: set[str] = set()

    def __enter__(self) -> _Board:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def row(self, name: str, folder: Path) -> _Row:
        return _Row(self, self.tasks[name], folder)

    def note(self, message: str, folder: Path) -> None:
        """Print what the run in ``folder`` says, unless another has said the same of its own folder."""
        alike = message.replace(str(folder), "")
        if alike not in self.notes:
            self.notes.add(alike)
            self.bars.console.print(message, markup=False, highlight=False)

    def finish(self, name: str, result: RunResult) -> None:
        said = f"accuracy {result.top1:.1f}" + (", trained earlier" if result.resumed_finished else "")
        task = self.bars.tasks[self.tasks[name]]
        total = task.total or 1
        self.bars.update(self.tasks[name], total=total, completed=total, said=said)
        if self.bars.disable:
            print(f"{name}: {said}, {result.seconds:.1f} s", file=sys.stderr, flush=True)


class _Row:
    """The news of one run, shown in its bar."""

    def __init__(self, board: _Board, task: TaskID, folder: Path) -> None:
        self.board, self.bars, self.task, self.folder = board, board.bars, task, folder

    def start(self, title: str, epochs: int, steps: int, done: int, about: str = "") -> None:
        self.bars.start_task(self.task)
        self.bars.update(self.task, total=epochs * steps, completed=done)

    def step(self, epoch: int, done: int, numbers: dict[str, float]) -> None:
        self.bars.update(self.task, completed=done)

    def epoch(self, line: dict[str, Any]) -> None:
        self.bars.update(self.task, said=f"accuracy {line['eval']['top1']:.1f}")

    def note(self, message: str) -> None:
        self.board.note(message, self.folder)

    def stop(self) -> None:
        self.bars.stop_task(self.task)
