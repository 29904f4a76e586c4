"""MLKD: Jin, Wang and Lin, "Multi-Level Logit Distillation", CVPR 2023."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from logitkd.checks import check_choice, check_range, check_temperature, shown
from logitkd.logits import group_kl, temper
from logitkd.losses.base import LogitLoss
from logitkd.tensor_checks import check_logits

__all__ = ["MLKDLoss", "mlkd_terms"]

Masking = Literal["rows", "share", "none"]


def mlkd_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
    masking: Masking = "rows",
    confidence: float = 0.5,
    class_confidence: float = 0.5,
) -> dict[str, Tensor]:
    """KD at several temperatures, with the relations between examples and between classes.

    With ``p = softmax(z / temperature)`` as a matrix ``(N, C)``, summed over the temperatures::

        kd_n = temperature ** 2 * KL(pt[n] || ps[n])
        bc_n = sum_m ((pt @ pt.T - ps @ ps.T)[n, m]) ** 2                              # example by example
        cc   = sum_ab ((pt.T @ pt - ps.T @ ps)[a, b]) ** 2 / C                         # class by class

    Only examples whose teacher confidence (largest probability at temperature 1) is at or below the ``confidence`` quantile
    of the batch count in ``kd`` and ``bc``, only classes whose summed probability is at or below the ``class_confidence``
    quantile count in ``cc``: those the teacher is least sure of. A masked class has probability 0; one that no example has
    counts neither in C nor in a quantile.

    Args:
        student_logits: ``(..., C)``, C at least 2.
        teacher_logits: same shape; receives no gradient.
        labels: not used.
        temperatures: each above 0.
        masking: ``rows`` masks per example and per class, as meant; ``share`` multiplies each whole term by the share of
            kept entries, as the public code does; ``none`` keeps all.
        confidence: quantile in [0, 1] of the examples to keep.
        class_confidence: quantile in [0, 1] of the classes to keep.

    Returns:
        ``{"kd": (N,), "bc": (N,), "cc": (N,)}``; ``cc`` is one number of the whole batch, repeated.

    Raises:
        ValueError: shapes that differ.

    Differs: the public code multiplies masks with values that are already averaged (``masking="share"``). The two image
    views of the paper are the caller's: add the loss of each.

    Source: logit-standardization-KD and GDKD ``mdistiller/distillers/MLKD.py``.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    >>> [float(v.abs().max()) for v in mlkd_terms(logits, logits).values()]
    [0.0, 0.0, 0.0]
    """
    _check_options(temperatures, masking, confidence, class_confidence)
    check_logits(student_logits, teacher_logits)
    student_logits, teacher_logits = student_logits.flatten(0, -2), teacher_logits.flatten(0, -2)
    student, teacher = temper(student_logits, teacher_logits, 1.0)
    present = (teacher != -torch.inf).any(0)
    num_classes = present.sum().clamp(min=1)
    example_mask, class_mask = _confidence_masks(teacher, present, masking, confidence, class_confidence)
    kd = bc = cc = student.new_zeros(student.shape[0])
    for temperature in temperatures:
        ps, pt = F.softmax(student / temperature, dim=-1), F.softmax(teacher / temperature, dim=-1)
        kd = kd + temperature**2 * group_kl(student, teacher, temperature).kl * example_mask
        with torch.autocast(ps.device.type, enabled=False):
            examples = (pt @ pt.T - ps @ ps.T).square().sum(-1)
            classes = (pt.T @ pt - ps.T @ ps).square().sum(-1)
        bc = bc + examples * example_mask
        cc = cc + (classes * class_mask).sum() / num_classes
    return {"kd": kd, "bc": bc, "cc": cc}


def _confidence_masks(
    teacher: Tensor, present: Tensor, masking: Masking, confidence: float, class_confidence: float
) -> tuple[Tensor, Tensor]:
    """Return what each example ``(N,)`` and each class ``(C,)`` counts for; ``present`` are the classes there are."""
    probabilities = F.softmax(teacher, dim=-1)
    by_example, by_class = probabilities.amax(-1), probabilities.sum(0)
    if masking == "none":
        return torch.ones_like(by_example), torch.ones_like(by_class)
    examples = (by_example <= by_example.quantile(confidence)).to(teacher.dtype)
    by_class = torch.where(present, by_class, torch.nan)  # below no bound
    classes = (by_class <= by_class.nanquantile(class_confidence)).to(teacher.dtype)
    if masking == "share":
        return examples.mean().expand_as(examples), (classes.sum() / present.sum().clamp(min=1)).expand_as(classes)
    return examples, classes


def _check_options(temperatures: Sequence[float], masking: str, confidence: float, class_confidence: float) -> None:
    if not isinstance(temperatures, Sequence) or not temperatures:
        raise ValueError(f"`temperatures` must be a list of at least one temperature, got {shown(temperatures)}.")
    for temperature in temperatures:
        check_temperature("temperatures", temperature)
    check_choice("masking", masking, ["rows", "share", "none"])
    check_range("confidence", confidence, 0, 1, "a quantile")
    check_range("class_confidence", class_confidence, 0, 1, "a quantile")


class MLKDLoss(LogitLoss):
    """Multi-level logit distillation: ``kd + bc + cc``. See :func:`mlkd_terms`.

    Args:
        temperatures: the terms are summed over these.
        masking: ``rows`` (as meant), ``share`` (as in the public code) or ``none``.
        confidence: quantile of the examples to keep.
        class_confidence: quantile of the classes to keep.
    """

    per_example = False

    def __init__(
        self,
        temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
        masking: Masking = "rows",
        confidence: float = 0.5,
        class_confidence: float = 0.5,
    ) -> None:
        _check_options(temperatures, masking, confidence, class_confidence)
        super().__init__({"kd": 1.0, "bc": 1.0, "cc": 1.0})
        self.temperatures, self.masking = tuple(temperatures), masking
        self.confidence, self.class_confidence = confidence, class_confidence

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """See :func:`mlkd_terms`."""
        return mlkd_terms(
            student_logits,
            teacher_logits,
            labels,
            temperatures=self.temperatures,
            masking=self.masking,
            confidence=self.confidence,
            class_confidence=self.class_confidence,
        )
