"""Checks of tensors: logits, labels, weights. Values are read on the CPU only, where that waits for nothing."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "check_label_shape",
    "check_labels",
    "check_logits",
    "check_selection",
    "check_targets",
    "check_weights",
    "debug",
    "not_finite",
]

_debug = False


def debug(on: bool = True) -> None:
    """Check label and logit *values* on every device, not only on the CPU.

    Reading a value from a GPU waits for it, so the losses check there only shapes and types unless this is on.
    """
    global _debug
    _debug = on


def check_logits(student_logits: Tensor, teacher_logits: Tensor, student: str = "student_logits") -> None:
    """Raise unless both are floating point, of one shape ``(..., C)`` with at least two classes, on one device.

    On the CPU (elsewhere after :func:`debug`) NaN and infinite logits are refused too, except -inf in both: a masked class.
    Each example must keep at least one class.
    """
    for name, logits in ((student, student_logits), ("teacher_logits", teacher_logits)):
        if not isinstance(logits, Tensor):
            raise TypeError(f"`{name}` must be a tensor, got {type(logits).__name__}.")
        if not logits.is_floating_point():
            raise TypeError(f"`{name}` must be floating point, got {logits.dtype}. Pass the logits, not predicted classes.")
        if logits.ndim < 2:
            raise ValueError(
                f"`{name}` must have shape (N, C) or (..., C), got {tuple(logits.shape)}. "
                "A single example is (1, C): use `logits.unsqueeze(0)`."
            )
    if student_logits.shape[-1] != teacher_logits.shape[-1]:
        raise ValueError(
            f"`{student}` and `teacher_logits` must have the same number of classes, got "
            f"{student_logits.shape[-1]} and {teacher_logits.shape[-1]}. Give the student the teacher's classes, "
            "or map the teacher's onto the student's first."
        )
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"`{student}` and `teacher_logits` must have the same shape, got {tuple(student_logits.shape)} and "
            f"{tuple(teacher_logits.shape)}. Both must come from the same batch."
        )
    if student_logits.shape[-1] < 2:
        raise ValueError(
            f"logits must have at least 2 classes in their last dimension, got {student_logits.shape[-1]}. "
            "For one sigmoid output z, pass torch.stack([zeros, z], -1)."
        )
    if student_logits.numel() == 0:
        raise ValueError(f"logits must hold at least one example, got shape {tuple(student_logits.shape)}.")
    if student_logits.device != teacher_logits.device:
        raise ValueError(
            f"`{student}` and `teacher_logits` must be on one device, got {student_logits.device} and "
            f"{teacher_logits.device}. Move one with `.to(...)`."
        )
    if _reads_values(student_logits):
        _check_values(student_logits.detach(), teacher_logits.detach(), student)


def check_labels(labels: Tensor | None, logits: Tensor, needed_by: str, lowest: int = 0) -> None:
    """Raise unless ``labels`` holds one class index for each example of ``logits`` ``(..., C)``.

    On the CPU (elsewhere after :func:`debug`) it must be a class that the example has: in range, not masked by -inf; or -1, a
    missing one, where that is the ``lowest``.
    """
    if labels is None:
        raise ValueError(f"{needed_by} needs `labels`: pass the class index of each example, shape (N,), int64.")
    if not isinstance(labels, Tensor):
        raise TypeError(f"`labels` must be a tensor, got {type(labels).__name__}. Use torch.as_tensor(labels).")
    if labels.dtype != torch.int64:
        if labels.is_floating_point() or labels.dtype == torch.bool:
            fix = f"{needed_by} needs hard labels; for one-hot rows pass labels.argmax(-1)."
        else:
            fix = "Torch indexes with int64 only: pass labels.long()."
        raise TypeError(f"`labels` must be integer class indices, got {labels.dtype}. {fix}")
    check_label_shape(labels, logits)
    _check_device(labels, logits)
    if _reads_values(logits):
        low, high = (int(v) for v in labels.aminmax())
        num_classes = logits.shape[-1]
        if low < lowest or high >= num_classes:
            fix = "Leave out unlabelled examples, or give them weight 0." if lowest == 0 else "A missing label is -1."
            raise ValueError(
                f"`labels` must be in [0, {num_classes - 1}] (num_classes - 1), got {low if low < lowest else high}. {fix}"
            )
        of_label = logits.detach().gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        _check_not_masked((of_label == -torch.inf) & (labels >= 0))


def _check_not_masked(masked: Tensor) -> None:
    if masked.any():
        rows = masked.flatten().nonzero().flatten().tolist()
        raise ValueError(
            f"`labels` must be classes that are not masked, got one whose logit is -inf in {len(rows)} of {masked.numel()} "
            f"rows, the first row {rows[0]}. Leave out such examples, give them weight 0, or keep their class."
        )


def _check_device(labels: Tensor, logits: Tensor) -> None:
    if labels.device != logits.device:
        raise ValueError(f"`labels` must be on the logits' device {logits.device}, got {labels.device}.")


def check_targets(labels: Tensor | None, logits: Tensor, needed_by: str) -> None:
    """Raise unless ``labels`` are what a cross-entropy with ``logits`` ``(..., C)`` takes.

    That is the class index of each example, -1 where it is missing, or the probability of each class, ``(..., C)``: mixed
    labels. A probability's value is checked on the CPU (elsewhere after :func:`debug`): at least 0, of sum 1, 0 for a class
    that is masked by -inf.
    """
    if not isinstance(labels, Tensor) or not labels.is_floating_point() or labels.ndim != logits.ndim:
        check_labels(labels, logits, needed_by, lowest=-1)
        return
    if labels.shape != logits.shape:
        raise ValueError(
            f"mixed `labels` must have the logits' shape {tuple(logits.shape)}, the probability of each class, "
            f"got {tuple(labels.shape)}."
        )
    _check_device(labels, logits)
    if _reads_values(logits):
        sums = labels.detach().double().sum(-1)
        if not (labels >= 0).all() or not ((sums - 1).abs() < 1e-3).all():
            raise ValueError(
                "mixed `labels` must be at least 0 and sum to 1 for each example, got a least value of "
                f"{labels.min():.4g} and sums of {sums.min():.4g} to {sums.max():.4g}."
            )
        _check_not_masked(((logits.detach() == -torch.inf) & (labels > 0)).any(-1))


def check_label_shape(labels: Tensor, logits: Tensor) -> None:
    """Raise unless there is one label for each example of ``logits`` ``(..., C)``: the class axis is last."""
    if labels.shape != logits.shape[:-1]:
        second = labels.shape == logits.shape[:1] + logits.shape[2:]
        hint = " The class axis must be last: pass logits.movedim(1, -1)." if second else ""
        raise ValueError(
            f"`labels` must have shape {tuple(logits.shape[:-1])} (one class an example), got {tuple(labels.shape)}.{hint}"
        )


def check_weights(weights: Tensor, shape: torch.Size) -> None:
    """Raise unless ``weights`` holds one weight for each of the examples ``shape``; on the CPU, each at least 0."""
    if not isinstance(weights, Tensor):
        raise TypeError(f"`weights` must be a tensor, got {type(weights).__name__}. Use torch.as_tensor(weights).")
    if weights.shape != shape:
        raise ValueError(f"`weights` must have shape {tuple(shape)}, one weight an example, got {tuple(weights.shape)}.")
    if _reads_values(weights) and not ((weights >= 0) & weights.isfinite()).all():
        raise ValueError(f"`weights` must be finite and at least 0, got {weights.min()} to {weights.max()}.")


def check_selection(weights: Tensor, loss: str) -> None:
    """Raise unless ``weights`` select examples, each 0 or 1, for a loss that compares the examples of a batch; on the CPU."""
    if _reads_values(weights) and not ((weights == 0) | (weights == 1)).all():
        raise ValueError(
            f"`example_weights` must be 0 or 1 for {loss}, which compares the examples of a batch with each other, got"
            f" {weights.min()} to {weights.max()}: a part of an example cannot be compared. Select examples, or take a"
            " per-example loss."
        )


def _reads_values(tensor: Tensor) -> bool:
    return not torch.compiler.is_compiling() and (tensor.device.type == "cpu" or _debug)


def _check_values(student_logits: Tensor, teacher_logits: Tensor, student: str) -> None:
    # A finite sum proves that every entry is; it costs one read. Only when it is not do we look closer.
    if all(z.sum(dtype=torch.promote_types(z.dtype, torch.float32)).isfinite() for z in (student_logits, teacher_logits)):
        return
    for name, logits, other in ((student, student_logits, teacher_logits), ("teacher_logits", teacher_logits, student_logits)):
        bad = not_finite(logits, other).flatten(0, -2).any(-1)
        if bad.any():
            rows = bad.nonzero().flatten().tolist()
            raise ValueError(
                f"`{name}` must be finite, got NaN or infinity in {len(rows)} of {bad.numel()} rows, the first row {rows[0]}. "
                "The model that made them has diverged, or half precision has overflowed; a masked class is -inf in both."
            )
    empty = (student_logits == -torch.inf).flatten(0, -2).all(-1)
    if empty.any():
        rows = empty.nonzero().flatten().tolist()
        raise ValueError(
            f"`{student}` must keep at least one class of each example, got -inf for all of them in {len(rows)} of "
            f"{empty.numel()} rows, the first row {rows[0]}. Leave out such examples."
        )


def not_finite(logits: Tensor, other: Tensor | None) -> Tensor:
    """Return where ``logits`` are NaN or infinite, bools, but for masked classes: those that are -inf in ``other`` too.

    Args:
        logits: ``(..., C)`` of one model.
        other: the same of the other; None where there is none, and so no mask.
    """
    masked = torch.zeros_like(logits, dtype=torch.bool) if other is None else (logits == -torch.inf) & (other == -torch.inf)
    return ~(logits.isfinite() | masked)
