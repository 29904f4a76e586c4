"""KD: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531."""

from __future__ import annotations

from torch import Tensor

from logitkd.checks import check_temperature
from logitkd.logits import group_kl
from logitkd.losses.base import LogitLoss
from logitkd.tensor_checks import check_logits

__all__ = ["KDLoss", "kd_terms"]


def kd_terms(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None, *, temperature: float = 4.0
) -> dict[str, Tensor]:
    """KL divergence from the teacher's softened distribution to the student's.

    ``kd = temperature ** 2 * sum_c pt_c (log pt_c - log ps_c)``, ``p = softmax(z / temperature)``.

    Args:
        student_logits: ``(..., C)``, C at least 2.
        teacher_logits: same shape; receives no gradient.
        labels: not used.
        temperature: softening of both distributions, 0.01 to 1000.

    Returns:
        ``{"kd": (N,)}``.

    Raises:
        ValueError: shapes that differ, fewer than two classes.

    Differs: none in value; stays finite where ``kl_div`` of a half-precision softmax does not.

    Source: section 2 of the paper; mdistiller ``distillers/KD.py``.

    >>> import math, torch
    >>> teacher, student = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)   # (3/4, 1/4) and (1/2, 1/2)
    >>> kd_terms(student, teacher, temperature=1.0)["kd"]
    tensor([0.1308])
    """
    check_temperature("temperature", temperature)
    check_logits(student_logits, teacher_logits)
    return {"kd": temperature**2 * group_kl(student_logits, teacher_logits, temperature).kl.flatten()}


class KDLoss(LogitLoss):
    """Hinton's distillation loss. See :func:`kd_terms`.

    Args:
        temperature: softening of both distributions.

    >>> import torch
    >>> loss = KDLoss(temperature=4.0)
    >>> float(loss(torch.zeros(2, 10), torch.zeros(2, 10)))
    0.0
    """

    def __init__(self, temperature: float = 4.0) -> None:
        check_temperature("temperature", temperature)
        super().__init__({"kd": 1.0})
        self.temperature = temperature

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """See :func:`kd_terms`."""
        return kd_terms(student_logits, teacher_logits, labels, temperature=self.temperature)
