"""train(): from a configuration to a trained student in its run folder; resumes exactly where it stood."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from logitkd import methods, tasks, tensor_checks
from logitkd.methods import Method
from logitkd.runs.config import TrainConfig
from logitkd.runs.folder import check_student_file
from logitkd.runs.naming import default_folder
from logitkd.runs.networks import ModelConfig, TeacherConfig
from logitkd.runs.rules import resolve_method
from logitkd.training.display import Display, make_display
from logitkd.training.folder import RunFolder
from logitkd.training.preflight import check_finished, check_views, static
from logitkd.training.processes import check_one_process

__all__ = ["RunResult", "train"]

# What may differ when a run is resumed: how it is shown and where it runs, not what comes out.
PRESENTATION = ("output", "device", "checkpoint_every", "trackers", "quiet", "debug", "method_options", "data.workers")

# What the settings of later versions mean to a run that began without them.
DEFAULTS = asdict(TrainConfig(ModelConfig(""), TeacherConfig("")))


@dataclass(frozen=True)
class RunResult:
    """What a finished run came to.

    Args:
        folder: the run folder.
        headline: name of the metric that a person asks for, the task's.
        metrics: the **last** epoch's evaluation, as the task's meter computes it; each is an attribute, too: ``result.loss``.
        best: the best epoch's headline, its ``epoch`` and the ``split`` it was chosen on.
        seconds: wall-clock seconds, over all sittings of the run.
        parameters: number of the student's parameters.
        teacher_score: the teacher's own headline; None where there was no teacher.
        resumed_finished: whether the folder already held the finished run and nothing was trained.
    """

    folder: Path
    headline: str
    metrics: dict[str, float]
    best: dict[str, Any]
    seconds: float
    parameters: int
    teacher_score: float | None = None
    resumed_finished: bool = False

    @property
    def score(self) -> float:
        """The last epoch's headline."""
        return self.metrics[self.headline]

    def __getattr__(self, name: str) -> float:
        """Return a metric by its name."""
        try:
            return self.__dict__["metrics"][name]
        except KeyError:
            there = ", ".join(self.__dict__.get("metrics", ()))
            raise AttributeError(f"a run's result has no `{name}`; its metrics are {there}.") from None


def train(config: TrainConfig, *, display: Display | None = None) -> RunResult:
    """Train a student and return its result; go on where an earlier, interrupted run in the same folder stood.

    Repeating a call after ``kill -9`` at any moment gives, on the CPU with the same number of threads, the very student
    of an uninterrupted run: weights, all buffers, the optimizer, and torch's, numpy's and Python's global random generators
    (which are seeded with ``config.seed``) are saved and restored. What a network keeps elsewhere is not, such as a counter
    in a plain attribute: keep it in a buffer (``register_buffer``; ``persistent=False`` will do). A change of the networks'
    own code between two sittings is warned of. A run that is already finished returns its result at once, its student's
    file compared with the hash in ``result.json``.

    Args:
        config: what to run.
        display: receives the run's news; by default a progress bar on a terminal, a line an epoch elsewhere.

    Returns:
        The result; the student is ``student.safetensors`` in its folder.

    Raises:
        ValueError: the configuration is wrong (all problems at once), the folder belongs to another run or a file in it
            was damaged or changed, or a launcher started several processes.
        OSError: the folder cannot be used, or a checkpoint could not be written.
        NonFiniteLossError: a term of the loss became NaN or infinite.
        Interrupted: a ``SystemExit`` with code 130 or 143: SIGINT or SIGTERM came, and a checkpoint, or if
            it was at its end the result, is written.
    """
    check_one_process()
    config = static(config)
    method = resolve_method(config)
    show = display or make_display(config.quiet)
    if config.labels == "none":
        show.note(labels_note(method))
    path = Path(config.output) if config.output is not None else default_folder(config)
    record = {"run": asdict(config), "method": {"name": method.name, **method.options}}
    with RunFolder(path) as folder:
        folder.check_same("run", record["run"], ignore=PRESENTATION, absent=DEFAULTS)
        folder.check_same("method", record["method"], absent=methods.get(config.method).options)
        task = tasks.get(config.task)(config)
        result = folder.result()
        if result is not None and not folder.student.exists():
            show.note(f"{path} holds this run's result but no {folder.student.name}: going on from its checkpoint.")
            result = None
        finished = result is not None
        if result is None:
            from logitkd.training.accelerator import open_accelerator  # with accelerate: a finished run needs none of it
            from logitkd.training.run import Run

            check_views(config, folder)
            task.load()
            with open_accelerator(config, path) as accelerator, _debugging(config.debug):
                result = Run(config, method, task, folder, accelerator, show, record).complete()
        else:
            check_student_file(path)
            check_finished(config, task, folder)
            show.note(f"{path} holds this run, finished: nothing to train.")
    headline = result.get("headline", task.headline)
    return RunResult(
        folder=path,
        headline=headline,
        metrics=result["metrics"],
        best=result["best"],
        seconds=result["seconds"],
        parameters=result["parameters"],
        teacher_score=result.get(f"teacher_{headline}"),
        resumed_finished=finished,
    )


@contextmanager
def _debugging(on: bool) -> Iterator[None]:
    if not on:  # a caller who has switched it on keeps it
        yield
        return
    tensor_checks.debug(True)
    try:
        yield
    finally:
        tensor_checks.debug(False)


def labels_note(method: Method) -> str:
    """Say what ``labels: none`` makes of a method.

    >>> labels_note(methods.get("sdd-kd").without_labels())
    'labels: none, so `sdd-kd` learns from the teacher alone: ce_weight 0.0, judge teacher'
    """
    options = ", ".join(f"{name} {value}" for name, value in method.label_free_options.items())
    return f"labels: none, so `{method.name}` learns from the teacher alone: {options}"
