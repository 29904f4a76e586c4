"""Tensor algebra on logits: groups of classes, KL in log space, standardization.

Everything here takes logits ``(N, C)`` (any leading dimensions), computes in float32 or float64 whatever comes in, never
takes the log of a sum of probabilities, and never waits for the device.

A class is masked, for one example, where its logit is -inf in student and teacher alike: it is then no class of that example.
It counts in no sum, mean or rank, and its gradient is exactly 0.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "GroupKL",
    "KLType",
    "descent",
    "divergence",
    "filled_ranks",
    "finite",
    "group_kl",
    "kept",
    "refuse_second_derivatives",
    "remove_",
    "standardize",
    "temper",
    "top_classes",
    "widen",
    "zero_masked",
]

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
    absent = _absent(logits.dtype)
    return logits.masked_fill_(classes, absent) if classes.dtype == torch.bool else logits.scatter_(-1, classes, absent)


def _absent(dtype: torch.dtype) -> float:
    """Return the logit of a class that is not there: its probability is exactly 0, and sums of a few are finite."""
    return torch.finfo(dtype).min / 4


def finite(logits: Tensor) -> Tensor:
    """Return wide ``logits`` with masked classes at a finite value whose probability is exactly 0: 0 times it is 0."""
    return logits.clamp_min(_absent(logits.dtype))


def zero_masked(logits: Tensor) -> Tensor:
    """Return ``logits`` with 0 in place of -inf: masked classes add nothing to a sum. NaN and infinity stay."""
    return logits.nan_to_num(nan=torch.nan, posinf=torch.inf, neginf=0.0)


def kept(logits: Tensor) -> Tensor:
    """Return 1 for each class and 0 for each masked one, in the dtype of ``logits``."""
    return (logits - logits).nan_to_num_(nan=-1.0).add_(1.0)  # on a CPU a fraction of what a comparison takes


def top_classes(logits: Tensor, k: int, *, largest: bool = True, spare: int = 0) -> Tensor:
    """Return the ``k`` classes with the largest (smallest) logits in order, ``(N, k)``; carries no gradient.

    An example with fewer than ``k + spare`` classes that are not masked has as many as leave ``spare`` over, at least one;
    the ranks behind repeat its first class, see :func:`filled_ranks`.

    >>> top_classes(torch.tensor([[1.0, 3.0, 2.0], [1.0, -torch.inf, 2.0]]), 2, spare=1)
    tensor([[1, 2],
            [2, 2]])
    """
    logits = logits.detach() if largest else logits.detach().nan_to_num(nan=torch.nan, posinf=torch.inf, neginf=torch.inf)
    best = logits.topk(k + spare, dim=-1, largest=largest)
    classes = best.indices[..., :k]
    return torch.where(best.values[..., spare:].isfinite(), classes, classes[..., :1])


def filled_ranks(classes: Tensor) -> Tensor:
    """Return which ranks of :func:`top_classes` hold a class of their own, bools ``(N, k)``; their sum is how many do.

    >>> filled_ranks(torch.tensor([[1, 2], [2, 2]]))
    tensor([[ True,  True],
            [ True, False]])
    """
    first = torch.arange(classes.shape[-1], device=classes.device) == 0
    return (classes != classes[..., :1]) | first


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
    kl_type: KLType | Literal["cross"] = "forward",
) -> GroupKL:
    """KL divergence between two softened softmaxes over one group of classes, and the group's unnormalised log mass.

    ``kl = sum_c a_c (log a_c - log b_c)`` in nats with ``a`` the teacher's and ``b`` the student's ``softmax(z /
    temperature)`` over the group; ``reverse`` swaps them; ``both`` is the mean of the two. ``mass = logsumexp(z /
    temperature)``: the masses of all groups, side by side, are the logits of the distribution over groups, so the chain
    rule ``KL = KL(groups) + sum_G b_G KL(within G)`` is a few calls of this function.

    A class that is -inf in both is in no group. The KL of a group without classes is 0, its mass a finite number near the
    least one: its probability among the groups is exactly 0.

    Softening, removal, both softmaxes and the gradient are one step, written out: three tensors of the logits' size at the
    peak, and a backward pass of one multiply-add. The gradient reaches the student only.

    Args:
        student_logits: ``(..., C)``.
        teacher_logits: ``(..., C)``; receives no gradient.
        temperature: softening of both, above 0.
        without: classes that are not in the group, see :func:`remove_`; None for a group of all.
        kl_type: direction of the divergence; ``cross`` for the cross-entropy ``-sum_c a_c log b_c`` in its place.

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
        kl_type: KLType | Literal["cross"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        kl, student_mass, teacher_mass, b, slope = divergence(student_logits, teacher_logits, temperature, without, kl_type)
        ctx.save_for_backward(b, slope)
        ctx.mark_non_differentiable(teacher_mass)
        ctx.temperature, ctx.dtype = temperature, student_logits.dtype  # type: ignore[attr-defined]
        return kl, student_mass, teacher_mass

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, grad_kl: Tensor, grad_mass: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        b, slope = ctx.saved_tensors  # type: ignore[attr-defined]
        gradient = descent(b, slope, grad_kl, grad_mass, ctx.temperature)  # type: ignore[attr-defined]
        return gradient.to(ctx.dtype), None, None, None, None  # type: ignore[attr-defined]


def divergence(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, without: Tensor | None, kl_type: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return KL and both masses, ``(...)``, and what the gradient is made of: the student's softmax and a slope, negated."""
    dtype = torch.promote_types(widen(student_logits).dtype, widen(teacher_logits).dtype)
    absent = _absent(dtype)

    def soften(logits: Tensor) -> tuple[Tensor, Tensor]:
        z = (logits.to(dtype) / temperature).clamp_min_(absent)
        z = z if without is None else remove_(z, without)
        log_p = F.log_softmax(z, dim=-1)
        # The largest class gives the normaliser without another pass of exponentials, and without cancellation.
        return log_p, z.amax(-1) - log_p.amax(-1)

    log_b, student_mass = soften(student_logits)
    log_a, teacher_mass = soften(teacher_logits)
    if kl_type in ("forward", "cross"):
        a = log_a.exp()
        if kl_type == "forward":
            kl = log_a.sub_(log_b).mul_(a).sum(-1)
        else:  # a group without classes sums to nothing
            kl = torch.where(teacher_mass > absent / 2, -torch.mul(a, log_b, out=log_a).sum(-1), 0.0)
        b = log_b.exp_()
        slope = a.sub_(b)
    else:
        b = log_b.exp()
        gap = log_b - log_a
        kl = (b * gap).sum(-1)
        slope = (kl.unsqueeze(-1) - gap).mul_(b)
        if kl_type == "both":
            a = log_a.exp()
            kl = (kl - (a * gap).sum(-1)) / 2
            slope = (slope - b + a) / 2
    # -inf in one of the two only is no mask: there the divergence is infinite, not merely huge.
    return torch.where(kl < 1e30, kl, torch.inf), student_mass, teacher_mass, b, slope


def descent(b: Tensor, slope: Tensor, grad_kl: Tensor, grad_mass: Tensor, temperature: float) -> Tensor:
    """Return the gradient of a group's classes from that of its KL and of the student's mass."""
    down = grad_kl.unsqueeze(-1) / -temperature  # the slope is negated
    return (slope * down).addcmul_(b, grad_mass.unsqueeze(-1) / temperature)


def refuse_second_derivatives() -> None:
    """Raise ``NotImplementedError`` inside a backward pass that is to be differentiated itself."""
    # What a written-out backward pass saved are constants: a second derivative would silently miss their share.
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise NotImplementedError("logit losses have first derivatives only: call backward without `create_graph=True`.")


def standardize(logits: Tensor, eps: float = 1e-7) -> Tensor:
    """Z-score each row: ``(z - mean(z)) / (std(z) + eps)`` over classes, unbiased std, gradient through both.

    Masked classes count neither in the mean nor in the std, and stay -inf. A row whose spread is below float resolution, or
    below 1e-6, has nothing to standardize: it is centred and left at its own scale, so its gradient stays at most 1 where the
    formula gives ``1 / eps``.

    >>> standardize(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[-1.0000,  0.0000,  1.0000]])
    """
    return _Standardize.apply(logits, eps)


class _Standardize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, logits: Tensor, eps: float) -> Tensor:
        z = widen(logits)
        count = kept(z).sum(-1, keepdim=True)
        known = zero_masked(z)
        mean = known.sum(-1, keepdim=True) / count.clamp(min=1)
        y = z - mean  # a masked class stays -inf
        largest = torch.maximum(known.amax(-1, keepdim=True), -known.amin(-1, keepdim=True))
        std = torch.linalg.vector_norm(zero_masked(y), dim=-1, keepdim=True) / (count - 1).clamp(min=1).sqrt()
        flat = std <= (16 * torch.finfo(z.dtype).eps * largest).clamp_min(1e-6)
        scale = torch.where(flat, 1.0, 1 / (std + eps)) + (mean - mean)  # NaN where the mean overflowed: y is no mask there
        # The slope of the std is centred / ((count - 1) * std).
        along = torch.where(flat, 0.0, 1 / ((count - 1).clamp(min=1) * std))
        y.mul_(scale)
        ctx.save_for_backward(y, count, scale, along)
        ctx.dtype = logits.dtype  # type: ignore[attr-defined]
        return y

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        refuse_second_derivatives()
        y, count, scale, along = ctx.saved_tensors  # type: ignore[attr-defined]
        known = zero_masked(y)
        slope = (grad - grad.sum(-1, keepdim=True) / count.clamp(min=1)) * scale
        slope.addcmul_(known, (grad * known).sum(-1, keepdim=True) * along, value=-1).mul_(kept(y))
        return slope.to(ctx.dtype), None  # type: ignore[attr-defined]
