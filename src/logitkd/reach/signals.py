"""What one forward pass of a student or a teacher can yield for a loss to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Signals", "Wants", "agree", "checked_logits", "gap"]


@dataclass(frozen=True, eq=False)
class Signals:
    """The tensors of one forward pass, N examples and C classes.

    Attributes:
        logits: The model's own logits, ``(N, C)``.
        regions: Logits of S regions of each image, ``(N, S, C)``: the whole image first, then finer grids, each grid row
            by row. ``None`` where nobody asked.
        stones: Logits of stepping stones, a list of ``(N, C)``, the deepest last. ``None`` where nobody asked.
        streams: Further signals by name, such as an auxiliary head's logits.
    """

    logits: Tensor
    regions: Tensor | None = None
    stones: list[Tensor] | None = None
    streams: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Wants:
    """What a loss reads of both networks.

    Attributes:
        reads: The way of reaching in: ``logits``, ``regions``, ``stones``, or one that was registered, see ``register_pair``.
        scales: Grid sides of the regions, increasing, the first 1; ``None`` for none.
    """

    reads: str = "logits"
    scales: tuple[int, ...] | None = None


def checked_logits(output: object, who: str, num_classes: int | None = None) -> Tensor:
    """Return ``output`` if it is a float tensor ``(N, C)``, and C is ``num_classes`` where that is given.

    Args:
        output: What a model returned.
        who: Who returned it, for the message.
        num_classes: C, or ``None`` for any.

    Raises:
        TypeError: It is no floating tensor.
        ValueError: It has another shape.

    >>> checked_logits((torch.zeros(2, 10), {}), "teacher")
    Traceback (most recent call last):
    TypeError: the teacher must return its logits as one tensor (N, C), got tuple: wrap it in a module that returns them.
    >>> checked_logits(torch.zeros(2, 10), "teacher", num_classes=100)
    Traceback (most recent call last):
    ValueError: the teacher must have 100 classes, as the data, got 10: it was trained for other classes.
    """
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the {who} must return its logits as one tensor (N, C), got {type(output).__name__}: wrap it in a module"
            " that returns them."
        )
    if not torch.is_floating_point(output):
        raise TypeError(f"the {who} must return floating-point logits, got {output.dtype}.")
    if output.ndim != 2:
        raise ValueError(f"the {who} must return logits of shape (N, C), got {tuple(output.shape)}.")
    if num_classes is not None and output.shape[1] != num_classes:
        raise ValueError(
            f"the {who} must have {num_classes} classes, as the data, got {output.shape[1]}: it was trained for other classes."
        )
    return output


def agree(value: Tensor, target: Tensor) -> bool:
    """Whether two logits agree but for rounding; the bounds leave room for TF32 and half precision."""
    if value.shape != target.shape:
        return False
    bound = 0.1 if target.dtype in (torch.float16, torch.bfloat16) else 1e-3
    return bool((value - target).abs().max() <= bound * target.abs().max())


def gap(value: Tensor, target: Tensor) -> str:
    """Say how far two logits are apart."""
    if value.shape != target.shape:
        return f"their shape, {tuple(value.shape)} against {tuple(target.shape)}"
    return f"{(value - target).abs().max().item():.3g} (logits up to {target.abs().max().item():.3g})"
