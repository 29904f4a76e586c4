"""A student in training: its pair, objective, optimizer, schedule and progress, all that is saved and restored."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from logitkd.data import Batch
from logitkd.methods import Method
from logitkd.objective import Term
from logitkd.reach.inputs import count
from logitkd.reach.pair import Pair
from logitkd.reach.tutor import Taught
from logitkd.runs.config import TrainConfig
from logitkd.tasks.task import Task
from logitkd.training.checkpoint import Progress, checkpoint_bytes, load_checkpoint, save_checkpoint
from logitkd.training.folder import RunFolder
from logitkd.training.optim import build_optimizer, build_schedule, set_rate

__all__ = ["Pupil", "StepError", "StepOutput"]


class StepOutput(NamedTuple):
    """What a step yields, still on the device.

    Args:
        total: the loss that was trained on, a scalar.
        terms: each named term's sum and mass over the batch.
        scores: likewise what is shown of the student.
        count: examples of the batch.
        student_logits: ``(N, C)``, detached.
        teacher_logits: ``(N, C)``, or none.
    """

    total: Tensor
    terms: dict[str, Term]
    scores: dict[str, Term]
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    student_logits: Tensor
    teacher_logits: Tensor | None


class StepError(ValueError):
    """The objective refused the step; the logits it refused are in ``student_logits`` and ``teacher_logits``."""

    def __init__(self, message: str, student_logits: Tensor, teacher_logits: Tensor | None) -> None:
        super().__init__(message)
        self.student_logits, self.teacher_logits = student_logits, teacher_logits


class Pupil:
    """Trains a pair's student in place, a batch a call; nothing in a step waits for the device.

    In bfloat16 the networks keep float32 weights and compute under autocast. In float32 what a product is, torch's settings
    say (on a GPU they let convolutions round their inputs to TF32).

    Args:
        config: its optimizer and schedule are used.
        method: what to train the student on.
        task: what is right, and the task's own loss.
        pair: student and teacher, on the accelerator's device.
        accelerator: as configured for the run.
        folder: where the state is kept.
        steps: of an epoch.
    """

    def __init__(
        self,
        config: TrainConfig,
        method: Method,
        task: Task,
        pair: Pair,
        accelerator: Accelerator,
        folder: RunFolder,
        steps: int,
    ) -> None:
        self.task, self.pair, self.accelerator, self.folder, self.steps = task, pair, accelerator, folder, steps
        self.student = pair.student
        self.clip_grad = config.optim.clip_grad
        self.objective = method.objective(task.streams).to(accelerator.device)
        trained = nn.ModuleList(pair.trained().values())
        self.parameters = list(trained.parameters())
        self.plain_optimizer = build_optimizer(config.optim, trained)
        self.schedule = build_schedule(config.schedule, self.plain_optimizer, config.epochs, steps)
        self.learner, self.optimizer = accelerator.prepare(pair, self.plain_optimizer)
        self.modules = {**pair.trained(), **pair.stored()}
        self.progress = Progress()
        self.rate = 0.0
        folder.check_space(3 * checkpoint_bytes(self.modules, slots=1 if config.optim.name == "sgd" else 2))

    def step(self, batch: Batch, taught: Taught | None) -> StepOutput:
        """Take the next optimizer step of the epoch in progress.

        Args:
            batch: what is learnt from.
            taught: what the teacher says of it; None where the method has none.

        Raises:
            StepError: the objective refused the logits or labels.
        """
        epoch = self.progress.epoch
        if not self.rate or not self.schedule.t_in_epochs or not self.progress.step:  # else it is as in the step before
            self.rate = self.rate_of(self.progress.step + 1)
        student, teacher = self.learner(batch, taught)
        student_logits = student.logits.detach()
        teacher_logits = None if teacher is None else teacher.logits
        try:
            targets = self.task.targets(batch, student)
            own = self.task.terms(student, targets) if self.objective.ce_weight > 0 else None
            measured = self.objective.measure(student, teacher, targets, epoch, own)
        except ValueError as error:
            raise StepError(str(error), student_logits, teacher_logits) from error
        total = measured.total()
        self.accelerator.backward(total)
        if self.clip_grad is not None:
            self.accelerator.clip_grad_norm_(self.parameters, self.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.progress.step += 1
        with torch.no_grad():
            terms = {name: Term(*(number.detach() for number in term)) for name, term in measured.terms.items()}
            scores = self.task.scores(student, targets)
        return StepOutput(total.detach(), terms, scores, count(batch.inputs), student_logits, teacher_logits)

    def rate_of(self, step: int) -> float:
        """Set the learning rate of a step of the epoch in progress, from 1, and return it."""
        return set_rate(self.schedule, self.progress.epoch, step, self.steps)

    def restore(self) -> None:
        """Go on where the folder's checkpoint stands; at the beginning where there is none."""
        device = self.accelerator.device
        here = {"threads": torch.get_num_threads(), "device": device.type}
        progress = load_checkpoint(self.folder.checkpoint, self.modules, self.plain_optimizer, device)
        if progress is None:
            self.folder.truncate_metrics(0)
            self.progress = Progress(**here)
            return
        self.folder.truncate_metrics(progress.metrics_size, progress.metrics_sha256)
        for name, value in here.items():
            before = getattr(progress, name)
            if before != value:
                warnings.warn(
                    f"{name} was {before} in the earlier sitting and is {value} now: the student will be close to, "
                    "but not bit-identical with, that of an uninterrupted run.",
                    stacklevel=4,
                )
        self.progress = replace(progress, **here)

    def save(self) -> None:
        """Replace the folder's checkpoint by the present state.

        Raises:
            OSError: it could not be written; the one before is untouched.
        """
        progress = self.progress
        try:
            save_checkpoint(self.folder.checkpoint, self.modules, self.plain_optimizer, progress, self.accelerator.device)
        except OSError as error:
            where = f"epoch {progress.epoch}, step {progress.step}"
            raise OSError(error.errno, f"no checkpoint at {where}: {error.strerror}; the one before it is untouched") from error
