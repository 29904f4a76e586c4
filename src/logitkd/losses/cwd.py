"""CWD: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021, arXiv 2011.13256."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from logitkd.checks import check_temperature
from logitkd.logits import group_kl
from logitkd.losses.base import LogitLoss, Term
from logitkd.tensor_checks import check_logits, check_selection, check_weights

__all__ = ["CWDLoss", "cwd_terms"]


def cwd_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    temperature: float = 4.0,
) -> dict[str, Tensor]:
    """KL divergence between where the teacher and where the student see each class.

    With ``p[c, i] = softmax over the positions i of an image of z[i, c] / temperature``::

        cwd = temperature ** 2 * mean_c sum_i pt[c, i] (log pt[c, i] - log ps[c, i])

    Args:
        student_logits: maps ``(N, H, W, C)``, C at least 2.
        teacher_logits: same shape; receives no gradient.
        labels: not used.
        weights: ``(N, H, W)``, 1 for each position and 0 for what is none, such as ignored pixels: it takes no part in a
            softmax, whatever its logits. None for all.
        temperature: softening of both distributions, 0.01 to 1000.

    Returns:
        ``{"cwd": (N,)}``, 0 of an image without positions.

    Raises:
        ValueError: no maps, shapes that differ, weights other than 0 and 1.

    Differs: none in the formula, and where the authors take the log of a softmax, which may be that of 0, this one is computed
    in log space. They compare ignored pixels, too. A class that is masked at each position of an image is none in its mean.

    Source: the paper's channel-wise distillation; irfanICMLL/TorchDistiller at c2caaca, ``SemSeg-distill/utils/criterion.py``.

    >>> import math, torch
    >>> teacher = torch.zeros(1, 1, 2, 2)                        # both classes: 1/2 and 1/2 over two positions
    >>> student = torch.tensor([[[[math.log(3.0), 0.0], [0.0, 0.0]]]])           # the first class: 3/4 and 1/4
    >>> cwd_terms(student, teacher, temperature=1.0)["cwd"]      # (1/2 log(2/3) + 1/2 log 2) / 2
    tensor([0.0719])
    """
    check_temperature("temperature", temperature)
    check_logits(student_logits, teacher_logits)
    if student_logits.ndim != 4:
        raise ValueError(
            f"`student_logits` must be maps (N, H, W, C) for CWD, got {tuple(student_logits.shape)}: it compares the"
            " positions of an image. Move the class axis last: `logits.movedim(1, -1)`."
        )
    without = None
    if weights is not None:
        check_weights(weights, student_logits.shape[:-1])
        check_selection(weights, "CWD")
        without = (weights == 0).flatten(1).unsqueeze(1)
    student, teacher = (logits.movedim(-1, 1).flatten(2) for logits in (student_logits, teacher_logits))  # (N, C, positions)
    group = group_kl(student, teacher, temperature, without=without)
    present = group.teacher_mass > torch.finfo(group.teacher_mass.dtype).min / 8  # where no position has the class it is less
    return {"cwd": temperature**2 * group.kl.sum(1) / present.sum(1).clamp(min=1)}


class CWDLoss(LogitLoss):
    """Channel-wise distillation of maps of logits. See :func:`cwd_terms`.

    Its examples are images: those count that have a position.

    Args:
        temperature: softening of both distributions.

    >>> import torch
    >>> loss = CWDLoss()
    >>> float(loss(torch.zeros(2, 4, 6, 5), torch.zeros(2, 4, 6, 5)))
    0.0
    """

    reads: ClassVar[str] = "maps"
    reads_weights = True

    def __init__(self, temperature: float = 4.0) -> None:
        check_temperature("temperature", temperature)
        super().__init__({"cwd": 1.0})
        self.temperature = temperature

    def terms(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        *,
        weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """See :func:`cwd_terms`."""
        return cwd_terms(student_logits, teacher_logits, labels, weights=weights, temperature=self.temperature)

    def measure(
        self, terms: dict[str, Tensor], labels: Tensor | None, weights: Tensor | None, label_weights: Tensor | None = None
    ) -> dict[str, Term]:
        """Return each term's sum over the images, and how many of them have a position."""
        return super().measure(terms, labels, None if weights is None else (weights != 0).flatten(1).any(1))

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None, *, weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss, a scalar: the mean over the images that have a position; arguments as :func:`cwd_terms`."""
        terms = self.terms(student_logits, teacher_logits, labels, weights=weights)
        return self.weigh({name: term.mean() for name, term in self.measure(terms, labels, weights).items()})
