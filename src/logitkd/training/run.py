"""One run: its parts put together, its loop over epochs and steps, its checkpoints."""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from logitkd.data import Batch, Loader, Mixing, load_images, make_loader
from logitkd.methods import Method
from logitkd.models import parameter_count
from logitkd.reach import Ensemble, Teacher
from logitkd.runs.config import TrainConfig
from logitkd.tasks.images import Stopped, evaluate_classifier, predict
from logitkd.training.checkpoint import (
    Kept,
    Progress,
    checkpoint_bytes,
    load_checkpoint,
    save_checkpoint,
    student_bytes,
)
from logitkd.training.display import Display
from logitkd.training.epoch_log import StepLog
from logitkd.training.folder import RunFolder
from logitkd.training.generators import seed_generators
from logitkd.training.interrupt import Interrupted, StopSignals
from logitkd.training.labels import check_training_labels, missing_note
from logitkd.training.networks import rate_teacher
from logitkd.training.optim import build_schedule, set_epoch
from logitkd.training.preflight import build_models, check_inputs, check_last_batch, check_regions, input_record
from logitkd.training.provenance import commit, versions
from logitkd.training.pupil import StepError, Stepper
from logitkd.training.results import epoch_line, flat_line, result_record
from logitkd.training.showing import check_input, check_learns, check_one_image, check_student
from logitkd.training.source import source_record

__all__ = ["Run"]

EVAL_BATCH = 256
READ_EVERY = {"cpu": 10, "cuda": 50}  # steps between two looks at the losses; on a GPU each look waits for the device


class Run:
    """A run about to begin or to go on.

    Args:
        config: checked.
        method: resolved.
        folder: open and locked.
        accelerator: for this run alone.
        display: receives the news.
        record: the blocks ``run`` and ``method`` of ``config.yaml``.
    """

    def __init__(
        self,
        config: TrainConfig,
        method: Method,
        folder: RunFolder,
        accelerator: Accelerator,
        display: Display,
        record: dict[str, Any],
    ) -> None:
        self.config, self.method, self.folder = config, method, folder
        self.accelerator, self.display = accelerator, display
        self.device = accelerator.device
        self.stops = StopSignals()

        self.data = load_images(config.data, seed=config.view_seed, labels=config.labels)
        check_training_labels(config, method, self.data.train.labels)
        self.all_labelled = bool((self.data.train.labels >= 0).all())
        if config.labels == "given" and not self.all_labelled:
            display.note(missing_note(self.data.train.labels))
        self.num_classes = len(self.data.classes)
        method.check_classes(self.num_classes)
        student, teacher = build_models(config, self.data, method.scales)
        check_last_batch(student, len(self.data.train), config.batch_size, connectors=method.signal == "stones")
        inputs = input_record(config, self.data, student, teacher)
        check_inputs(folder, inputs)
        self.student = self._place(student)
        if teacher is not None:
            self._place(teacher)
        now: dict[str, dict[str, Any]] = {"versions": versions(), "source": source_record(config, student, teacher)}
        if folder.begun():
            folder.warn_changes(now)
        else:  # new, or left by a start that failed
            folder.write_config({**record, **inputs, **now, "commit": commit()})

        self.loader, self.eval_loader = self._loader(train=True), self._loader(train=False)
        check_student(self.student, config.student.name, self.num_classes, self.eval_loader.shape, self.device)
        check_learns(self.student, config.student.name, self.eval_loader.shape, self.device)
        if config.batch_size == 1:
            check_one_image(self.student, config.student.name, self.eval_loader.shape, self.device)
        if method.scales is not None and teacher is not None:
            check_regions(config, method.scales, self.student, teacher, self._example())
        if teacher is not None:
            check_input(teacher, self.eval_loader.shape, self.device)
        weighed = inputs["data"].get("class_weights")  # by class name, in the classes' order
        weights = None if weighed is None else torch.tensor(list(weighed.values()))
        example = self._example() if method.signal == "stones" else None
        self.stepper = Stepper(config, method, self.student, teacher, accelerator, example, weights)
        self.connectors = self.stepper.stones.connectors if self.stepper.stones else None
        if self.stepper.stones:
            display.note(self.stepper.stones.note())
        self.schedule = build_schedule(config.schedule, self.stepper.plain_optimizer, config.epochs)
        folder.check_space(3 * checkpoint_bytes(self.student, slots=1 if config.optim.name == "sgd" else 2))

        # The first that takes time: whatever may be refused was.
        self.teacher_predictions, self.teacher_top1 = None, None
        if teacher is not None:
            self.teacher_predictions = self._predict(teacher)
            self.teacher_top1 = rate_teacher(self.teacher_predictions, self.data.eval.labels, self.data.classes)
            where = f"{config.data.eval_name} ({len(self.data.eval):,} images)"
            display.note(f"the teacher's own top-1 on {where}: {self.teacher_top1:.2f}")
        seed_generators(config.seed)  # dropout: the same stream whether or not a teacher was built above
        self.progress = self._resume()
        self.sitting = (time.perf_counter(), self._done())

    def _place(self, model: nn.Module) -> nn.Module:
        model = model.to(self.device)
        return model.to(memory_format=torch.channels_last) if self.config.channels_last else model

    def _loader(self, *, train: bool) -> Loader:
        config = self.config
        # So many large images would take more memory than training does.
        fits = train or config.data.image_size is not None
        return make_loader(
            self.data,
            config.data,
            train=train,
            batch_size=config.batch_size if fits else EVAL_BATCH,
            device=self.device,
            seed=config.view_seed,
            channels_last=config.channels_last,
            mixing=Mixing(config.mixup, config.cutmix, labels=config.labels == "given"),
        )

    def _example(self) -> torch.Tensor:
        """Return two training images, as the networks get them."""
        images = next(self.loader.epoch(1)).inputs[:2]
        return images if len(images) == 2 else torch.cat([images, images.flip(-1)])

    def _predict(self, teacher: Teacher | Ensemble) -> torch.Tensor:
        return predict(teacher.logits, self.eval_loader.epoch(1), len(self.data.eval), self.device)

    def _resume(self) -> Progress:
        here = {"threads": torch.get_num_threads(), "device": self.device.type}
        optimizer = self.stepper.plain_optimizer
        progress = load_checkpoint(self.folder.checkpoint, self.student, optimizer, self.device, self.connectors)
        if progress is None:
            self.folder.truncate_metrics(0)
            return Progress(**here)
        self.folder.truncate_metrics(progress.metrics_size, progress.metrics_sha256)
        for name, value in here.items():
            before = getattr(progress, name)
            if before != value:
                warnings.warn(
                    f"{name} was {before} in the earlier sitting and is {value} now: the student will be close to, "
                    "but not bit-identical with, that of an uninterrupted run.",
                    stacklevel=4,
                )
        return replace(progress, **here)

    def complete(self) -> dict[str, Any]:
        """Train to the end, write student and result, and return the result."""
        config, progress = self.config, self.progress
        if config.trackers:
            self.accelerator.init_trackers("trackers")
        title = f"{config.student.name} {self.method.name}"
        self.display.start(title, config.epochs, len(self.loader), self._done(), self.data.summary())
        try:
            with self.stops:
                while progress.epoch <= config.epochs:
                    lr = set_epoch(self.schedule, progress.epoch)
                    self._train_epoch(lr)
                    self._end_epoch(lr)
        finally:
            self.display.stop()
        result = result_record(config, progress, parameter_count(self.student), self.teacher_top1)
        self.folder.write_result(student_bytes(self.student), result)
        if self.stops.received is not None:  # too late to stop this run, but what comes after it was to stop as well
            number = signal.Signals(self.stops.received)
            self.display.note(f"{number.name}: the run was at its end and is finished, in {self.folder.path}.")
            raise Interrupted(128 + number)
        return result

    def _train_epoch(self, lr: float) -> None:
        with closing(self.loader.epoch(self.progress.epoch, start_step=self.progress.step)) as batches:  # ends its workers
            self._train_on(batches, lr)

    def _train_on(self, batches: Iterable[Batch], lr: float) -> None:
        progress, config = self.progress, self.config
        log = StepLog(1 if config.debug else READ_EVERY[self.device.type], progress.sums)
        begun, before, first = time.perf_counter(), (progress.seconds, progress.epoch_seconds), progress.step

        def settle() -> None:
            """Bring ``progress`` up to the present step."""
            log.read()
            progress.sums = log.sums
            spent = time.perf_counter() - begun
            progress.seconds, progress.epoch_seconds = before[0] + spent, before[1] + spent

        self.stepper.learner.train()
        for batch in batches:
            due = self._step(batch, log)
            numbers = {"lr": lr}
            if due:
                log.read()
                speed = (progress.step - first) * config.batch_size / (time.perf_counter() - begun)
                means = log.means()
                numbers |= {"loss": means["loss"], "images_per_second": speed}
                numbers |= {"train_top1": means["top1"]} if "top1" in means else {}
                numbers["eta"] = self._eta()
            self.display.step(progress.epoch, self._done(), numbers)
            inside = progress.step < len(self.loader)
            if self.stops.received is not None:
                settle()
                self._interrupt()
            if config.checkpoint_every and inside and progress.step % config.checkpoint_every == 0:
                settle()
                self._save()
        settle()

    def _step(self, batch: Batch, log: StepLog) -> bool:
        """Take one optimizer step; return whether the log is due to be read."""
        epoch, step = self.progress.epoch, self.progress.step + 1
        try:
            out = self.stepper(batch, epoch)
        except StepError as error:
            # On the CPU the losses look at the logits themselves; the reader should learn where in the run it was.
            log.read()
            log.refuse(epoch, step, error.student_logits, error.teacher_logits)
            raise
        self.progress.step = step
        classes = batch.labels.argmax(dim=1) if batch.labels.is_floating_point() else batch.labels  # mixed: the larger share
        correct = (out.student_logits.argmax(dim=1) == classes).sum()
        labelled = None if self.all_labelled else (batch.labels >= 0).sum()
        return log.add(epoch, step, out.terms, correct, out.student_logits, out.teacher_logits, labelled)

    def _end_epoch(self, lr: float) -> None:
        progress, config = self.progress, self.config
        begun = time.perf_counter()
        kept = Kept.now(self.student, self.device)
        try:
            with closing(self.eval_loader.epoch(1)) as batches:
                metrics = evaluate_classifier(
                    self.student,
                    batches,
                    self.num_classes,
                    self.device,
                    teacher_predictions=self.teacher_predictions,
                    stop=lambda: self.stops.received is not None,
                )
        except Stopped:
            kept.restore(self.student, self.device)  # the evaluation is done again, from its beginning
            self._interrupt()
        eval_seconds = time.perf_counter() - begun
        progress.seconds += eval_seconds
        if not progress.best or metrics["top1"] > progress.best["top1"]:
            progress.best = {"top1": metrics["top1"], "epoch": progress.epoch, "split": config.data.eval_name}
        line = epoch_line(config, progress, lr, metrics, eval_seconds)
        progress.metrics_size, progress.metrics_sha256 = self.folder.append_metrics(line)
        progress.last = line
        progress.epoch, progress.step, progress.epoch_seconds, progress.sums = progress.epoch + 1, 0, 0.0, {}
        self._save()
        if config.trackers:  # after the checkpoint: killed in between, a tracker lacks an epoch but never shows one twice
            self.accelerator.log(flat_line(line), step=line["epoch"])
        self.display.epoch(line | {"eta": self._eta()})
        if self.stops.received is not None and progress.epoch <= config.epochs:
            self._leave()

    def _save(self) -> None:
        progress, optimizer = self.progress, self.stepper.plain_optimizer
        try:
            save_checkpoint(self.folder.checkpoint, self.student, optimizer, progress, self.device, self.connectors)
        except OSError as error:
            where = f"epoch {progress.epoch}, step {progress.step}"
            raise OSError(error.errno, f"no checkpoint at {where}: {error.strerror}; the one before it is untouched") from error

    def _interrupt(self) -> None:
        self._save()
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
        return (self.progress.epoch - 1) * len(self.loader) + self.progress.step

    def _eta(self) -> float:
        begun, done = self.sitting
        steps = self._done() - done
        left = self.config.epochs * len(self.loader) - self._done()
        return left * (time.perf_counter() - begun) / steps if steps else 0.0
