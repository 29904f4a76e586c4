"""Showing a network blank images before time is spent: can it take them, and does it return logits?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from logitkd.checks import listed
from logitkd.reach import Ensemble, Teacher, eval_mode
from logitkd.reach.signals import check_logits

__all__ = ["check_input", "check_student"]


def check_input(teacher: Teacher | Ensemble, shape: Sequence[int], device: torch.device) -> None:
    """Show each teacher one image.

    Args:
        teacher: on ``device``.
        shape: of an image: channels, height, width.
        device: where.

    Raises:
        TypeError: it does not return a tensor.
        ValueError: a network's weights hold NaN, it cannot take such an image alone, or does not return its logits.
    """
    for member in teacher.members():
        check_weights(member.model, "teacher", type(member.model).__name__)
        _show(member.logits, member.model, "teacher", type(member.model).__name__, torch.zeros(1, *shape, device=device))


def check_student(student: nn.Module, name: str, num_classes: int, shape: Sequence[int], device: torch.device) -> None:
    """Show the student two images, in eval mode and without a gradient; modes and random state stay as they are.

    Args:
        student: on ``device``.
        name: as it was asked for, for the message.
        num_classes: C.
        shape: of an image: channels, height, width.
        device: where.

    Raises:
        TypeError: it does not return a tensor.
        ValueError: its weights hold NaN, it cannot take such images alone, or does not return logits ``(N, C)``.
    """
    check_weights(student, "student", f"`{name}`")
    drawn_on = [device] if device.type == "cuda" else []
    with eval_mode(student), torch.no_grad(), torch.random.fork_rng(drawn_on):
        output = _show(student, student, "student", f"`{name}`", torch.zeros(2, *shape, device=device))
    what = f"the student must return logits (N, {num_classes}), one row an image and one column a class, got"
    if not isinstance(output, Tensor):
        raise TypeError(f"{what} {type(output).__name__} (`{name}`). Wrap it in a module that returns the logits alone.")
    if tuple(output.shape) != (2, num_classes):
        last = output.shape[-1] if output.ndim == 2 and output.shape[0] == 2 else None
        fix = "Its `forward(images)` must return the logits alone."
        if last is not None:
            fix = f"It has {last} classes: let it take `num_classes`, or give data with as many classes as it has."
        raise ValueError(f"{what} {tuple(output.shape)} for 2 images (`{name}`). {fix}")
    check_logits(output, f"student (`{name}`)", num_classes)


def check_weights(network: nn.Module, who: str, name: str) -> None:
    """Raise ``ValueError`` if a parameter or a saved buffer of ``network`` holds NaN: whatever it says then means nothing."""
    tensors = {key: tensor for key, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}
    counts = {key: int(tensor.isnan().sum()) for key, tensor in tensors.items() if tensor.is_floating_point()}
    bad = {key: count for key, count in counts.items() if count}
    if bad:
        shown = (f"`{key}` ({count:,} of {tensors[key].numel():,})" for key, count in bad.items())
        raise ValueError(
            f"the {who}'s weights must be numbers, but {name} holds NaN in {len(bad)} of {len(tensors)} tensors: "
            f"{listed(shown, 3)}. Its training diverged, or its file is damaged: give other weights."
        )


def _show(network: Callable[[Tensor], object], model: nn.Module, who: str, name: str, images: Tensor) -> object:
    try:
        return network(images)
    except Exception as error:  # each library refuses in its own way
        if str(error).startswith(f"the {who}"):  # its classes or its output, already in our words
            raise
        shape = tuple(images.shape[1:])
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")[:200]
        built, given = _built_size(model), shape[1:]
        fix = "Give images of the size it was built for (`data.image_size`)"
        if built is not None and built != given:
            side = f"`--data.image_size {built[0]}`" if built[0] == built[1] else "a network for square images"
            fix = f"It was built for images of {built[0]}x{built[1]}, these are {given[0]}x{given[1]}: give {side}"
        raise ValueError(
            f"the {who} must take a batch of images {shape} and nothing else, but {name} fails on one ({reason}). {fix}, or "
            "wrap it in a module whose `forward(images)` returns the logits."
        ) from error


def _built_size(model: nn.Module) -> tuple[int, int] | None:
    """Return height and width of the images a network was built for, ``None`` if it does not say: most take any."""
    inner = getattr(model, "model", model)
    size = (
        getattr(getattr(inner, "config", None), "image_size", None)  # transformers
        or getattr(getattr(model, "patch_embed", None), "img_size", None)  # timm
        or getattr(model, "image_size", None)  # torchvision
    )
    if isinstance(size, int):
        return size, size
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return int(size[0]), int(size[1])
    return None
