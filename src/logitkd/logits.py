"""Tensor algebra on logits: groups of classes, KL in log space, standardization.

Everything here takes logits ``(N, C)`` (any leading dimensions), computes in float32 or float64 whatever comes in, never
takes the log of a sum of probabilities, and never waits for the device.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["GroupKL", "KLType", "group_kl", "pick", "standardize", "temper", "top_classes", "widen"]

KLType = Literal["forward", "reverse", "both"]


def widen(logits: Tensor) -> Tensor:
    """Return ``logits`` in float32 (float64 stays): half precision has neither the range nor the digits for a KL."""
    return logits if logits.dtype == torch.float64 else logits.float()


def temper(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return both as ``logits / temperature`` in one wide dtype; the teacher's carry no gradient."""
    student, teacher = widen(student_logits), widen(teacher_logits.detach())
    dtype = torch.promote_types(student.dtype, teacher.dtype)
    return student.to(dtype) / temperature, teacher.to(dtype) / temperature


def pick(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Split each row's classes in two groups: those named, and the rest.

    Args:
        logits: ``(N, C)``.
        classes: class indices ``(N, k)``, or a mask ``(N, C)`` of bools where the number differs between rows.

    Returns:
        Logits of the named classes, ``(N, k)`` or ``(N, C)``, and of the rest, ``(N, C)``. A class outside its group holds a
        value so low that its probability is exactly 0, yet finite: differences of two such entries are 0, not NaN.
    """
    absent = torch.finfo(logits.dtype).min / 4
    if classes.dtype == torch.bool:
        return logits.masked_fill(~classes, absent), logits.masked_fill(classes, absent)
    return logits.gather(-1, classes), logits.scatter(-1, classes, absent)


def top_classes(logits: Tensor, k: int, *, largest: bool = True) -> Tensor:
    """Return the ``k`` classes with the largest (smallest) logits in order, ``(N, k)``; carries no gradient."""
    return logits.detach().topk(k, dim=-1, largest=largest).indices


class GroupKL(NamedTuple):
    """What :func:`group_kl` returns, each ``(N,)``."""

    kl: Tensor
    student_mass: Tensor
    teacher_mass: Tensor


def group_kl(student: Tensor, teacher: Tensor, kl_type: KLType = "forward") -> GroupKL:
    """KL divergence between two softmaxes over one group of classes, and the group's unnormalised log mass.

    ``kl = sum_c a_c (log a_c - log b_c)`` in nats with ``a = softmax(teacher)``, ``b = softmax(student)``; ``reverse`` swaps
    them; ``both`` is the mean of the two. ``mass = logsumexp(logits)``: the masses of all groups, put side by side, are the
    logits of the distribution over groups, so the chain rule ``KL = KL(groups) + sum_G b_G KL(within G)`` is two calls.

    The gradient is written out: with the group's softmaxes saved it is one multiply-add, where automatic differentiation
    needs three more tensors of that size. It reaches the student only.

    Args:
        student: tempered student logits of the group, ``(..., G)``.
        teacher: tempered teacher logits of the group, ``(..., G)``; receives no gradient.
        kl_type: direction of the divergence.

    >>> import math
    >>> uniform, sure = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])   # (1/2, 1/2) and (3/4, 1/4)
    >>> round(float(group_kl(uniform, sure).kl), 4)       # 3/4 log(3/2) + 1/4 log(1/2)
    0.1308
    >>> round(float(group_kl(sure, uniform).student_mass.exp()), 4)
    4.0
    """
    return GroupKL(*_GroupKL.apply(student, teacher, kl_type))


class _GroupKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, student: Tensor, teacher: Tensor, kl_type: KLType
    ) -> tuple[Tensor, Tensor, Tensor]:
        log_b, log_a = F.log_softmax(student, dim=-1), F.log_softmax(teacher, dim=-1)
        # The largest class gives the normaliser without a second pass of exponentials and without cancellation.
        student_mass = student.amax(-1) - log_b.amax(-1)
        teacher_mass = teacher.amax(-1) - log_a.amax(-1)
        b = log_b.exp()
        if kl_type == "forward":
            a = log_a.exp()
            kl = log_a.sub_(log_b).mul_(a).sum(-1)
            slope = a.neg_().add_(b)
        else:
            gap = log_b - log_a
            kl = (b * gap).sum(-1)
            slope = (gap - kl.unsqueeze(-1)).mul_(b)
            if kl_type == "both":
                a = log_a.exp()
                kl = (kl - (a * gap).sum(-1)) / 2
                slope = (slope + b - a) / 2
        ctx.save_for_backward(b, slope)
        ctx.mark_non_differentiable(teacher_mass)
        return kl, student_mass, teacher_mass

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, grad_kl: Tensor, grad_mass: Tensor, _: Tensor
    ) -> tuple[Tensor, None, None]:
        b, slope = ctx.saved_tensors  # type: ignore[attr-defined]
        return (slope * grad_kl.unsqueeze(-1)).addcmul_(b, grad_mass.unsqueeze(-1)), None, None


def standardize(logits: Tensor, eps: float = 1e-7) -> Tensor:
    """Z-score each row: ``(z - mean(z)) / (std(z) + eps)`` over classes, unbiased std, gradient through both.

    A row whose spread is below float resolution has nothing to standardize: it is centred and left at its own scale, so
    its gradient stays at most 1 where the formula gives ``1 / eps``.

    >>> standardize(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[-1.0000,  0.0000,  1.0000]])
    """
    z = widen(logits)
    centred = z - z.mean(-1, keepdim=True)
    variance = centred.square().sum(-1, keepdim=True) / (z.shape[-1] - 1)
    floor = (16 * torch.finfo(z.dtype).eps * z.detach().abs().amax(-1, keepdim=True)).clamp_min(1e-6)
    flat = variance.detach() <= floor.square()
    # The square root must not see a zero: its infinite slope would turn the untaken branch's gradient into NaN.
    return centred / (torch.where(flat, 1.0, variance).sqrt() + torch.where(flat, 0.0, eps))
