"""One run: its parts put together, its loop over epochs and steps."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from accelerate import Accelerator

from logitkd.data import Batch
from logitkd.methods import Method
from logitkd.models import parameter_count
from logitkd.runs.config import TrainConfig
from logitkd.tasks.task import Meter, Stopped, Task, measure
from logitkd.training.checkpoint import Kept, student_bytes
from logitkd.training.display import Display
from logitkd.training.epoch_log import StepLog, epoch_line, flat_line
from logitkd.training.folder import RunFolder
from logitkd.training.generators import seed_generators
from logitkd.training.interrupt import Interrupted, StopSignals
from logitkd.training.preflight import live
from logitkd.training.provenance import commit, source_record, versions
from logitkd.training.pupil import Pupil, StepError, StepOutput

__all__ = ["Run"]

READ_EVERY = {"cpu": 10, "cuda": 50}  # steps between two looks at the losses; on a GPU each look waits for the device


class Run:
    """A run about to begin or to go on.

    Args:
        config: checked.
        method: resolved.
        task: loaded.
        folder: open and locked.
        accelerator: for this run alone.
        display: receives the news.
        record: the blocks ``run`` and ``method`` of ``config.yaml``.
    """

    def __init__(
        self,
        config: TrainConfig,
        method: Method,
        task: Task,
        folder: RunFolder,
        accelerator: Accelerator,
        display: Display,
        record: dict[str, Any],
    ) -> None:
        self.config, self.method, self.task, self.folder = config, method, task, folder
        self.accelerator, self.display = accelerator, display
        self.device = accelerator.device
        self.stops = StopSignals()

        ready = live(config, method, task, folder, self.device)
        student = ready.pair.student
        now: dict[str, dict[str, Any]] = {
            "versions": versions(task.packages),
            "source": source_record(config, student, ready.teacher),
        }
        if folder.begun():
            folder.warn_changes(now)
        else:  # new, or left by a start that failed
            folder.write_config({**record, **ready.record, **now, "commit": commit()})
            folder.write_assets(task.assets(student))
        self.loader = task.loader(train=True, device=self.device)
        self.eval_loader = task.loader(train=False, device=self.device)
        self.tutor = ready.tutor
        self.pupil = Pupil(config, method, task, ready.pair, accelerator, folder, len(self.loader))
        for note in filter(None, (_missing_note(task), ready.pair.note())):
            display.note(note)

        # The first that takes time: whatever may be refused was.
        self.teacher_meter: Meter | None = None
        self.teacher_score: float | None = None
        if ready.teacher is not None:
            with closing(self.eval_loader.epoch(1)) as batches:
                self.teacher_meter = measure(ready.teacher.logits, batches, task.meter(self.device))
            self.teacher_score = task.rate_teacher(self.teacher_meter)
            where = f"{task.split} ({task.eval_size:,} {task.units})"
            display.note(f"the teacher's own {task.title} on {where}: {self.teacher_score:.2f}")
        seed_generators(config.seed)  # dropout: the same stream whether or not a teacher was built above
        self.pupil.restore()
        self.sitting = (time.perf_counter(), self._done())

    def complete(self) -> dict[str, Any]:
        """Train to the end, write student and result, and return the result."""
        config, pupil = self.config, self.pupil
        if config.trackers:
            self.accelerator.init_trackers("trackers")
        title = f"{config.student.name} {self.method.name}"
        self.display.start(title, config.epochs, len(self.loader), self._done(), self.task.summary())
        try:
            with self.stops:
                while pupil.progress.epoch <= config.epochs:
                    with closing(self.loader.epoch(pupil.progress.epoch, start_step=pupil.progress.step)) as batches:
                        log = self._train_on(batches)  # closing ends the workers
                    self._end_epoch(log)
        finally:
            self.display.stop()
        student = pupil.pair.close()
        result = self._result(parameter_count(student))
        self.folder.write_result(student_bytes(student), result)
        if self.stops.received is not None:  # too late to stop this run, but what comes after it was to stop as well
            number = signal.Signals(self.stops.received)
            self.display.note(f"{number.name}: the run was at its end and is finished, in {self.folder.path}.")
            raise Interrupted(128 + number)
        return result

    def _train_on(self, batches: Iterable[Batch]) -> StepLog:
        progress, config = self.pupil.progress, self.config
        log = StepLog(1 if config.debug else READ_EVERY[self.device.type], progress.sums, self.task.headline)
        begun, before, seen = time.perf_counter(), (progress.seconds, progress.epoch_seconds), 0

        def settle() -> None:
            """Bring ``progress`` up to the present step."""
            log.read()
            progress.sums = log.sums
            spent = time.perf_counter() - begun
            progress.seconds, progress.epoch_seconds = before[0] + spent, before[1] + spent

        self.pupil.learner.train()
        for batch in batches:
            out = self._step(batch, log)
            seen += out.count
            numbers = {"lr": self.pupil.rate}
            if log.add(progress.epoch, progress.step, out):
                log.read()
                speed = seen / (time.perf_counter() - begun)
                numbers |= {"loss": log.means()["loss"], "examples_per_second": speed, "eta": self._eta()}
                scores = log.scores()
                numbers |= {"train": scores[self.task.headline]} if self.task.headline in scores else {}
            self.display.step(progress.epoch, self._done(), numbers)
            inside = progress.step < len(self.loader)
            if self.stops.received is not None:
                settle()
                self._interrupt()
            if config.checkpoint_every and inside and progress.step % config.checkpoint_every == 0:
                settle()
                self.pupil.save()
        settle()
        return log

    def _step(self, batch: Batch, log: StepLog) -> StepOutput:
        """Ask the teacher and let the pupil take one step."""
        progress = self.pupil.progress
        taught = None
        if self.tutor is not None:
            with self.accelerator.autocast():
                taught = self.tutor.teach(batch, progress.epoch)
        try:
            return self.pupil.step(batch, taught)
        except StepError as error:
            # On the CPU the losses look at the logits themselves; the reader should learn where in the run it was.
            log.read()
            log.refuse(progress.epoch, progress.step + 1, error.student_logits, error.teacher_logits)
            raise

    def _end_epoch(self, log: StepLog) -> None:
        config, task, student, progress = self.config, self.task, self.pupil.student, self.pupil.progress
        begun = time.perf_counter()
        kept = Kept.now(student, self.device)
        try:
            with closing(self.eval_loader.epoch(1)) as batches:
                meter = task.meter(self.device, self.teacher_meter)
                metrics = measure(student, batches, meter, stop=lambda: self.stops.received is not None).compute()
        except Stopped:
            kept.restore(student, self.device)  # the evaluation is done again, from its beginning
            self._interrupt()
        eval_seconds = time.perf_counter() - begun
        progress.seconds += eval_seconds
        score, split = metrics[task.headline], task.split
        if not progress.best or score > progress.best[task.headline]:
            progress.best = {task.headline: score, "epoch": progress.epoch, "split": split}
        evaluation = {"split": split, "eval": metrics, "best": progress.best}
        rate = self.pupil.rate_of(len(self.loader))
        line = epoch_line(progress.epoch, rate, log, evaluation, progress.epoch_seconds, eval_seconds)
        progress.metrics_size, progress.metrics_sha256 = self.folder.append_metrics(line)
        progress.last = line
        progress.epoch, progress.step, progress.epoch_seconds, progress.sums = progress.epoch + 1, 0, 0.0, {}
        self.pupil.save()
        if config.trackers:  # after the checkpoint: killed in between, a tracker lacks an epoch but never shows one twice
            self.accelerator.log(flat_line(line), step=line["epoch"])
        self.display.epoch(line | {"headline": task.headline, "units": task.units, "eta": self._eta()})
        if self.stops.received is not None and progress.epoch <= config.epochs:
            self._leave()

    def _result(self, parameters: int) -> dict[str, Any]:
        """Return ``result.json``: the last epoch's evaluation, the best epoch beside it, the teacher's own score."""
        config, headline, progress = self.config, self.task.headline, self.pupil.progress
        last = progress.last
        return {
            headline: last["eval"][headline],
            "headline": headline,
            "split": self.task.split,
            "epoch": config.epochs,
            "metrics": last["eval"],
            "train": last["train"],
            **({} if self.teacher_score is None else {f"teacher_{headline}": self.teacher_score}),
            "best": progress.best,
            "seconds": progress.seconds,
            "parameters": parameters,
            "method": config.method,
            "seed": config.seed,
        }

    def _interrupt(self) -> None:
        self.pupil.save()
        self._leave()

    def _leave(self) -> None:
        number = signal.Signals(self.stops.received or signal.SIGINT)
        self.display.stop()
        self.display.note(
            f"{number.name}: stopped after step {self._done()} of {self.config.epochs * len(self.loader)}; the "
            f"checkpoint is in {self.folder.path}. Run the same command again to go on."
        )
        raise Interrupted(128 + number)

    def _done(self) -> int:
        return (self.pupil.progress.epoch - 1) * len(self.loader) + self.pupil.progress.step

    def _eta(self) -> float:
        begun, done = self.sitting
        steps = self._done() - done
        left = self.config.epochs * len(self.loader) - self._done()
        return left * (time.perf_counter() - begun) / steps if steps else 0.0


def _missing_note(task: Task) -> str:
    """Say how many training labels are missing; nothing where none are."""
    if not task.unlabelled:
        return ""
    verb = "is" if task.unlabelled == 1 else "are"
    return (
        f"{task.unlabelled:,} of {task.train_size:,} training labels {verb} missing (null or -1): the cross-entropy reads the"
        " others"
    )
