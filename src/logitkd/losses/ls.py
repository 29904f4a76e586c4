"""LS: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, arXiv 2403.01427."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from logitkd.checks import check_positive
from logitkd.logits import standardize
from logitkd.losses.base import LogitLoss, check_inner
from logitkd.tensor_checks import check_logits

__all__ = ["Standardized"]


class Standardized(LogitLoss):
    """Any loss on standardized logits: ``z -> (z - mean(z)) / (std(z) + eps)`` per row, student and teacher alike.

    The student no longer has to match the scale of the teacher's logits, only their order and shape. It composes with every
    loss that reads logits: ``Standardized(GDKDLoss())``, ``SDDLoss(Standardized(KDLoss()))``.

    Args:
        loss: the loss to apply; reads logits.
        eps: added to the standard deviation.

    Differs: a constant row is centred only, so its gradient stays at most that of ``loss`` (the authors' grows near 1e6).

    Source: algorithm 1 of the paper; logit-standardization-KD ``mdistiller/distillers/KD.py``, ``normalize``.

    >>> import torch
    >>> from logitkd.losses import KDLoss
    >>> teacher = torch.tensor([[1.0, 2.0, 3.0]])
    >>> bool(Standardized(KDLoss())(10 * teacher + 5, teacher) < 1e-6)           # same shape, another scale and offset
    True
    """

    recompute = True
    reads: ClassVar[str] = "logits"
    two_classes = (
        "learns nothing from the teacher: standardized, two logits say which is larger and no more, which has no gradient; "
        "`kd` learns from them"
    )

    def __init__(self, loss: LogitLoss, eps: float = 1e-7) -> None:
        check_inner("loss", loss, ("logits",), "Over regions, standardize inside: SDDLoss(Standardized(KDLoss())).")
        check_positive("eps", eps)
        super().__init__(loss.term_weights)
        self.loss, self.eps = loss, eps
        self.needs_labels, self.per_example = loss.needs_labels, loss.per_example

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the terms of the inner loss."""
        check_logits(student_logits, teacher_logits)
        student, teacher = standardize(student_logits, self.eps), standardize(teacher_logits.detach(), self.eps)
        return self.loss.terms(student, teacher, labels)
