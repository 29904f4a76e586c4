"""LDRLD: Xu et al., "Local Dense Logit Relations for Enhanced Knowledge Distillation", ICCV 2025, arXiv 2507.15911."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from logitkd.checks import check_choice, check_int, check_logits, check_positive, check_range
from logitkd.logits import group_kl, temper, top_classes
from logitkd.losses.base import LogitLoss

__all__ = ["LDRLDLoss", "ldrld_terms"]


def ldrld_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    depth: int = 7,
    temperature: float = 4.0,
    rank_by: Literal["student", "teacher"] = "student",
    delta: float = 2.0,
    decay: float = 0.05,
    rank_eps: float = 1.5,
) -> dict[str, Tensor]:
    """Every pair among the first ``depth`` classes, those classes as a whole, and the classes left.

    ::

        c_1 .. c_d = the depth classes with the largest student logits, in descending order
        for every i < j:                                   # a two-class softmax is a sigmoid of the difference
            weight = delta * exp(-decay * (i + j)) / (j - i + rank_eps)
            pairs += weight * temperature ** 2 * KL(teacher's (c_i, c_j) || student's (c_i, c_j))
        llki = temperature ** 2 * KL over c_1 .. c_d alone
        rntk = temperature ** 2 * KL over the C - d other classes alone; 0 when depth = C

    Args:
        student_logits: ``(..., C)``, C at least 2.
        teacher_logits: same shape; receives no gradient.
        labels: not used.
        depth: number of classes d, in [2, C].
        temperature: softening of all distributions, above 0.
        rank_by: whose logits rank the classes; ``teacher`` makes a top-k teacher cache enough. The choice has no gradient.
        delta: scale of the pair weights.
        decay: how fast the weight of a pair falls with its ranks.
        rank_eps: added to the distance of ranks.

    Returns:
        ``{"pairs": (N,), "llki": (N,), "rntk": (N,)}``; memory grows with ``N * depth ** 2``.

    Raises:
        ValueError: shapes that differ, ``depth`` out of range.

    Differs: no public code exists; ``rank_by="teacher"`` is ours.

    Source: the paper's definitions of ADW (inverse rank and exponential rank decay), LLKI and RNTK.

    >>> import math, torch
    >>> student = torch.tensor([[0.2, 0.1, 0.0]])
    >>> teacher = torch.tensor([[math.log(3.0), 0.0, 0.0]])
    >>> terms = ldrld_terms(student, teacher, depth=2, temperature=1.0, delta=1.0, decay=0.0, rank_eps=1.0)
    >>> bool(torch.isclose(terms["pairs"], terms["llki"] / 2))                   # one pair, of weight 1 / (1 + rank_eps)
    True
    >>> float(terms["rntk"])                                                     # one class left: nothing to learn
    0.0
    """
    _check_options(temperature, rank_by, delta, decay, rank_eps)
    check_logits(student_logits, teacher_logits)
    num_classes = student_logits.shape[-1]
    check_int("depth", depth, 2, num_classes, "num_classes")
    classes = top_classes(student_logits if rank_by == "student" else teacher_logits, depth)
    student, teacher = temper(student_logits.gather(-1, classes), teacher_logits.gather(-1, classes), temperature)

    ranks = torch.arange(1, depth + 1, device=student.device, dtype=student.dtype)
    distance = ranks - ranks.unsqueeze(-1)  # (d, d), j - i
    weight = delta * torch.exp(-decay * (ranks + ranks.unsqueeze(-1))) / (distance.abs() + rank_eps)
    pairs = (weight.triu(1) * _pair_kl(student, teacher)).sum((-2, -1))

    llki = group_kl(student, teacher).kl
    if depth < num_classes:
        rntk = group_kl(student_logits, teacher_logits, temperature, without=classes).kl
    else:
        rntk = torch.zeros_like(llki)
    terms = {"pairs": pairs, "llki": llki, "rntk": rntk}
    return {name: temperature**2 * value.flatten() for name, value in terms.items()}


def _pair_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the KL of the two-class softmax of every pair, ``(..., d, d)``."""
    student = student.unsqueeze(-1) - student.unsqueeze(-2)
    teacher = teacher.unsqueeze(-1) - teacher.unsqueeze(-2)
    # log(1 - sigmoid(x)) = logsigmoid(x) - x, so both logs of the pair come from one logsigmoid:
    # KL = p (log p - log q) + (1 - p) (log(1-p) - log(1-q)) = log p - log q - (1 - p) (x - y)
    return F.logsigmoid(teacher) - F.logsigmoid(student) - torch.sigmoid(-teacher) * (teacher - student)


def _check_options(temperature: float, rank_by: str, delta: float, decay: float, rank_eps: float) -> None:
    check_positive("temperature", temperature)
    check_choice("rank_by", rank_by, ["student", "teacher"])
    check_positive("delta", delta)
    check_range("decay", decay, 0, None)
    check_positive("rank_eps", rank_eps)


class LDRLDLoss(LogitLoss):
    """Local dense relations: ``alpha * (pairs + llki) + beta * rntk``. See :func:`ldrld_terms`.

    The paper tunes ``alpha``, ``beta`` and ``depth`` by pair and publishes no values we have: the defaults here are ours
    (``beta`` as the weight of GDKD's rest, of which ``rntk`` is the counterpart). Tune them on a validation split.

    Args:
        alpha: weight of the pairs and of the local term.
        beta: weight of the term on the remaining classes.
        depth: number of classes d compared in pairs, in [2, C].
        temperature: softening of all distributions.
        rank_by: ``student`` (as published) or ``teacher``.
        delta: scale of the pair weights.
        decay: how fast the weight of a pair falls with its ranks.
        rank_eps: added to the distance of ranks.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        depth: int = 7,
        temperature: float = 4.0,
        rank_by: Literal["student", "teacher"] = "student",
        delta: float = 2.0,
        decay: float = 0.05,
        rank_eps: float = 1.5,
    ) -> None:
        check_range("alpha", alpha, 0, None)
        check_range("beta", beta, 0, None)
        check_int("depth", depth, 2)
        _check_options(temperature, rank_by, delta, decay, rank_eps)
        super().__init__({"pairs": alpha, "llki": alpha, "rntk": beta})
        self.depth, self.temperature, self.rank_by = depth, temperature, rank_by
        self.delta, self.decay, self.rank_eps = delta, decay, rank_eps

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """See :func:`ldrld_terms`."""
        return ldrld_terms(
            student_logits,
            teacher_logits,
            labels,
            depth=self.depth,
            temperature=self.temperature,
            rank_by=self.rank_by,
            delta=self.delta,
            decay=self.decay,
            rank_eps=self.rank_eps,
        )
