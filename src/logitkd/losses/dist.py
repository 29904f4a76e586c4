"""DIST: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv 2205.10536."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from logitkd.checks import check_range, check_temperature
from logitkd.logits import kept, temper
from logitkd.losses.base import LogitLoss
from logitkd.tensor_checks import check_logits

__all__ = ["DISTLoss", "dist_terms"]


def dist_terms(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None, *, temperature: float = 4.0
) -> dict[str, Tensor]:
    """One minus the correlation of probabilities, within each example and within each class.

    With ``p = softmax(z / temperature)``::

        inter_n = temperature ** 2 * (1 - pearson(ps[n, :], pt[n, :]))                 # per example, over classes
        intra   = temperature ** 2 * (1 - mean_c pearson(ps[:, c], pt[:, c]))          # per class, over the batch

    A class that is masked in some examples is correlated over the examples that have it; the mean is over the classes that any
    example has.

    Args:
        student_logits: ``(..., C)``, C at least 2.
        teacher_logits: same shape; receives no gradient.
        labels: not used.
        temperature: softening of both distributions, 0.01 to 1000.

    Returns:
        ``{"inter": (N,), "intra": (N,)}``; ``intra`` is one number of the whole batch, repeated.

    Raises:
        ValueError: shapes that differ.

    Differs: none in the formula, which as in the authors' code adds 1e-8 to the product of the two norms of a correlation.
    A row or column that is constant up to rounding correlates 0 with a small gradient; the authors divide what
    rounding left of it by 1e-8, a gradient of 1e7 that overflows half precision.

    Source: section 3 of the paper; GDKD ``mdistiller/distillers/DIST.py``.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    >>> [round(float(v.abs().max()), 3) for v in dist_terms(logits, logits).values()]
    [0.0, 0.0]
    """
    check_temperature("temperature", temperature)
    check_logits(student_logits, teacher_logits)
    student, teacher = temper(student_logits.flatten(0, -2), teacher_logits.flatten(0, -2), temperature)
    ps, pt = F.softmax(student, dim=-1), F.softmax(teacher, dim=-1)
    present = kept(student.detach())
    inter = 1 - _pearson(ps, pt, present, dim=-1)
    intra = 1 - _pearson(ps, pt, present, dim=0).sum() / present.amax(0).sum()
    return {"inter": temperature**2 * inter, "intra": temperature**2 * intra.expand_as(inter)}


def _pearson(a: Tensor, b: Tensor, present: Tensor, dim: int) -> Tensor:
    a, flat_a = _centre(a, present, dim)
    b, flat_b = _centre(b, present, dim)
    norms = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim) + 1e-8
    return (a * b).sum(dim) / torch.where(flat_a | flat_b, 1.0, norms)


def _centre(p: Tensor, present: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return ``p`` less its mean, and where nothing but rounding is left of it: correlation there is noise over noise.

    Both are over the entries that are ``present``, 1 or 0; the others are 0 before and after.
    """
    mean = p.sum(dim, keepdim=True) / present.sum(dim, keepdim=True).clamp(min=1)
    centred = torch.addcmul(p, present, mean, value=-1)
    resolution = 16 * torch.finfo(p.dtype).eps * p.detach().amax(dim)
    largest = torch.maximum(centred.detach().amax(dim), -centred.detach().amin(dim))
    return centred, largest <= resolution


class DISTLoss(LogitLoss):
    """Correlation distillation: ``beta * inter + gamma * intra``. See :func:`dist_terms`.

    Args:
        beta: weight of the term within examples.
        gamma: weight of the term within classes, which needs the whole batch.
        temperature: softening of both distributions.
    """

    per_example = False

    def __init__(self, beta: float = 2.0, gamma: float = 2.0, temperature: float = 4.0) -> None:
        check_range("beta", beta, 0, None)
        check_range("gamma", gamma, 0, None)
        check_temperature("temperature", temperature)
        super().__init__({"inter": beta, "intra": gamma})
        self.temperature = temperature

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """See :func:`dist_terms`."""
        return dist_terms(student_logits, teacher_logits, labels, temperature=self.temperature)
