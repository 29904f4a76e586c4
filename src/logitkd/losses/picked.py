"""Logits of picked classes: what torch's ``gather`` would do, with no more kept for the gradient than it takes.

``gather`` keeps all logits and indices of eight bytes: on maps of few classes as much as the rest of a loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from logitkd.logits import GroupKL, KLType, descent, divergence, filled_ranks, refuse_second_derivatives

__all__ = ["pick", "split_kl"]


def split_kl(
    student_logits: Tensor, teacher_logits: Tensor, classes: Tensor, temperature: float = 1.0, *, kl_type: KLType = "forward"
) -> tuple[GroupKL, GroupKL]:
    """Return :func:`group_kl` of some classes and that of the others, with no more kept for the gradient than of one group.

    Args:
        student_logits: ``(..., C)``.
        teacher_logits: ``(..., C)``; receives no gradient.
        classes: those of the first group, ``(..., k)``, as :func:`top_classes` gives them: repeated ones count once.
        temperature: softening of both, above 0.
        kl_type: direction of the divergences.
    """
    found = _SplitKL.apply(student_logits, teacher_logits, classes, temperature, kl_type)
    return GroupKL(*found[:3]), GroupKL(*found[3:])


class _SplitKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        student_logits: Tensor,
        teacher_logits: Tensor,
        classes: Tensor,
        temperature: float,
        kl_type: KLType,
    ) -> tuple[Tensor, ...]:
        picked = student_logits.gather(-1, classes), teacher_logits.gather(-1, classes)
        *some, b, slope = divergence(*picked, temperature, ~filled_ranks(classes), kl_type)
        *others, all_b, all_slope = divergence(student_logits, teacher_logits, temperature, classes, kl_type)
        # Each is exactly 0 at the classes of the other, and at a repeated one.
        ctx.save_for_backward(
            all_b.scatter_add_(-1, classes, b), all_slope.scatter_add_(-1, classes, slope), _small(classes, all_b)
        )
        ctx.mark_non_differentiable(some[2], others[2])
        ctx.temperature, ctx.dtype = temperature, student_logits.dtype  # type: ignore[attr-defined]
        return (*some, *others)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        b, slope, small = ctx.saved_tensors  # type: ignore[attr-defined]
        classes, temperature = small.long(), ctx.temperature  # type: ignore[attr-defined]
        some = descent(b.gather(-1, classes), slope.gather(-1, classes), grads[0], grads[1], temperature)
        gradient = descent(b, slope, grads[3], grads[4], temperature).scatter_(-1, classes, some)
        return gradient.to(ctx.dtype), None, None, None, None  # type: ignore[attr-defined]


def pick(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the logits ``(..., k)`` of some classes ``(..., k)``."""
    return _Pick.apply(logits, classes)


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, logits: Tensor, classes: Tensor) -> Tensor:
        ctx.save_for_backward(_small(classes, logits))
        ctx.shape = logits.shape  # type: ignore[attr-defined]
        return logits.gather(-1, classes)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        refuse_second_derivatives()
        (classes,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad.new_zeros(ctx.shape).scatter_add_(-1, classes.long(), grad), None  # type: ignore[attr-defined]


def _small(classes: Tensor, logits: Tensor) -> Tensor:
    """Return class indices in the smallest type that holds those of ``logits``: they may be half of what is kept."""
    count = logits.shape[-1]
    return classes.to(torch.uint8 if count <= 2**8 else torch.int16 if count <= 2**15 else torch.int32)
