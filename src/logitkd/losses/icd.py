"""iCD: Xue et al., "iCD: An Implicit Clustering Distillation Method", AAAI 2026 student abstract, arXiv 2509.12553."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from logitkd.checks import check_choice, check_range, check_temperature
from logitkd.logits import group_kl, kept, refuse_second_derivatives, widen, zero_masked
from logitkd.losses.base import LogitLoss, check_inner
from logitkd.losses.sdd import RegionLoss, check_regions, check_scales
from logitkd.tensor_checks import check_logits

if TYPE_CHECKING:
    pass

__all__ = ["ICDLoss", "gram_terms"]


def gram_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    scales: Sequence[int] = (1, 2, 4),
    scale_weights: Sequence[float] | None = None,
    temperature: float = 2.0,
    skip_trivial: bool = False,
) -> dict[str, Tensor]:
    """How the regions of an image relate to each other: the KL of their cosine Gram matrices.

    ::

        for every scale m, with z (m * m, C) the example's region logits of that scale, each row L2-normalised:
            G = softmax(z @ z.T / temperature) over each row                           # (m * m, m * m)
            gram += weight[m] * sum over rows of KL(G teacher || G student)

    A masked class adds nothing to a length or a product: it counts as a coordinate 0.

    Args:
        student_logits: region logits ``(N, S, C)``, coarse first, cells row-major.
        teacher_logits: same shape; receives no gradient.
        labels: not used.
        scales: grid sizes of the regions.
        scale_weights: one weight a scale; by default ``1 + log2(m)``, normalised to sum 1, which gives the authors' table:
            1/6, 2/6, 3/6 for (1, 2, 4), 1/3, 2/3 for (1, 2), 1/4, 3/4 for (1, 4).
        temperature: softening of the rows, 0.01 to 1000; there is no ``temperature ** 2``.
        skip_trivial: give the scale of a single cell, whose term is always 0, no weight, and renormalise over the others.

    Returns:
        ``{"gram": (N,)}``.

    Raises:
        ValueError: shapes that differ or do not fit ``scales``.

    Differs: the scale weights can be given, scales other than the authors' work, and a region of zeros, which has no
    direction, keeps a small gradient.

    Source: iCD ``mdistiller/distillers``, ``cluster_loss``.

    >>> import torch
    >>> student, teacher = torch.zeros(1, 4, 2), torch.zeros(1, 4, 2)
    >>> student[..., 0], teacher[..., 0] = 1.0, torch.tensor([1.0, 5.0, 2.0, 9.0])    # one direction, other lengths
    >>> float(gram_terms(student, teacher, scales=(2,))["gram"])
    0.0
    """
    scales = check_scales(scales)
    check_temperature("temperature", temperature)
    check_regions(student_logits, scales, "student_logits")
    check_logits(student_logits, teacher_logits)
    weights = _scale_weights(scales, scale_weights, skip_trivial)
    cells = [scale * scale for scale in scales]
    students, teachers = (_Direction.apply(z).split(cells, dim=1) for z in (student_logits, teacher_logits.detach()))
    parts = [
        weight * group_kl(_gram(student), _gram(teacher), temperature).kl.sum(-1)
        for weight, student, teacher in zip(weights, students, teachers, strict=True)
    ]
    return {"gram": torch.stack(parts).sum(0)}


def _gram(directions: Tensor) -> Tensor:
    """Return the cosine similarity of every two cells, ``(N, S, S)``."""
    with torch.autocast(directions.device.type, enabled=False):
        return directions @ directions.transpose(-2, -1)


class _Direction(torch.autograd.Function):
    """Each row divided by its length, with 0 in place of masked classes."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, logits: Tensor) -> Tensor:
        direction = zero_masked(widen(logits))
        length = torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
        # A region of zeros has no direction; scaled by 1 instead of by 1e12 its gradient stays small.
        sized = length > 1e-6
        scale = torch.where(sized, 1 / length, 1.0)
        direction.mul_(scale)
        ctx.save_for_backward(logits, direction, scale, sized)
        return direction

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        refuse_second_derivatives()
        logits, direction, scale, sized = ctx.saved_tensors  # type: ignore[attr-defined]
        along = (grad * direction).sum(-1, keepdim=True) * sized
        slope = torch.addcmul(grad, direction, along, value=-1).mul_(scale).mul_(kept(widen(logits)))
        return slope.to(logits.dtype)


def _scale_weights(scales: tuple[int, ...], given: Sequence[float] | None, skip_trivial: bool) -> list[float]:
    for weight in given or ():
        check_range("scale_weights", weight, 0, None)
    if given is not None and len(given) != len(scales):
        raise ValueError(f"`scale_weights` must hold one weight a scale ({len(scales)}), got {len(given)}.")
    weights = [1 + math.log2(m) for m in scales] if given is None else list(given)
    if skip_trivial:
        weights = [0.0 if m == 1 else w for m, w in zip(scales, weights, strict=True)]
    total = sum(weights)
    # Weights that the caller gave mean what they say, unless one of them is taken away.
    return [w / total for w in weights] if total and (given is None or skip_trivial) else weights


class ICDLoss(RegionLoss):
    """Any loss, plain or over regions, plus ``gram_weight`` times the structure of the regions. See :func:`gram_terms`.

    ``ICDLoss(SDDLoss(DKDLoss()))`` is the paper's iCD; a loss that reads plain logits gets those of region 0, the whole
    image. The Gram term needs no labels and no alignment of features, and its weight is not changed by ``kd_weight`` or
    warm-up.

    Args:
        loss: the loss to add to; reads logits or regions.
        scales: grid sizes of the regions; by default those of ``loss``, else (1, 2, 4).
        gram_weight: weight of the Gram term: 2 in the authors' released configurations, 8 in their result folders.
        gram_temperature: softening of the Gram rows; the authors fix it at 2.
        scale_weights: one weight a scale; see :func:`gram_terms`.
        skip_trivial: no weight for the scale of a single cell.
    """

    unscaled_terms = frozenset({"gram"})

    def __init__(
        self,
        loss: LogitLoss,
        scales: Sequence[int] | None = None,
        gram_weight: float = 2.0,
        gram_temperature: float = 2.0,
        scale_weights: Sequence[float] | None = None,
        skip_trivial: bool = False,
    ) -> None:
        check_inner("loss", loss, ("logits", "regions"))
        if isinstance(loss, ICDLoss):
            raise ValueError("`loss` must have no Gram term yet, got ICDLoss. Set `gram_weight` on one of the two.")
        own = getattr(loss, "scales", None)
        self_scales = check_scales(scales or own or (1, 2, 4))
        if own not in (None, self_scales):
            raise ValueError(f"`scales` must be those of the inner loss, {own}, got {self_scales}. Leave it out.")
        if loss.reads == "logits" and self_scales[0] != 1:
            raise ValueError(f"`scales` must start with 1 (the inner loss reads the whole image), got {self_scales}.")
        check_range("gram_weight", gram_weight, 0, None)
        check_temperature("gram_temperature", gram_temperature)
        check_choice("skip_trivial", skip_trivial, [True, False])
        _scale_weights(self_scales, scale_weights, skip_trivial)
        super().__init__({**loss.term_weights, "gram": gram_weight})
        self.loss, self.scales = loss, self_scales
        self.gram_temperature, self.scale_weights, self.skip_trivial = gram_temperature, scale_weights, skip_trivial
        self.needs_labels, self.per_example = loss.needs_labels, loss.per_example

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the terms of ``loss`` and ``gram``.

        Args:
            student_logits: ``(N, S, C)``.
            teacher_logits: same shape.
            labels: ``(N,)``, where ``loss`` needs them.
        """
        check_regions(student_logits, self.scales, "student_logits")
        check_regions(teacher_logits, self.scales, "teacher_logits")
        gram = gram_terms(
            student_logits,
            teacher_logits,
            scales=self.scales,
            scale_weights=self.scale_weights,
            temperature=self.gram_temperature,
            skip_trivial=self.skip_trivial,
        )
        if self.loss.reads == "logits":
            student_logits, teacher_logits = student_logits[:, 0], teacher_logits[:, 0]
        return {**self.loss.terms(student_logits, teacher_logits, labels), **gram}
