"""DKD: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv 2203.08679."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from logitkd.checks import check_choice, check_range, check_temperature
from logitkd.logits import KLType, group_kl, temper, top_classes
from logitkd.losses.base import LogitLoss
from logitkd.losses.picked import pick
from logitkd.tensor_checks import check_labels, check_logits

__all__ = ["DKDLoss", "dkd_terms"]


def dkd_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    temperature: float = 4.0,
    target: Literal["label", "teacher"] = "label",
    kl_type: KLType = "forward",
) -> dict[str, Tensor]:
    """KD split in two: is it the target class, and if not, which other class.

    With ``p = softmax(z / temperature)``, y the target class and ``q = p without y, renormalised``::

        tckd = temperature ** 2 * KL((pt_y, 1 - pt_y) || (ps_y, 1 - ps_y))
        nckd = temperature ** 2 * KL(qt || qs)

    Args:
        student_logits: ``(..., C)``, C at least 2.
        teacher_logits: same shape; receives no gradient.
        labels: class indices ``(...)``; unused, may be None, with ``target="teacher"``.
        temperature: softening of both distributions, 0.01 to 1000.
        target: the target class is the ``label`` or the ``teacher``'s most likely class.
        kl_type: direction of ``nckd``; ``tckd`` is always teacher to student.

    Returns:
        ``{"tckd": (N,), "nckd": (N,)}``.

    Raises:
        ValueError: shapes that differ, labels missing or out of range.
        TypeError: labels that are not integers.

    Differs: computed in log space, so the gradient is finite at any logit gap (the authors' is NaN from a gap over
    temperature of 89 in float32 and 11.5 in float16, and their mask of -1000 leaks beyond that gap).

    Source: section 3 of the paper; mdistiller ``distillers/DKD.py``. ``target="teacher"`` and ``kl_type`` are the options of
    GDKD's ``DKDMod``.

    >>> import math, torch
    >>> teacher = torch.tensor([[math.log(2.0), 0.0, 0.0]])                      # (1/2, 1/4, 1/4)
    >>> student = torch.tensor([[0.0, math.log(3.0), 0.0]])                      # (1/5, 3/5, 1/5)
    >>> terms = dkd_terms(student, teacher, torch.tensor([0]), temperature=1.0)
    >>> terms["tckd"]                                                            # 1/2 log(5/2) + 1/2 log(5/8)
    tensor([0.2231])
    >>> terms["nckd"]                                                            # 1/2 log(2/3) + 1/2 log 2
    tensor([0.1438])
    """
    _check_options(temperature, target, kl_type)
    check_logits(student_logits, teacher_logits)
    if target == "label":
        check_labels(labels, student_logits, "DKD with target='label'")
        classes = labels.unsqueeze(-1)  # type: ignore[union-attr]
    else:
        classes = top_classes(teacher_logits, 1)
    student, teacher = temper(pick(student_logits, classes), teacher_logits.gather(-1, classes), temperature)
    rest = group_kl(student_logits, teacher_logits, temperature, without=classes, kl_type=kl_type)
    binary = group_kl(
        torch.cat([student, rest.student_mass.unsqueeze(-1)], -1),
        torch.cat([teacher, rest.teacher_mass.unsqueeze(-1)], -1),
    )
    return {"tckd": temperature**2 * binary.kl.flatten(), "nckd": temperature**2 * rest.kl.flatten()}


def _check_options(temperature: float, target: str, kl_type: str) -> None:
    check_temperature("temperature", temperature)
    check_choice("target", target, ["label", "teacher"])
    check_choice("kl_type", kl_type, ["forward", "reverse", "both"])


class DKDLoss(LogitLoss):
    """Decoupled distillation: ``alpha * tckd + beta * nckd``. See :func:`dkd_terms`.

    Args:
        alpha: weight of the target-class term.
        beta: weight of the non-target term; tuned by pair in the paper (2, 6 or 8 on CIFAR-100).
        temperature: softening of both distributions.
        target: ``label``, or ``teacher`` for the teacher's most likely class (needs no labels).
        kl_type: direction of the non-target term: ``forward``, ``reverse`` or ``both``.
    """

    two_classes = "is `{kd}` with other weights: there is one class beside the target, and nothing to tell of it"

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        target: Literal["label", "teacher"] = "label",
        kl_type: KLType = "forward",
    ) -> None:
        check_range("alpha", alpha, 0, None)
        check_range("beta", beta, 0, None)
        _check_options(temperature, target, kl_type)
        super().__init__({"tckd": alpha, "nckd": beta})
        self.temperature, self.target, self.kl_type = temperature, target, kl_type
        self.needs_labels = target == "label"

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """See :func:`dkd_terms`."""
        return dkd_terms(
            student_logits,
            teacher_logits,
            labels,
            temperature=self.temperature,
            target=self.target,
            kl_type=self.kl_type,
        )
