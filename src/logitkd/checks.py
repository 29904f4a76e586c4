"""Argument checks: the one home of error wording.

Every message names the value, the rule, what came and, where one is likely, the fix::

    `top_k` must be in [1, 99] (num_classes - 1), got 100.
"""

from __future__ import annotations

import difflib
import os
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "check_choice",
    "check_int",
    "check_label_shape",
    "check_labels",
    "check_logits",
    "check_path",
    "check_positive",
    "check_range",
    "check_targets",
    "check_temperature",
    "check_texts",
    "check_weights",
    "collector",
    "debug",
    "listed",
    "not_finite",
    "shown",
    "suggest",
    "unknown",
]

_debug = False
_LARGEST = sys.float_info.max


def debug(on: bool = True) -> None:
    """Check label and logit *values* on every device, not only on the CPU.

    Reading a value from a GPU waits for it, so the losses check there only shapes and types unless this is on.
    """
    global _debug
    _debug = on


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean `x`?`` for the closest of ``known``, or an empty string.

    >>> suggest("gdk", ["kd", "gdkd", "dist"])
    ' Did you mean `gdkd`?'
    >>> suggest("zzz", ["kd", "gdkd"])
    ''
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean `{close[0]}`?" if close else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name: what it is, what it is close to, all there is.

    >>> unknown("method", "gdk", ["kd", "gdkd"])
    'unknown method `gdk`. Did you mean `gdkd`? Known: gdkd, kd.'
    """
    known = sorted(known)
    return f"unknown {kind} `{name}`.{suggest(name, known)} Known: {', '.join(known) or 'none'}."


def listed(names: Iterable[object], most: int = 8) -> str:
    """Join the first few names.

    >>> listed(["a", "b", "c"], most=2)
    'a, b, ... (1 more)'
    >>> listed([])
    'none'
    """
    every = list(map(str, names))
    more = f", ... ({len(every) - most} more)" if len(every) > most else ""
    return (", ".join(every[:most]) or "none") + more


_brief = reprlib.Repr()  # does not look at what it does not show
_brief.maxlevel, _brief.maxstring, _brief.maxother, _brief.maxlong = 3, 200, 200, 60
_brief.maxlist, _brief.maxtuple, _brief.maxdict = 20, 20, 20


def shown(value: object, most: int = 200) -> str:
    """Return ``repr(value)`` for a message: cut where it is long, and never expanded beyond what is shown.

    >>> shown([1, "a", None])
    "[1, 'a', None]"
    >>> shown(list(range(1000)))
    '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, ...]'
    """
    text = _brief.repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``allowed``."""
    allowed = list(allowed)
    if value not in allowed:
        hint = suggest(value, [a for a in allowed if isinstance(a, str)]) if isinstance(value, str) else ""
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, allowed))}, got {shown(value)}.{hint}")


def check_range(name: str, value: float, low: float | None, high: float | None, why: str = "") -> None:
    """Raise ``ValueError`` unless ``value`` is finite and ``low <= value <= high``.

    ``None`` is no bound; ``why`` explains the bounds. A bool or a string is a ``TypeError``: reading ``True`` as 1 hides
    mistakes.

    >>> check_range("top_k", 100, 1, 99, "num_classes - 1")
    Traceback (most recent call last):
        ...
    ValueError: `top_k` must be in [1, 99] (num_classes - 1), got 100.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {shown(value)} ({type(value).__name__}).")
    inside = (low is None or value >= low) and (high is None or value <= high)
    if not (abs(value) <= _LARGEST and inside):  # math.isfinite fails on a huge int
        if low is None and high is None:
            rule = "finite"
        elif high is None:
            rule = f"at least {low}"
        else:
            rule = f"in [{'-inf' if low is None else low}, {high}]"
        got = value if isinstance(value, float) else shown(value)
        raise ValueError(f"`{name}` must be {rule}{f' ({why})' if why else ''}, got {got}.")


def check_int(name: str, value: int, low: int | None = None, high: int | None = None, why: str = "") -> None:
    """Raise unless ``value`` is an integer in ``[low, high]``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer, got {shown(value)} ({type(value).__name__}).")
    check_range(name, value, low, high, why)


def check_positive(name: str, value: float) -> None:
    """Raise unless ``value`` is a finite number above zero."""
    check_range(name, value, None, None)
    if value <= 0:
        raise ValueError(f"`{name}` must be above 0, got {value}.")


def check_path(name: str, value: str | os.PathLike[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is UTF-8 text, each part of it short enough for the name of a file.

    Linux takes any bytes for a name, but safetensors, parquet and a run's own record of itself hold text.

    >>> check_path("output", "runs/" + 300 * "a")
    Traceback (most recent call last):
        ...
    ValueError: `output` must have at most 255 bytes between two slashes, got 300 in 'aaaaaaaaaaaaaaaaaaaa...'. Shorten it.
    """
    text = os.fspath(value)
    try:
        longest, part = max((len(part.encode()), part) for part in text.split("/"))
    except UnicodeEncodeError:
        longest = -1
    if longest < 0 or "\0" in text:
        raise ValueError(f"`{name}` must be UTF-8 text without null bytes, got {text!a}. Rename what it names.")
    if longest > 255:
        raise ValueError(
            f"`{name}` must have at most 255 bytes between two slashes, got {longest} in '{part[:20]}...'. Shorten it."
        )


def check_texts(name: str, value: object) -> None:
    """Check every text inside ``value``, a configuration or a part of one, by :func:`check_path`: most name files.

    >>> check_texts("one", [{"of": "a" * 300}])
    Traceback (most recent call last):
        ...
    ValueError: `one[0].of` must have at most 255 bytes between two slashes, got 300 in 'aaaaaaaaaaaaaaaaaaaa...'. Shorten it.
    """
    if isinstance(value, (str, os.PathLike)):
        check_path(name, value)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check_texts(f"{name}[{index}]", item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            check_texts(f"{name}.{key}", item)
    elif is_dataclass(value):
        check_texts(name, vars(value))


def check_temperature(name: str, value: float) -> None:
    """Raise unless ``value`` is a temperature at which float32 still has four digits of a loss and its gradient.

    Softened logits differ by ``1 / temperature``, so each factor of ten costs a digit; at 1e30 nothing is left but NaN, and at
    1e-30 ``temperature ** 2`` is 0.

    >>> check_temperature("temperature", 1e30)
    Traceback (most recent call last):
        ...
    ValueError: `temperature` must be in [0.01, 1000] (beyond, float32 has too few digits), got 1e+30.
    """
    check_positive(name, value)
    check_range(name, value, 0.01, 1000, "beyond, float32 has too few digits")


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


def check_labels(labels: Tensor | None, logits: Tensor, needed_by: str) -> None:
    """Raise unless ``labels`` holds one class index for each example of ``logits`` ``(..., C)``.

    On the CPU (elsewhere after :func:`debug`) it must be a class that the example has: in range, not masked by -inf.
    """
    _check_hard(labels, logits, needed_by, lowest=0)


def _check_hard(labels: Tensor | None, logits: Tensor, needed_by: str, lowest: int) -> None:
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
        _check_hard(labels, logits, needed_by, lowest=-1)
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


def collector(problems: list[str]) -> Callable[..., None]:
    """Return a function that calls a check with its arguments, and adds what it refuses to ``problems``.

    >>> problems = []
    >>> check = collector(problems)
    >>> check(check_int, "epochs", 3, 1)
    >>> check(check_int, "epochs", 0, 1)
    >>> problems
    ['`epochs` must be at least 1, got 0.']
    """

    def check(function: Callable[..., object], *args: Any) -> None:
        try:
            function(*args)
        except (TypeError, ValueError) as error:
            problems.append(str(error))

    return check
