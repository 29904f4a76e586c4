"""Showing a network blank examples before time is spent: can it take them, does it return what the task needs, can it learn?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from logitkd.checks import listed
from logitkd.reach import Ensemble, Teacher, eval_mode
from logitkd.reach.inputs import Given, call
from logitkd.tasks.task import Task

__all__ = ["check_learns", "check_one_example", "check_student", "check_teacher"]


def check_student(student: nn.Module, name: str, task: Task, device: torch.device) -> None:
    """Show the student two blank examples, in eval mode and without a gradient; modes and random state stay as they are.

    Args:
        student: on ``device``.
        name: as it was asked for, for the message.
        task: loaded; it knows what the student has to return.
        device: where.

    Raises:
        TypeError: it does not return a tensor.
        ValueError: its weights hold NaN, it cannot take such examples alone, or does not return what the task needs.
    """
    with _left_as_it_was(student, device), torch.no_grad():
        output = check_network(lambda inputs: call(student, inputs), student, "student", name, task, device, 2)
        task.check_output(output, 2, name)
        task.check_network(lambda inputs: call(student, inputs), "student", name, device)


def check_teacher(teacher: Teacher | Ensemble, task: Task, device: torch.device) -> None:
    """Show each teacher one blank example; raises as :func:`check_student`."""
    for member in teacher.members():
        name = type(member.model).__name__
        check_network(member.logits, member.model, "teacher", name, task, device, 1)
        task.check_network(member.logits, "teacher", name, device)


def check_network(
    see: Callable[[Any], Any], network: nn.Module, role: str, name: str, task: Task, device: torch.device, number: int
) -> Any:
    """Show a network ``number`` blank examples, ``see(inputs)``; return what it made of them.

    Raises:
        ValueError: its weights hold NaN, or it cannot take such inputs alone.
    """
    tensors = {key: tensor for key, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}
    counts = {key: int(tensor.isnan().sum()) for key, tensor in tensors.items() if tensor.is_floating_point()}
    bad = {key: holes for key, holes in counts.items() if holes}
    if bad:
        shown = (f"`{key}` ({holes:,} of {tensors[key].numel():,})" for key, holes in bad.items())
        raise ValueError(
            f"the {role}'s weights must be numbers, but {name} holds NaN in {len(bad)} of {len(tensors)} tensors: "
            f"{listed(shown, 3)}. Its training diverged, or its file is damaged: give other weights."
        )
    try:
        return see(task.blank(number, device))  # which may be more than memory holds
    except Exception as error:  # each library refuses in its own way
        if str(error).startswith(f"the {role}"):  # its classes or its output, already in our words
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")[:200]
        raise ValueError(f"the {role} must {task.must_take(network, f'{name} fails on one ({reason})')}") from error


def check_learns(student: nn.Module, name: str, task: Task, device: torch.device) -> None:
    """Show the student two examples and see that its output depends on something that training changes; no trace is left.

    Args:
        student: on ``device``; it passed :func:`check_student`.
        name: as it was asked for, for the message.
        task: loaded.
        device: where.

    Raises:
        ValueError: it has no parameters, or all are frozen, or its output depends on none of those that are not.
    """
    what = f"the student must have logits that depend on parameters to train, but {name}"
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
    inputs = task.blank(2, device)
    with _left_as_it_was(student, device), torch.enable_grad():
        learns = _reaches(call(student, inputs), trained)
        if not learns:  # some turn gradients off in eval mode alone
            learns = _reaches(_trained_on(student, inputs), trained)
    if not learns:
        raise ValueError(
            f"{what} returns logits that depend on none of its {len(trained)} trainable parameters: they are detached. Take"
            " `.detach()`, `torch.no_grad()` and the like out of its `forward`, or unfreeze layers that the logits come from."
        )


def check_one_example(student: nn.Module, name: str, task: Task, device: torch.device) -> None:
    """Train the student's norms on one blank example, for runs whose batches are no larger; no trace is left.

    Raises:
        ValueError: a batch norm gets one value a channel, which has no variance.
    """
    try:
        with _left_as_it_was(student, device), torch.no_grad():
            _trained_on(student, task.blank(1, device))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):  # torch's words
            raise
        raise ValueError(
            f"`batch_size` must be at least 2, as a batch norm of {name} gets one value a channel of one example, which has no"
            " variance, got 1. Try 2."
        ) from error


@contextmanager
def _left_as_it_was(student: nn.Module, device: torch.device) -> Iterator[None]:
    """Put the student in eval mode for the block; its modes and torch's random state are then as before."""
    with eval_mode(student), torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _trained_on(student: nn.Module, inputs: Given) -> object:
    """Return what the student makes of inputs in training mode, in which it stays; its running statistics are as before."""
    before = [(buffer, buffer.clone()) for buffer in student.buffers()]
    try:
        return call(student.train(), inputs)
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)


def _reaches(output: object, parameters: set[int]) -> bool:
    """Whether one of the parameters, given by their ``id``, is in the graph that ``output`` was computed by."""
    leaves = [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor)]
    waiting = [leaf.grad_fn for leaf in leaves if leaf.grad_fn is not None]
    seen: set[Any] = set(waiting)
    while waiting:
        node = waiting.pop()
        if id(getattr(node, "variable", None)) in parameters:  # where a gradient ends
            return True
        following = {other for other, _ in getattr(node, "next_functions", ()) if other is not None} - seen
        waiting += following
        seen |= following
    return False
