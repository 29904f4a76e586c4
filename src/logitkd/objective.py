"""What a student is trained on: cross-entropy plus a method's loss, with its weights and warm-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from logitkd.checks import check_int, check_range
from logitkd.logits import finite, widen
from logitkd.tensor_checks import check_targets

if TYPE_CHECKING:
    from logitkd.losses.base import LogitLoss
    from logitkd.reach.signals import Signals

__all__ = ["Objective", "cross_entropy"]


def cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the cross-entropy in nats, a scalar; nothing waits for the device.

    The mean is over the labelled examples, weighed by their classes::

        w[n, c] = class_weights[c] * labels[n, c]                        # one-hot for a class index, zeros where it is missing
        loss = sum_nc(-w[n, c] * log_softmax(logits)[n, c]) / sum_nc(w[n, c])

    Args:
        logits: ``(..., C)``.
        labels: class indices ``(...)``, -1 where missing, or class probabilities ``(..., C)``.
        class_weights: ``(C,)``, each above 0; None weighs all alike.

    Returns:
        The mean; 0 where nothing is labelled.

    Differs: from ``F.cross_entropy`` in mixed labels with class weights, where torch divides by the number of examples. Here
    a one-hot row is its class index.

    >>> logits = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
    >>> cross_entropy(logits, torch.tensor([1, -1])), cross_entropy(logits, torch.tensor([-1, -1]))
    (tensor(0.6931), tensor(0.))
    """
    logits = widen(logits).flatten(0, -2)
    weight = None if class_weights is None else class_weights.to(logits.dtype)
    if labels.is_floating_point():
        labels = labels.reshape(logits.shape).to(logits.dtype)
        mass = labels if weight is None else labels * weight
        return F.cross_entropy(finite(logits), labels, weight, reduction="sum") / mass.sum()
    labels = labels.flatten()
    total = F.cross_entropy(logits, labels, weight, ignore_index=-1, reduction="sum")
    labelled = labels >= 0
    if weight is None:
        return total / labelled.sum().clamp(min=1)
    mass = torch.where(labelled, weight[labels.clamp(min=0)], 0.0).sum()
    return total / torch.where(mass > 0, mass, 1.0)


class Objective(nn.Module):
    """``ce_weight * CE(student, labels) + warmup(epoch) * kd_weight * loss``, ``warmup = min(epoch / warmup_epochs, 1)``.

    The cross-entropy is the mean over the labelled examples of the batch, 0 where there is none; the loss reads them all.
    Terms that a loss names in ``unscaled_terms`` (iCD's Gram term, Block-KD's task) are added with their own weight only.

    Args:
        loss: a distillation loss; None trains on the labels alone.
        ce_weight: weight of the cross-entropy with the labels; 0 needs no labels for it.
        kd_weight: weight of the loss.
        warmup_epochs: epochs over which the weight of the loss grows to ``kd_weight``; 0 for none.
        class_weights: ``(C,)``, a weight above 0 for each class in the cross-entropy; see :func:`cross_entropy`.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        loss: LogitLoss | None,
        ce_weight: float = 1.0,
        kd_weight: float = 1.0,
        warmup_epochs: int = 0,
        *,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_range("ce_weight", ce_weight, 0, None)
        check_range("kd_weight", kd_weight, 0, None)
        check_int("warmup_epochs", warmup_epochs, 0)
        if loss is None and ce_weight == 0:
            raise ValueError(
                "`ce_weight` must be above 0 where there is no distillation loss, got 0: nothing would be trained."
            )
        self.loss, self.ce_weight, self.kd_weight, self.warmup_epochs = loss, ce_weight, kd_weight, warmup_epochs
        self.register_buffer("class_weights", class_weights, persistent=False)

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
            labels: class indices ``(N,)``, -1 where one is missing, or class probabilities ``(N, C)``; a loss that needs labels
                takes neither -1 nor probabilities.
            epoch: the current epoch, counted from 1.
        """
        parts: list[Tensor] = []
        report: dict[str, Tensor] = {}
        if self.ce_weight > 0:
            check_targets(labels, student.logits, "cross-entropy (`ce_weight` above 0)")
            ce = cross_entropy(student.logits, labels, self.class_weights)  # type: ignore[arg-type]
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
