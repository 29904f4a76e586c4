"""Tensor algebra on logits: groups of classes, KL in log space, standardization.

Everything here takes logits ``(N, C)`` (any leading dimensions), computes in float32 or float64 whatever comes in, never
takes the log of a sum of probabilities, and never waits for the device.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["GroupKL", "KLType", "group_kl", "remove_", "standardize", "temper", "top_classes", "widen"]

KLType = Literal["forward", "reverse", "both"]


def widen(logits: Tensor) -> Tensor:
    """Return ``logits`` in float32 (float64 stays): half precision has neither the range nor the digits for a KL."""
    return logits if logits.dtype == torch.float64 else logits.float()


def temper(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return both as ``logits / temperature`` in one wide dtype; the teacher's carry no gradient."""
    student, teacher = widen(student_logits), widen(teacher_logits.detach())
    dtype = torch.promote_types(student.dtype, teacher.dtype)
    return student.to(dtype) / temperature, teacher.to(dtype) / temperature


def remove_(logits: Tensor, classes: Tensor) -> Tensor:
    """Take classes out of each row, in place: their probability becomes exactly 0, and they stay finite.

    Differences and products of two such entries are then 0 where infinities would give NaN.

    Args:
        logits: ``(N, C)``.
        classes: class indices ``(N, k)``, or a mask ``(N, C)`` of bools where the number differs between rows.
    """
    absent = torch.finfo(logits.dtype).min / 4
    return logits.masked_fill_(classes, absent) if classes.dtype == torch.bool else logits.scatter_(-1, classes, absent)


def top_classes(logits: Tensor, k: int, *, largest: bool = True) -> Tensor:
    """Return the ``k`` classes with the largest (smallest) logits in order, ``(N, k)``; carries no gradient."""
    return logits.detach().topk(k, dim=-1, largest=largest).indices


class GroupKL(NamedTuple):
    """What :func:`group_kl` returns, each ``(N,)``."""

    kl: Tensor
    student_mass: Tensor
    teacher_mass: Tensor


def group_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    *,
    without: Tensor | None = None,
    kl_type: KLType = "forward",
) -> GroupKL:
    """KL divergence between two softened softmaxes over one group of classes, and the group's unnormalised log mass.

    ``kl = sum_c a_c (log a_c - log b_c)`` in nats with ``a`` the teacher's and ``b`` the student's ``softmax(z /
    temperature)`` over the group; ``reverse`` swaps them; ``both`` is the mean of the two. ``mass = logsumexp(z /
    temperature)``: the masses of all groups, side by side, are the logits of the distribution over groups, so the chain
    rule ``KL = KL(groups) + sum_G b_G KL(within G)`` is a few calls of this function.

    Softening, removal, both softmaxes and the gradient are one step, written out: three tensors of the logits' size at the
    peak, and a backward pass of one multiply-add. The gradient reaches the student only.

    Args:
        student_logits: ``(..., C)``.
        teacher_logits: ``(..., C)``; receives no gradient.
        temperature: softening of both, above 0.
        without: classes that are not in the group, see :func:`remove_`; None for a group of all.
        kl_type: direction of the divergence.

    >>> import math
    >>> uniform, sure = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])   # (1/2, 1/2) and (3/4, 1/4)
    >>> round(float(group_kl(uniform, sure).kl), 4)       # 3/4 log(3/2) + 1/4 log(1/2)
    0.1308
    >>> round(float(group_kl(sure, uniform).student_mass.exp()), 4)
    4.0
    """
    return GroupKL(*_GroupKL.apply(student_logits, teacher_logits, temperature, without, kl_type))


class _GroupKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        student_logits: Tensor,
        teacher_logits: Tensor,
        temperature: float,
        without: Tensor | None,
        kl_type: KLType,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = torch.promote_types(widen(student_logits).dtype, widen(teacher_logits).dtype)

        def soften(logits: Tensor) -> tuple[Tensor, Tensor]:
            z = logits.to(dtype) / temperature
            z = z if without is None else remove_(z, without)
            log_p = F.log_softmax(z, dim=-1)
            # The largest class gives the normaliser without another pass of exponentials, and without cancellation.
            return log_p, z.amax(-1) - log_p.amax(-1)

        log_b, student_mass = soften(student_logits)
        log_a, teacher_mass = soften(teacher_logits)
        if kl_type == "forward":
            a = log_a.exp()
            kl = log_a.sub_(log_b).mul_(a).sum(-1)
            b = log_b.exp_()
            slope = a.neg_().add_(b)
        else:
            b = log_b.exp()
            gap = log_b - log_a
            kl = (b * gap).sum(-1)
            slope = (gap - kl.unsqueeze(-1)).mul_(b)
            if kl_type == "both":
                a = log_a.exp()
                kl = (kl - (a * gap).sum(-1)) / 2
                slope = (slope + b - a) / 2
        ctx.save_for_backward(b, slope)
        ctx.mark_non_differentiable(teacher_mass)
        ctx.temperature, ctx.dtype = temperature, student_logits.dtype  # type: ignore[attr-defined]
        return kl, student_mass, teacher_mass

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, grad_kl: Tensor, grad_mass: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        # The saved tensors are constants here: a second derivative would silently miss their share.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise NotImplementedError("logit losses have first derivatives only: call backward without `create_graph=True`.")
        b, slope = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_kl, grad_mass = (g.unsqueeze(-1) / ctx.temperature for g in (grad_kl, grad_mass))  # type: ignore[attr-defined]
        return (slope * grad_kl).addcmul_(b, grad_mass).to(ctx.dtype), None, None, None, None  # type: ignore[attr-defined]


def standardize(logits: Tensor, eps: float = 1e-7) -> Tensor:
    """Z-score each row: ``(z - mean(z)) / (std(z) + eps)`` over classes, unbiased std, gradient through both.

    A row whose spread is below float resolution, or below 1e-6, has nothing to standardize: it is centred and left at its
    own scale, so its gradient stays at most 1 where the formula gives ``1 / eps``.

    >>> standardize(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[-1.0000,  0.0000,  1.0000]])
    """
    z = widen(logits)
    centred = z - z.mean(-1, keepdim=True)
    variance = centred.square().sum(-1, keepdim=True) / (z.shape[-1] - 1)
    floor = (16 * torch.finfo(z.dtype).eps * z.detach().abs().amax(-1, keepdim=True)).clamp_min(1e-6)
    flat = variance.detach() <= floor.square()
    # The square root must not see a zero: its infinite slope would turn the untaken branch's gradient into NaN.
    return centred / (torch.where(flat, 1.0, variance).sqrt() + (~flat).to(z.dtype) * eps)
