"""NKD: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation", ICCV 2023, arXiv 2303.13005."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from logitkd.checks import check_choice, check_range, check_temperature
from logitkd.logits import group_kl, widen
from logitkd.losses.base import LogitLoss
from logitkd.tensor_checks import check_labels, check_logits

__all__ = ["NKDLoss", "nkd_terms"]


def nkd_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    temperature: float = 1.0,
    exclude_target: bool = True,
) -> dict[str, Tensor]:
    """Cross-entropy on the target with the teacher's confidence, and on the normalised others.

    With y the label, ``p = softmax(z)`` and ``q = softmax(z / temperature) over the classes other than y``::

        target    = -pt_y * log ps_y
        nontarget = -temperature ** 2 * sum_{c != y} qt_c * log qs_c

    Args:
        student_logits: ``(..., C)``, C at least 2.
        teacher_logits: same shape; receives no gradient.
        labels: class indices ``(...)``.
        temperature: softening of the non-target distributions only, 0.01 to 1000.
        exclude_target: leave the label out of ``nontarget``, as published. False keeps it in, as the copies of NKD inside
            the SDD and iCD repositories do.

    Returns:
        ``{"target": (N,), "nontarget": (N,)}``; both are cross-entropies, so a perfect student does not reach 0.

    Raises:
        ValueError: shapes that differ, labels missing or out of range.
        TypeError: labels that are not integers.

    Differs: none from the authors' own code.

    Source: the paper's NKD loss; the copy: iCD ``distillers/NKD.py``.

    >>> import torch
    >>> terms = nkd_terms(torch.zeros(1, 4), torch.zeros(1, 4), torch.tensor([0]))
    >>> terms["target"]                                                          # 1/4 log 4
    tensor([0.3466])
    >>> terms["nontarget"]                                                       # log 3
    tensor([1.0986])
    """
    _check_options(temperature, exclude_target)
    check_logits(student_logits, teacher_logits)
    check_labels(labels, student_logits, "NKD")
    target = labels.unsqueeze(-1)  # type: ignore[union-attr]
    confidence = F.softmax(widen(teacher_logits.detach()), dim=-1).gather(-1, target).flatten()
    log_likelihood = F.log_softmax(widen(student_logits), dim=-1).gather(-1, target).flatten()
    without = target if exclude_target else None
    others = group_kl(student_logits, teacher_logits, temperature, without=without, kl_type="cross").kl
    return {"target": -confidence * log_likelihood, "nontarget": temperature**2 * others.flatten()}


def _check_options(temperature: float, exclude_target: bool) -> None:
    check_temperature("temperature", temperature)
    check_choice("exclude_target", exclude_target, [True, False])


class NKDLoss(LogitLoss):
    """Normalised distillation: ``target + gamma * nontarget``. See :func:`nkd_terms`.

    Args:
        gamma: weight of the non-target term (1.5 on ImageNet).
        temperature: softening of the non-target distributions.
        exclude_target: as published (True), or as copied in later repositories (False).
    """

    needs_labels = True
    recompute = True

    def __init__(self, gamma: float = 1.5, temperature: float = 1.0, exclude_target: bool = True) -> None:
        check_range("gamma", gamma, 0, None)
        _check_options(temperature, exclude_target)
        super().__init__({"target": 1.0, "nontarget": gamma})
        self.temperature, self.exclude_target = temperature, exclude_target

    @property
    def two_classes(self) -> str:
        """See :class:`LogitLoss`; with the target in it, the second term still tells of both."""
        what = (
            "keeps of the teacher only how sure it is of the label, as a weight of the cross-entropy; `{kd}` learns all it says"
        )
        return what if self.exclude_target else ""

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """See :func:`nkd_terms`."""
        return nkd_terms(
            student_logits, teacher_logits, labels, temperature=self.temperature, exclude_target=self.exclude_target
        )
