"""Block-KD: Yu et al., "Decoupling Dark Knowledge via Block-wise Logit Distillation", IEEE TAI 2024, arXiv 2411.01547."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from logitkd.checks import check_positive, check_range
from logitkd.logits import finite, widen
from logitkd.losses.base import LogitLoss, check_inner
from logitkd.losses.kd import KDLoss
from logitkd.tensor_checks import check_logits, check_targets

if TYPE_CHECKING:
    from logitkd.reach.signals import Signals

__all__ = ["BlockKDLoss", "block_kd_terms"]


def block_kd_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    stones: Sequence[Tensor],
    d: LogitLoss,
    decay: float = 2.0,
    task: bool = True,
) -> dict[str, Tensor]:
    """The task, the teacher and the stones' ensemble, for the student and for every stepping stone.

    Stone i is the network of the student's first i blocks, a connector, and the teacher's blocks after i::

        task    = CE(student) + sum_i CE(stone_i) / decay ** (n - i)
        distill = d(teacher, student) + sum_i d(teacher, stone_i) / decay ** (n - i)
        cross   = d(ens, student) + sum_i d(ens, stone_i),   ens = mean_i stone_i, held constant

    Args:
        student_logits: ``(..., C)``.
        teacher_logits: same shape; receives no gradient.
        labels: class indices ``(...)``, -1 where one is missing, which makes that example's ``task`` 0 and leaves it out of
            the mean; or class probabilities ``(..., C)``. Where ``d`` needs labels, neither. May be None without ``task``.
        stones: n tensors like ``student_logits`` (or one ``(n, ..., C)``), the stone after the first block first.
        d: the distance: any loss that reads logits.
        decay: how fast a stone's weight falls the earlier it leaves the student.
        task: whether to compute ``task``; 0 otherwise.

    Returns:
        ``{"task": (N,), "distill": (N,), "cross": (N,)}``.

    Raises:
        ValueError: shapes that differ, no stones, labels missing or out of range.

    Differs: no public code exists. With some stones left out (the lighter variant) n and i count those given.

    Source: the paper's objective.

    >>> import torch
    >>> logits = torch.zeros(1, 4)
    >>> terms = block_kd_terms(logits, logits, torch.tensor([0]), stones=[logits, logits], d=KDLoss())
    >>> terms["task"]                                                            # (1 + 1/2 + 1) * log 4
    tensor([3.4657])
    """
    check_positive("decay", decay)
    check_logits(student_logits, teacher_logits)
    if len(stones) == 0:
        raise ValueError("`stones` must hold the logits of at least one stepping stone, got none.")
    for stone in stones:
        check_logits(stone, teacher_logits, "stones")
    if task:
        check_targets(labels, student_logits, "Block-KD with its task term")
    n = len(stones)
    shares = [1.0] + [decay ** -(n - i) for i in range(1, n + 1)]
    outputs = [student_logits, *stones]
    ensemble = torch.stack([widen(stone) for stone in stones]).mean(0).detach()

    def total(values: list[Tensor], weights: list[float]) -> Tensor:
        return torch.stack([weight * value for weight, value in zip(weights, values, strict=True)]).sum(0)

    distill = total([d.example_losses(output, teacher_logits, labels) for output in outputs], shares)
    cross = total([d.example_losses(output, ensemble, labels) for output in outputs], [1.0] * (n + 1))
    if not task:
        return {"task": torch.zeros_like(distill), "distill": distill, "cross": cross}
    targets = labels.reshape(-1, labels.shape[-1]) if labels.is_floating_point() else labels.flatten()  # type: ignore[union-attr]

    def entropy(output: Tensor) -> Tensor:
        logits = widen(output).flatten(0, -2)
        logits = finite(logits) if targets.is_floating_point() else logits
        return F.cross_entropy(logits, targets, ignore_index=-1, reduction="none")

    entropies = [entropy(output) for output in outputs]
    return {"task": total(entropies, shares), "distill": distill, "cross": cross}


class BlockKDLoss(LogitLoss):
    """Stepping stones: ``alpha * task + beta * distill + gamma * cross``. See :func:`block_kd_terms`.

    It holds the task's cross-entropy itself: do not add another. The paper's weights are in no public text we have; all
    default to 1: tune them.

    Args:
        d: the distance, any loss that reads logits; by default :class:`KDLoss`.
        alpha: weight of the task term; 0 needs no labels.
        beta: weight of the term towards the teacher.
        gamma: weight of the term towards the stones' ensemble.
        decay: how fast a stone's share of ``task`` and ``distill`` falls the earlier it leaves the student.
    """

    recompute = True
    reads: ClassVar[str] = "stones"
    labelled_terms = unscaled_terms = frozenset({"task"})
    without_labels = MappingProxyType({"alpha": 0.0})

    def __init__(
        self,
        d: LogitLoss | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        decay: float = 2.0,
    ) -> None:
        d = KDLoss() if d is None else d
        check_inner("d", d, ("logits",))
        check_range("alpha", alpha, 0, None)
        check_range("beta", beta, 0, None)
        check_range("gamma", gamma, 0, None)
        check_positive("decay", decay)
        super().__init__({"task": alpha, "distill": beta, "cross": gamma})
        self.d, self.decay = d, decay
        self.needs_labels = alpha > 0 or d.needs_labels
        self.per_example = d.per_example

    @property
    def needs_hard_labels(self) -> bool:
        """Whether the distance does: the task term takes missing and mixed labels."""
        return self.d.needs_hard_labels

    @property
    def on_stream(self) -> LogitLoss:
        """The distance to the teacher alone: stones end in the main logits, and are counted there once."""
        return _Distance(self.d, self.term_weights["distill"])

    def read(self, student: Signals, teacher: Signals) -> dict[str, Any]:
        """Return the logits of both and the student's stones."""
        if student.stones is None:
            raise ValueError("BlockKDLoss reads stepping stones: Signals(logits, stones=[...]) must hold them.")
        return {**super().read(student, teacher), "stones": student.stones}

    def check_classes(self, num_classes: int) -> None:
        """Raise ``ValueError`` if a hyper-parameter does not fit the number of classes."""
        zeros = torch.zeros(1, num_classes)
        self.terms(zeros, zeros, torch.zeros(1, dtype=torch.int64), stones=[zeros])

    def terms(  # type: ignore[override]
        self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None, *, stones: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """See :func:`block_kd_terms`."""
        task = self.term_weights["task"] > 0
        return block_kd_terms(student_logits, teacher_logits, labels, stones=stones, d=self.d, decay=self.decay, task=task)

    def forward(  # type: ignore[override]
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        *,
        stones: Sequence[Tensor],
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar; arguments as :meth:`LogitLoss.forward`, and ``stones`` as :func:`block_kd_terms`.

        ``task`` is averaged over the labelled examples, as cross-entropy is; the other terms over all.
        """
        labels = self.readable(labels, weights, student_logits)
        measured = self.measure(self.terms(student_logits, teacher_logits, labels, stones=stones), labels, weights)
        return self.weigh({name: term.mean() for name, term in measured.items()})


class _Distance(LogitLoss):
    """Block-KD of a head that no stone ends in: ``beta * d(teacher, student)``."""

    def __init__(self, d: LogitLoss, beta: float) -> None:
        super().__init__({"distill": beta})
        self.d = d
        self.needs_labels, self.per_example = d.needs_labels, d.per_example

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the distance of each example as ``distill``."""
        return {"distill": self.d.example_losses(student_logits, teacher_logits, labels)}
