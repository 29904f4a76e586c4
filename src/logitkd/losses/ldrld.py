"""LDRLD: Xu et al., "Local Dense Logit Relations for Enhanced Knowledge Distillation", ICCV 2025, arXiv 2507.15911."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from logitkd.checks import check_choice, check_int, check_positive, check_range, check_temperature
from logitkd.logits import filled_ranks, group_kl, temper, top_classes
from logitkd.losses.base import LogitLoss
from logitkd.losses.picked import pick
from logitkd.tensor_checks import check_logits

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

    The first two terms are the local knowledge, averaged over its ``d (d - 1) / 2 + 1`` combinations of classes: every pair,
    and the d classes together. ::

        c_1 .. c_d = the depth classes with the largest student logits, in descending order
        for every i < j:                                   # a two-class softmax is a sigmoid of the difference
            weight = delta * exp(-decay * (i + j)) / (j - i + rank_eps)
            pairs += weight * temperature ** 2 * KL(teacher's (c_i, c_j) || student's (c_i, c_j)) / combinations
        llki = temperature ** 2 * KL over c_1 .. c_d alone / combinations      # with d = 2 this is the pair, weighed as it is
        rntk = temperature ** 2 * KL over the C - d other classes alone; 0 when depth = C

    Args:
        student_logits: ``(..., C)``, C at least 2.
        teacher_logits: same shape; receives no gradient.
        labels: not used.
        depth: number of classes d, in [2, C]; all classes of an example that has fewer, the others masked.
        temperature: softening of all distributions, 0.01 to 1000.
        rank_by: whose logits rank the classes; ``teacher`` makes a top-k teacher cache enough. The choice has no gradient.
        delta: scale of the pair weights.
        decay: how fast the weight of a pair falls with its ranks.
        rank_eps: added to the distance of ranks.

    Returns:
        ``{"pairs": (N,), "llki": (N,), "rntk": (N,)}``; memory grows with ``N * depth ** 2``.

    Raises:
        ValueError: shapes that differ, ``depth`` out of range.

    Differs: ``rank_by="teacher"`` is ours. The authors build a masked copy of the logits for each combination and take the
    log of probabilities; here every pair is one entry of a ``(d, d)`` matrix, in log space.

    Source: the paper's ADW (inverse rank and exponential rank decay), LLKI and RNTK; yema-web/LDRLD at b4dcfc9,
    ``distiller_zoo/LDRLD.py``.

    >>> import math, torch
    >>> student = torch.tensor([[0.2, 0.1, 0.0]])
    >>> teacher = torch.tensor([[math.log(3.0), 0.0, 0.0]])
    >>> terms = ldrld_terms(student, teacher, depth=2, temperature=1.0, delta=1.0, decay=0.0, rank_eps=1.0)
    >>> p, q = 3 / 4, 1 / (1 + math.exp(-0.1))                                   # the teacher's and the student's pair
    >>> kl = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    >>> math.isclose(terms["pairs"], kl / 2 / 2, rel_tol=1e-5)                   # weight 1 / (1 + rank_eps), 2 combinations
    True
    >>> float(terms["rntk"])                                                     # one class left: nothing to learn
    0.0
    """
    _check_options(temperature, rank_by, delta, decay, rank_eps)
    check_logits(student_logits, teacher_logits)
    num_classes = student_logits.shape[-1]
    check_int("depth", depth, 2, num_classes, "num_classes")
    classes = top_classes(student_logits if rank_by == "student" else teacher_logits, depth)
    filled = filled_ranks(classes)  # an example with fewer classes than depth has fewer ranks: filled.sum(-1)
    student, teacher = temper(pick(student_logits, classes), teacher_logits.gather(-1, classes), temperature)

    ranks = torch.arange(1, depth + 1, device=student.device, dtype=student.dtype)
    distance = ranks - ranks.unsqueeze(-1)  # (d, d), j - i
    weight = delta * torch.exp(-decay * (ranks + ranks.unsqueeze(-1))) / (distance.abs() + rank_eps)
    pairs = ((weight.triu(1) * _pair_kl(student, teacher)).sum(-2) * filled).sum(-1)

    count = filled.sum(-1)
    llki = group_kl(student, teacher, without=~filled).kl
    llki = torch.where(count == 2, pairs, llki)  # two classes together are the pair, and weigh as it does
    if depth < num_classes:
        rntk = group_kl(student_logits, teacher_logits, temperature, without=classes).kl
    else:
        rntk = torch.zeros_like(llki)
    combinations = count * (count - 1) // 2 + 1
    terms = {"pairs": pairs / combinations, "llki": llki / combinations, "rntk": rntk}
    return {name: temperature**2 * value.flatten() for name, value in terms.items()}


def _pair_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the KL of the two-class softmax of every pair, ``(..., d, d)``."""
    student = student.unsqueeze(-1) - student.unsqueeze(-2)
    teacher = teacher.unsqueeze(-1) - teacher.unsqueeze(-2)
    # log(1 - sigmoid(x)) = logsigmoid(x) - x, so both logs of the pair come from one logsigmoid:
    # KL = p (log p - log q) + (1 - p) (log(1-p) - log(1-q)) = log p - log q - (1 - p) (x - y)
    return F.logsigmoid(teacher) - F.logsigmoid(student) - torch.sigmoid(-teacher) * (teacher - student)


def _check_options(temperature: float, rank_by: str, delta: float, decay: float, rank_eps: float) -> None:
    check_temperature("temperature", temperature)
    check_choice("rank_by", rank_by, ["student", "teacher"])
    check_positive("delta", delta)
    check_range("decay", decay, 0, None)
    check_positive("rank_eps", rank_eps)


class LDRLDLoss(LogitLoss):
    """Local dense relations: ``alpha * (pairs + llki) + beta * rntk``. See :func:`ldrld_terms`.

    The defaults are those of the authors' command for resnet32x4 -> resnet8x4 on CIFAR-100; their values for other pairs are
    in no public file. Their loss has no warm-up, their learning rate has: epoch / 20 of it in the first 19 of 240 epochs
    (``schedule.warmup``, 0.0833).

    In bfloat16, logits that are close become equal and change ranks. On random logits of 100 classes the gradient of an example
    whose ranks stand is off by 0.3 %, as with the other losses; an eighth of the examples changed ranks, and theirs is off by
    15 %: 5 % over all (1000 classes: 0.4 %, 20 %, 11 %). ``rank_by="teacher"`` changes nothing about that.

    Differs: the authors' learning rate stays at 19/20 from then on until the first milestone, by a slip; ours reaches its
    full value in epoch 20.

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

    two_classes = "is `{kd}` with other weights: there is one pair of classes, and none is left"
    recompute = True
    two_class_options: ClassVar[Mapping[str, Any]] = MappingProxyType({"depth": 2})

    def __init__(
        self,
        alpha: float = 10.5,
        beta: float = 7.0,
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
