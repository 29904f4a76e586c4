"""GDKD, GDKD3: Zheng and Cheng, "Rethinking Decoupled Knowledge Distillation", TNNLS 2025, arXiv 2512.04625."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from logitkd.checks import check_choice, check_int, check_range, check_temperature
from logitkd.logits import KLType, filled_ranks, group_kl, temper, top_classes, widen
from logitkd.losses.base import LogitLoss
from logitkd.losses.picked import pick, split_kl
from logitkd.tensor_checks import check_logits

__all__ = ["GDKD3Loss", "GDKDLoss", "gdkd3_terms", "gdkd_terms"]

Strategy = Literal["best", "worst"]
Scaling = Literal["none", "top", "rest", "both"]


def gdkd_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    top_k: int = 5,
    temperature: float = 4.0,
    strategy: Strategy = "best",
    kl_type: KLType = "forward",
    top_mass: float | None = None,
    teacher_mass: Scaling = "none",
) -> dict[str, Tensor]:
    """KD split by the teacher's ranking: which group, and which class within each group.

    With ``p = softmax(z / temperature)``, ``b`` the sums of p over the two groups and ``p|G`` the softmax over G alone::

        top, rest = the teacher's top_k classes, the others
        group = temperature ** 2 * KL(bt || bs)
        top   = temperature ** 2 * KL(pt|top || ps|top)
        rest  = temperature ** 2 * KL(pt|rest || ps|rest)

    By the chain rule ``KD = group + bt_top * top + bt_rest * rest``: ``teacher_mass="both"`` with all weights 1 is KD.

    Args:
        student_logits: ``(..., C)``, C at least 2.
        teacher_logits: same shape; receives no gradient.
        labels: not used.
        top_k: size of the top group, in [1, C - 1]; all classes but one of an example that has no more, the others masked.
        temperature: softening of both distributions, 0.01 to 1000.
        strategy: the group called top holds the teacher's ``best`` (largest) or ``worst`` (smallest) ``top_k`` logits.
        kl_type: direction of ``top`` and ``rest``; ``group`` is always teacher to student.
        top_mass: choose the size of the top group per example instead: the fewest best classes whose probability (softened)
            reaches ``top_mass``, in (0, 1); at least 1 and at most C - 1 classes. ``top_k`` is then not used.
        teacher_mass: multiply ``top``, ``rest`` or ``both`` by the teacher's probability of that group.

    Returns:
        ``{"group": (N,), "top": (N,), "rest": (N,)}``.

    Raises:
        ValueError: shapes that differ, ``top_k`` out of range (the authors' code returns NaN at ``top_k = C``).

    Differs: computed in log space (see :func:`logitkd.losses.dkd_terms`); an empty group is refused. ``top_mass`` and
    ``teacher_mass`` are named as experiments in the authors' repository.

    Source: GDKD ``mdistiller/distillers/GDKD.py``.

    >>> import math, torch
    >>> teacher = torch.tensor([[math.log(2.0), 0.0, 0.0]])                      # (1/2, 1/4, 1/4)
    >>> student = torch.tensor([[0.0, math.log(3.0), 0.0]])                      # (1/5, 3/5, 1/5)
    >>> terms = gdkd_terms(student, teacher, top_k=1, temperature=1.0)
    >>> terms["group"], terms["rest"]           # 1/2 log(5/2) + 1/2 log(5/8) and 1/2 log(2/3) + 1/2 log 2
    (tensor([0.2231]), tensor([0.1438]))
    >>> float(terms["top"])                     # one class alone: nothing to learn
    0.0
    """
    _check_options(temperature, strategy, kl_type, top_mass, teacher_mass)
    check_logits(student_logits, teacher_logits)
    if top_mass is None:
        check_int("top_k", top_k, 1, student_logits.shape[-1] - 1, "num_classes - 1")
        classes = top_classes(teacher_logits, top_k, largest=strategy == "best", spare=1)
        top, rest = split_kl(student_logits, teacher_logits, classes, temperature, kl_type=kl_type)
    else:
        classes = _nucleus(widen(teacher_logits.detach()) / temperature, top_mass)
        top = group_kl(student_logits, teacher_logits, temperature, without=~classes, kl_type=kl_type)
        rest = group_kl(student_logits, teacher_logits, temperature, without=classes, kl_type=kl_type)
    teacher_masses = torch.stack([top.teacher_mass, rest.teacher_mass], -1)
    group = group_kl(torch.stack([top.student_mass, rest.student_mass], -1), teacher_masses)
    terms = {"group": group.kl, "top": top.kl, "rest": rest.kl}
    if teacher_mass != "none":
        mass = F.softmax(teacher_masses, dim=-1)
        if teacher_mass in ("top", "both"):
            terms["top"] = mass[..., 0] * top.kl
        if teacher_mass in ("rest", "both"):
            terms["rest"] = mass[..., 1] * rest.kl
    return {name: temperature**2 * value.flatten() for name, value in terms.items()}


def _nucleus(teacher: Tensor, top_mass: float) -> Tensor:
    """Return the mask ``(..., C)`` of the fewest best classes whose probability reaches ``top_mass``, never all of them."""
    best_first = teacher.sort(dim=-1, descending=True, stable=True)
    probabilities = F.softmax(best_first.values, dim=-1)
    wanted = probabilities.cumsum(-1) - probabilities < top_mass
    wanted[..., :-1] &= best_first.values[..., 1:] != -torch.inf  # the last class of an example, or a masked one
    wanted[..., 0], wanted[..., -1] = True, False
    return torch.zeros_like(wanted).scatter(-1, best_first.indices, wanted)


def gdkd3_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    top_k: int = 4,
    temperature: float = 4.0,
) -> dict[str, Tensor]:
    """GDKD with three groups: the teacher's first class, its classes 2 to ``top_k``, and the rest.

    ``group = temperature ** 2 * KL`` of the three group probabilities, ``top`` on classes 2..k, ``rest`` on the others. Made
    for transformer teachers, whose first class takes nearly all the probability.

    Args:
        student_logits: ``(..., C)``, C at least 3.
        teacher_logits: same shape; receives no gradient.
        labels: not used.
        top_k: rank of the last class in the second group, in [2, C - 1]; the last but one of an example that has no more.
        temperature: softening of both distributions, 0.01 to 1000.

    Returns:
        ``{"group": (N,), "top": (N,), "rest": (N,)}``.

    Raises:
        ValueError: shapes that differ, ``top_k`` out of range.

    Differs: computed in log space; an empty group is refused.

    Source: GDKD ``mdistiller/distillers/GDKD3.py``.

    >>> import torch
    >>> terms = gdkd3_terms(torch.zeros(1, 4), torch.tensor([[3.0, 2.0, 1.0, 0.0]]), top_k=2)
    >>> float(terms["top"])                     # classes 2..2: one class alone
    0.0
    """
    check_temperature("temperature", temperature)
    check_logits(student_logits, teacher_logits)
    num_classes = student_logits.shape[-1]
    if num_classes < 3:
        raise ValueError(f"GDKD3 needs at least 3 classes (its three groups), got {num_classes}. Use GDKD.")
    check_int("top_k", top_k, 2, num_classes - 1, "num_classes - 1; the second group holds ranks 2 to top_k")
    classes = top_classes(teacher_logits, top_k, spare=1)
    student, teacher = temper(pick(student_logits, classes), teacher_logits.gather(-1, classes), temperature)
    top = group_kl(student[..., 1:], teacher[..., 1:], without=~filled_ranks(classes)[..., 1:])
    rest = group_kl(student_logits, teacher_logits, temperature, without=classes)
    group = group_kl(
        torch.stack([student[..., 0], top.student_mass, rest.student_mass], -1),
        torch.stack([teacher[..., 0], top.teacher_mass, rest.teacher_mass], -1),
    )
    terms = {"group": group.kl, "top": top.kl, "rest": rest.kl}
    return {name: temperature**2 * value.flatten() for name, value in terms.items()}


def _check_options(temperature: float, strategy: str, kl_type: str, top_mass: float | None, teacher_mass: str) -> None:
    check_temperature("temperature", temperature)
    check_choice("strategy", strategy, ["best", "worst"])
    check_choice("kl_type", kl_type, ["forward", "reverse", "both"])
    check_choice("teacher_mass", teacher_mass, ["none", "top", "rest", "both"])
    if top_mass is not None:
        check_range("top_mass", top_mass, None, None)
        if not 0 < top_mass < 1:
            raise ValueError(f"`top_mass` must be in (0, 1) (a probability), got {top_mass}.")
        if strategy == "worst":
            raise ValueError("`top_mass` chooses among the best classes, got strategy='worst'. Leave one of them out.")


class GDKDLoss(LogitLoss):
    """Generalized decoupled distillation: ``w_group * group + w_top * top + w_rest * rest``. See :func:`gdkd_terms`.

    Args:
        w_group: weight of the term between the groups.
        w_top: weight of the term inside the top group.
        w_rest: weight of the term inside the rest.
        top_k: size of the top group, in [1, C - 1].
        temperature: softening of both distributions.
        strategy: top means the teacher's ``best`` or ``worst`` classes.
        kl_type: direction inside the groups: ``forward``, ``reverse`` or ``both``.
        top_mass: per-example size of the top group: the fewest classes that reach this probability.
        teacher_mass: multiply ``top``, ``rest`` or ``both`` by the teacher's probability of the group.

    >>> import torch
    >>> loss = GDKDLoss(top_k=2)
    >>> float(loss(torch.zeros(3, 5), torch.zeros(3, 5)))
    0.0
    """

    two_classes = "is `{kd}` with other weights: each group holds one class, and nothing to tell of it"
    two_class_options: ClassVar[Mapping[str, Any]] = MappingProxyType({"top_k": 1})

    def __init__(
        self,
        w_group: float = 1.0,
        w_top: float = 1.0,
        w_rest: float = 8.0,
        top_k: int = 5,
        temperature: float = 4.0,
        strategy: Strategy = "best",
        kl_type: KLType = "forward",
        top_mass: float | None = None,
        teacher_mass: Scaling = "none",
    ) -> None:
        for name, weight in (("w_group", w_group), ("w_top", w_top), ("w_rest", w_rest)):
            check_range(name, weight, 0, None)
        check_int("top_k", top_k, 1)
        _check_options(temperature, strategy, kl_type, top_mass, teacher_mass)
        super().__init__({"group": w_group, "top": w_top, "rest": w_rest})
        self.top_k, self.temperature, self.strategy, self.kl_type = top_k, temperature, strategy, kl_type
        self.top_mass, self.teacher_mass = top_mass, teacher_mass

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """See :func:`gdkd_terms`."""
        return gdkd_terms(
            student_logits,
            teacher_logits,
            labels,
            top_k=self.top_k,
            temperature=self.temperature,
            strategy=self.strategy,
            kl_type=self.kl_type,
            top_mass=self.top_mass,
            teacher_mass=self.teacher_mass,
        )


class GDKD3Loss(LogitLoss):
    """GDKD with the teacher's first class in a group of its own. See :func:`gdkd3_terms`.

    Args:
        w_group: weight of the term between the three groups.
        w_top: weight of the term inside ranks 2 to ``top_k``.
        w_rest: weight of the term inside the rest.
        top_k: rank of the last class in the second group, in [2, C - 1].
        temperature: softening of both distributions.
    """

    recompute = True

    def __init__(
        self, w_group: float = 1.0, w_top: float = 1.0, w_rest: float = 8.0, top_k: int = 4, temperature: float = 4.0
    ) -> None:
        for name, weight in (("w_group", w_group), ("w_top", w_top), ("w_rest", w_rest)):
            check_range(name, weight, 0, None)
        check_int("top_k", top_k, 2)
        check_temperature("temperature", temperature)
        super().__init__({"group": w_group, "top": w_top, "rest": w_rest})
        self.top_k, self.temperature = top_k, temperature

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """See :func:`gdkd3_terms`."""
        return gdkd3_terms(student_logits, teacher_logits, labels, top_k=self.top_k, temperature=self.temperature)
