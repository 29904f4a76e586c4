"""One training step: teacher, student, objective, gradient, optimizer. Nothing here waits for the device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from logitkd.data import Batch
from logitkd.methods import Method
from logitkd.reach import Ensemble, StoneModel, Teacher, check_not_shared, find_stones
from logitkd.reach.fold import fold_batch_norms
from logitkd.runs.config import TrainConfig
from logitkd.tasks.images import Learner
from logitkd.training.optim import build_optimizer

__all__ = ["StepError", "StepOutput", "Stepper"]


class StepOutput(NamedTuple):
    """What a step yields, still on the device.

    Args:
        terms: the total as ``loss`` and each named term: scalars, means over the batch.
        student_logits: ``(N, C)``, detached.
        teacher_logits: ``(N, C)``, or none.
    """

    terms: dict[str, Tensor]
    student_logits: Tensor
    teacher_logits: Tensor | None


class StepError(ValueError):
    """The objective refused the step; the logits it refused are in ``student_logits`` and ``teacher_logits``."""

    def __init__(self, message: str, student_logits: Tensor, teacher_logits: Tensor | None) -> None:
        super().__init__(message)
        self.student_logits, self.teacher_logits = student_logits, teacher_logits


class Stepper:
    """Trains ``student`` in place, a batch a call.

    In bfloat16 both networks keep float32 weights and compute under autocast, and the frozen teacher's batch norms are
    folded, in place. In float32 nothing is rearranged; what a float32 product is, torch's settings say (on a GPU they let
    convolutions round their inputs to TF32).

    Args:
        config: its optimizer, precision and memory format are used.
        method: what to train the student on.
        student: on the accelerator's device.
        teacher: likewise, with the regions that the method reads, or none.
        accelerator: as configured for the run.
        images: an example batch on the device, at least two; only stepping stones need it, to find shapes.
        class_weights: ``(C,)``, for the cross-entropy.
    """

    def __init__(
        self,
        config: TrainConfig,
        method: Method,
        student: nn.Module,
        teacher: Teacher | Ensemble | None,
        accelerator: Accelerator,
        images: Tensor | None = None,
        class_weights: Tensor | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.clip_grad = config.optim.clip_grad
        self.objective = method.objective(class_weights).to(accelerator.device)
        self.teacher: Teacher | Ensemble | None = None
        if teacher is not None:
            check_not_shared(student, teacher)
        cuts: list[tuple[str, str]] = []
        if method.signal == "stones" and isinstance(teacher, Teacher) and images is not None:
            # Before anything is folded: the cuts must not depend on the precision, nor what the network puts out at them.
            stones = config.stones
            cuts = find_stones(student, teacher, images, stones.student, stones.teacher, stones.use)
        if teacher is not None and method.signal != "none":
            if config.precision == "bfloat16":
                for member in teacher.members():
                    fold_batch_norms(member.model, [cut for _, cut in cuts])
            self.teacher = teacher.eval()
        if config.channels_last:
            for model in (student, teacher):
                if model is not None:
                    model.to(memory_format=torch.channels_last)
        learner: nn.Module = Learner(student, method.scales, pool=config.student.pool, head=config.student.head)
        self.stones: StoneModel | None = None
        if cuts and isinstance(self.teacher, Teacher) and images is not None:
            torch.manual_seed(config.seed)  # of the connectors' weights
            here, there = zip(*cuts, strict=True)
            learner = self.stones = StoneModel(student, self.teacher, images, student_cuts=here, teacher_cuts=there)
            if config.channels_last:
                self.stones.connectors.to(memory_format=torch.channels_last)
        self.plain_optimizer = build_optimizer(config.optim, learner)
        self.learner, self.optimizer = accelerator.prepare(learner, self.plain_optimizer)

    def __call__(self, batch: Batch, epoch: int) -> StepOutput:
        """Take one optimizer step on ``batch``; ``epoch`` (from 1) decides the loss's warm-up.

        Raises:
            StepError: the objective refused the logits or labels.
        """
        teacher = None
        if self.teacher is not None:
            with self.accelerator.autocast():
                teacher = self.teacher(batch.inputs) if self.stones is None else self.stones.teach(batch.inputs)
        student = self.learner(batch.inputs)
        student_logits = student.logits.detach()
        teacher_logits = None if teacher is None else teacher.logits
        try:
            total, terms = self.objective(student, teacher, batch.labels, epoch)
        except ValueError as error:
            raise StepError(str(error), student_logits, teacher_logits) from error
        self.accelerator.backward(total)
        if self.clip_grad is not None:
            self.accelerator.clip_grad_norm_(self.learner.parameters(), self.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return StepOutput({"loss": total.detach(), **terms}, student_logits, teacher_logits)
