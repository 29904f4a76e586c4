"""What a student is trained on: cross-entropy plus a method's loss, with its weights and warm-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from logitkd.checks import check_int, check_labels, check_range
from logitkd.logits import widen

if TYPE_CHECKING:
    from logitkd.losses.base import LogitLoss
    from logitkd.reach.signals import Signals

__all__ = ["Objective"]


class Objective(nn.Module):
    """``ce_weight * CE(student, labels) + warmup(epoch) * kd_weight * loss``, ``warmup = min(epoch / warmup_epochs, 1)``.

    Terms that a loss names in ``unscaled_terms`` (iCD's Gram term, Block-KD's task) are added with their own weight only.

    Args:
        loss: a distillation loss; None trains on the labels alone.
        ce_weight: weight of the cross-entropy with the labels; 0 needs no labels for it.
        kd_weight: weight of the loss.
        warmup_epochs: epochs over which the weight of the loss grows to ``kd_weight``; 0 for none.
    """

    def __init__(self, loss: LogitLoss | None, ce_weight: float = 1.0, kd_weight: float = 1.0, warmup_epochs: int = 0) -> None:
        super().__init__()
        check_range("ce_weight", ce_weight, 0, None)
        check_range("kd_weight", kd_weight, 0, None)
        check_int("warmup_epochs", warmup_epochs, 0)
        if loss is None and ce_weight == 0:
            raise ValueError(
                "`ce_weight` must be above 0 where there is no distillation loss, got 0: nothing would be trained."
            )
        self.loss, self.ce_weight, self.kd_weight, self.warmup_epochs = loss, ce_weight, kd_weight, warmup_epochs

    def warmup(self, epoch: int) -> float:
        """Return the share of ``kd_weight`` in force at ``epoch``, counted from 1.

        >>> Objective(None, warmup_epochs=20).warmup(5)
        0.25
        """
        check_int("epoch", epoch, 1, None, "epochs are counted from 1")
        return min(epoch / self.warmup_epochs, 1.0) if self.warmup_epochs else 1.0

    def forward(
        self, student: Signals, teacher: Signals | None, labels: Tensor | None, epoch: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total, a scalar with gradient, and each named term: detached batch means, unweighted.

        Args:
            student: what the student's forward pass yielded.
            teacher: the same of the teacher; None where there is no distillation loss.
            labels: class indices ``(N,)``.
            epoch: the current epoch, counted from 1.
        """
        parts: list[Tensor] = []
        report: dict[str, Tensor] = {}
        if self.ce_weight > 0:
            check_labels(labels, student.logits, "cross-entropy (`ce_weight` above 0)")
            ce = F.cross_entropy(widen(student.logits).flatten(0, -2), labels.flatten())  # type: ignore[union-attr]
            parts.append(self.ce_weight * ce)
            report["ce"] = ce.detach()
        if self.loss is not None:
            if teacher is None:
                raise ValueError(f"`teacher` must be given for {type(self.loss).__name__}, got None.")
            scale = self.kd_weight * self.warmup(epoch)
            for name, value in self._terms(self.loss, student, teacher, labels).items():
                mean = value.mean()
                weight = self.loss.term_weights[name] * (1.0 if name in self.loss.unscaled_terms else scale)
                parts.append(weight * mean)
                report[name] = mean.detach()
        return sum(parts[1:], start=parts[0]), report

    @staticmethod
    def _terms(loss: LogitLoss, student: Signals, teacher: Signals, labels: Tensor | None) -> dict[str, Tensor]:
        if loss.reads == "regions":
            if student.regions is None or teacher.regions is None:
                raise ValueError(f"{type(loss).__name__} reads region logits: wrap both models in logitkd.reach.RegionModel.")
            return loss.terms(student.regions, teacher.regions, labels)
        if loss.reads == "stones":
            if student.stones is None:
                raise ValueError(f"{type(loss).__name__} reads stepping stones: Signals(logits, stones=[...]) must hold them.")
            return loss.terms(student.logits, teacher.logits, labels, stones=student.stones)  # type: ignore[call-arg]
        return loss.terms(student.logits, teacher.logits, labels)
