"""What one forward pass of a student or a teacher can yield for a loss to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Signals", "Wants", "agree", "answer_of", "checked_logits", "checked_map", "gap", "read_output"]

_MAPS = ("out", "logits")  # what torchvision and transformers call the map among what a network returns
_STREAMS = ("aux",)  # and further maps, each a stream of that name
_QUERIES = {"masks_queries_logits", "class_queries_logits", "pred_masks"}  # what mask classification returns in its place


@dataclass(frozen=True, eq=False)
class Signals:
    """The tensors of one forward pass, N examples and C classes.

    Those of a dense network, which answers for every cell of a grid of each image, have the grid in their middle: the class
    axis is last here, whereas networks return it second.

    Attributes:
        logits: The model's own logits, ``(N, C)``; dense ``(N, h, w, C)``.
        regions: Logits of S regions of each image, ``(N, S, C)``: the whole image first, then finer grids, each grid row
            by row. ``None`` where nobody asked, and of dense networks.
        stones: Logits of stepping stones, a list of tensors like ``logits``, the deepest last. ``None`` where nobody asked.
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
        reads: The way of reaching in: ``logits``, ``maps``, ``regions``, ``stones``, or one that was registered, see
            ``register_pair``.
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


def checked_map(output: object, who: str, num_classes: int | None = None) -> Signals:
    """Return the map of logits that a dense network put out, class axis last: views, nothing is copied.

    Args:
        output: What it returned: a float tensor ``(N, C, h, w)``, or a mapping that holds it as ``out`` (torchvision) or
            ``logits`` (transformers). A further map ``aux`` in it, of an auxiliary head, becomes the stream of that name.
        who: Who returned it, for the message.
        num_classes: C, or ``None`` for any.

    Raises:
        TypeError: It is neither, or not floating.
        ValueError: It has another shape, or other classes.

    >>> signals = checked_map({"out": torch.zeros(2, 5, 8, 6), "aux": torch.zeros(2, 5, 4, 3)}, "student")
    >>> signals.logits.shape, signals.streams["aux"].shape
    (torch.Size([2, 8, 6, 5]), torch.Size([2, 4, 3, 5]))
    >>> checked_map(torch.zeros(2, 1, 8, 6, 5), "teacher")
    Traceback (most recent call last):
    ValueError: the teacher must return a map of logits (N, C, H, W), got (2, 1, 8, 6, 5).
    """
    found = {"logits": output}
    if isinstance(output, Mapping):
        if not _QUERIES.isdisjoint(output):
            raise TypeError(
                f"the {who} must return a map of logits (N, C, H, W), got {type(output).__name__}, masks with a class each"
                " (mask classification, as Mask2Former, MaskFormer and OneFormer do): no pixel has logits of its own there."
                " Give a network of per-pixel classes, such as SegFormer or DeepLabV3."
            )
        answer = answer_of(output)
        if answer is None:
            raise TypeError(
                f"the {who} must return a map of logits (N, C, H, W), or a mapping that holds it as"
                f" {' or '.join(map(repr, _MAPS))}, got {type(output).__name__} of {', '.join(map(repr, output)) or 'nothing'}:"
                " wrap it in a module that does."
            )
        found = {"logits": answer} | {name: output[name] for name in _STREAMS if output.get(name) is not None}
    maps = {name: _checked(value, who, name, num_classes).movedim(1, -1) for name, value in found.items()}
    return Signals(maps.pop("logits"), streams=maps)


def answer_of(output: Mapping[Any, Any]) -> Any:
    """Return what a network's output holds as its logits, ``None`` where it holds none."""
    return next((output[name] for name in _MAPS if name in output), None)


def _checked(value: object, who: str, name: str, num_classes: int | None) -> Tensor:
    what = "a map of logits (N, C, H, W)" if name == "logits" else f"a map of logits (N, C, H, W) as {name!r}"
    if not isinstance(value, Tensor):
        raise TypeError(
            f"the {who} must return {what}, got {type(value).__name__}: wrap it in a module that returns that tensor, or a"
            f" mapping that holds it as {_MAPS[0]!r}."
        )
    if not torch.is_floating_point(value):
        raise TypeError(f"the {who} must return {what}, floating-point logits, got {value.dtype}.")
    if value.ndim != 4:
        fix = ": it answers once an image. Give a segmentation network." if value.ndim == 2 else "."
        raise ValueError(f"the {who} must return {what}, got {tuple(value.shape)}{fix}")
    if value.shape[1] < 2:
        raise ValueError(
            f"the {who} must return {what} with a channel for each class, got {value.shape[1]}: one channel is a sigmoid's."
            " Give it two, background and foreground."
        )
    if num_classes is not None and value.shape[1] != num_classes:
        raise ValueError(
            f"the {who} must have {num_classes} classes, as the data, got {value.shape[1]}: it was trained for other classes."
        )
    return value


def read_output(output: object, who: str, dense: bool) -> Signals:
    """Return what a network put out as signals, see :func:`checked_logits` and, of a dense one, :func:`checked_map`."""
    return checked_map(output, who) if dense else Signals(checked_logits(output, who))


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
