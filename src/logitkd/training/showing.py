"""Showing a network blank images before time is spent: can it take them, does it return logits, can it learn?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from logitkd.checks import listed
from logitkd.reach import Ensemble, Teacher, eval_mode
from logitkd.reach.signals import checked_logits

__all__ = ["check_input", "check_learns", "check_one_image", "check_student"]


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
        _show(member.logits, member.model, "teacher", type(member.model).__name__, (1, *shape), device)


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
    with _left_as_it_was(student, device), torch.no_grad():
        output = _show(student, student, "student", f"`{name}`", (2, *shape), device)
    what = f"the student must return logits (N, {num_classes}), one row an image and one column a class, got"
    if not isinstance(output, Tensor):
        raise TypeError(f"{what} {type(output).__name__} (`{name}`). Wrap it in a module that returns the logits alone.")
    if tuple(output.shape) != (2, num_classes):
        last = output.shape[-1] if output.ndim == 2 and output.shape[0] == 2 else None
        fix = "Its `forward(images)` must return the logits alone."
        if last is not None:
            fix = f"It has {last} classes: let it take `num_classes`, or give data with as many classes as it has."
        raise ValueError(f"{what} {tuple(output.shape)} for 2 images (`{name}`). {fix}")
    checked_logits(output, f"student (`{name}`)", num_classes)


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


def check_learns(student: nn.Module, name: str, shape: Sequence[int], device: torch.device) -> None:
    """Show the student two images and see that its logits depend on something that training changes; no trace is left.

    Args:
        student: on ``device``; it passed :func:`check_student`.
        name: as it was asked for, for the message.
        shape: of an image: channels, height, width.
        device: where.

    Raises:
        ValueError: it has no parameters, or all are frozen, or its logits depend on none of those that are not.
    """
    what = f"the student must have logits that depend on parameters to train, but `{name}`"
    parameters = list(student.parameters())
    if not parameters:
        raise ValueError(
            f"{what} has no parameters. Give a network with some; layers in a plain list are not found, use `nn.ModuleList`."
        )
    trained = {id(parameter) for parameter in parameters if parameter.requires_grad}
    if not trained:
        raise ValueError(
            f"{what} has {len(parameters)} parameters and all of them are frozen (`requires_grad` is False). Leave at least"
            " those of its last layer trainable."
        )
    images = torch.zeros(2, *shape, device=device)
    with _left_as_it_was(student, device), torch.enable_grad():
        learns = _reaches(student(images), trained)
        if not learns:  # some turn gradients off in eval mode alone
            learns = _reaches(_trained_on(student, images), trained)
    if not learns:
        raise ValueError(
            f"{what} returns logits that depend on none of its {len(trained)} trainable parameters: they are detached. Take"
            " `.detach()`, `torch.no_grad()` and the like out of its `forward`, or unfreeze layers that the logits come from."
        )


def check_one_image(student: nn.Module, name: str, shape: Sequence[int], device: torch.device) -> None:
    """Train the student's norms on one blank image, for runs whose batches are no larger; no trace is left.

    Args:
        student: on ``device``; it passed :func:`check_student`.
        name: as it was asked for, for the message.
        shape: of an image: channels, height, width.
        device: where.

    Raises:
        ValueError: a batch norm gets one value a channel, which has no variance.
    """
    try:
        with _left_as_it_was(student, device), torch.no_grad():
            _trained_on(student, torch.zeros(1, *shape, device=device))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):  # torch's words
            raise
        raise ValueError(
            f"`batch_size` must be at least 2, as a batch norm of `{name}` gets one value a channel of one image, which has no"
            " variance, got 1. Try 2."
        ) from error


@contextmanager
def _left_as_it_was(student: nn.Module, device: torch.device) -> Iterator[None]:
    """Put the student in eval mode for the block; its modes and torch's random state are then as before."""
    with eval_mode(student), torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _trained_on(student: nn.Module, images: Tensor) -> object:
    """Return what the student makes of images in training mode, in which it stays; its running statistics stay as they were."""
    before = [(buffer, buffer.clone()) for buffer in student.buffers()]
    try:
        return student.train()(images)
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)


def _reaches(output: object, parameters: set[int]) -> bool:
    """Whether one of the parameters, given by their ``id``, is in the graph that ``output`` was computed by."""
    node = output.grad_fn if isinstance(output, Tensor) else None
    waiting, seen = [node], {node, None}
    while waiting:
        node = waiting.pop()
        if id(getattr(node, "variable", None)) in parameters:  # where a gradient ends
            return True
        following = {other for other, _ in getattr(node, "next_functions", ())} - seen
        waiting += following
        seen |= following
    return False


def _show(
    network: Callable[[Tensor], object], model: nn.Module, who: str, name: str, shape: tuple[int, ...], device: torch.device
) -> object:
    """Return what a network makes of blank images ``shape``, its batch first."""
    try:
        return network(torch.zeros(shape, device=device))  # which may be more than memory holds
    except Exception as error:  # each library refuses in its own way
        if str(error).startswith(f"the {who}"):  # its classes or its output, already in our words
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")[:200]
        built, given = _built_size(model), shape[2:]
        fix = "Give images of the size it was built for (`data.image_size`)"
        if built is not None and built != given:
            side = f"`--data.image_size {built[0]}`" if built[0] == built[1] else "a network for square images"
            fix = f"It was built for images of {built[0]}x{built[1]}, these are {given[0]}x{given[1]}: give {side}"
        raise ValueError(
            f"the {who} must take a batch of images {shape[1:]} and nothing else, but {name} fails on one ({reason}). {fix}, "
            "or wrap it in a module whose `forward(images)` returns the logits."
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
