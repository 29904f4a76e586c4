"""What a pass through a model leaves for running it again from the middle, and the switches that note and use it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from logitkd.reach.inputs import Inputs, apply, count, is_images

if TYPE_CHECKING:
    from logitkd.reach.replay.replay import Replay

__all__ = ["Fill", "Leaf", "Memo", "Switch", "Tape", "boxed", "noise", "own_zeros", "thin_zeros"]

Fill = Callable[[tuple[int, ...], torch.dtype, torch.device], Tensor]  # makes what stands for a tensor


def thin_zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return zeros that take no memory."""
    return torch.zeros((), dtype=dtype, device=device).expand(shape)


def own_zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return zeros that can be written into."""
    return torch.zeros(shape, dtype=dtype, device=device)


def noise(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers in [0, 1), or zeros and ones of a whole type, always the same: whatever reads them shows it."""
    numbers = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * (1 if dtype.is_floating_point else 2)
    return numbers.to(device, dtype)


class Leaf(NamedTuple):
    """What stands for a tensor that a skipped call returned."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    constant: Tensor | None  # the tensor itself, where the inputs do not change it

    @classmethod
    def of(cls, tensor: Tensor, constant: bool = False) -> Leaf:
        """Return what stands for a tensor."""
        return cls(tensor.shape, tensor.dtype, tensor.device, tensor.detach() if constant else None)

    def placeholder(self, before: int, now: int, fill: Fill) -> Tensor:
        """Return the constant, or what ``fill`` makes of the shape with ``now`` examples in place of ``before``."""
        if self.constant is not None:
            return self.constant
        shape = (now, *self.shape[1:]) if self.shape[:1] == (before,) else tuple(self.shape)
        return fill(shape, self.dtype, self.device)


class _Box(NamedTuple):
    """What stands for an object that a skipped call returned and that holds tensors in its attributes."""

    owner: Any
    fields: dict[str, tuple[list[Any], Any]]  # attribute -> leaves and structure

    def placeholder(self, before: int, now: int, fill: Fill) -> Any:
        """Return a copy of the object with placeholders for its tensors."""
        copied = copy.copy(self.owner)
        for name, (leaves, structure) in self.fields.items():
            vars(copied)[name] = tree_unflatten(_placeholders(leaves, before, now, fill), structure)
        return copied


def _placeholders(leaves: list[Any], before: int, now: int, fill: Fill) -> list[Any]:
    return [leaf.placeholder(before, now, fill) if isinstance(leaf, (Leaf, _Box)) else leaf for leaf in leaves]


def boxed(value: Any) -> Any:
    """Return what stands for ``value``, no tensor: a box where it holds tensors, itself elsewhere."""
    fields: dict[str, tuple[list[Any], Any]] = {}
    for name, held in getattr(value, "__dict__", {}).items():
        leaves, structure = tree_flatten(held)
        if any(isinstance(leaf, Tensor) for leaf in leaves):
            fields[name] = [Leaf.of(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure
    if not fields or isinstance(value, nn.Module):
        return value
    owner = copy.copy(value)
    for name in fields:
        vars(owner)[name] = None  # of its tensors only the shapes are kept
    return _Box(owner, fields)


@dataclass(eq=False)
class Memo:
    """What one pass left for resuming it, as often as one likes; nothing of it is changed by that.

    Args:
        inputs: what the model was given.
        outputs: by position in the frontier, what stands for what the call returned, and its structure.
    """

    inputs: Inputs
    outputs: dict[int, tuple[list[Any], Any]] = field(default_factory=dict)

    def again(self, rows: int, fill: Fill) -> Inputs:
        """Return the inputs of a resumed pass of ``rows`` examples.

        They are the real ones, each repeated for its rows, since the model's own code may read a mask among them at any
        depth. Only images are filled: they are large, and ``Replay.check`` proves that nothing behind a cut reads them.

        Raises:
            ValueError: the rows are no multiple of the examples.
        """
        examples = count(self.inputs)
        if is_images(self.inputs):
            return apply(lambda images: Leaf.of(images).placeholder(examples, rows, fill), self.inputs)
        if rows % examples:
            raise ValueError(f"a resumed pass must have so many rows for each of its {examples} examples, got {rows} rows.")
        if rows == examples:
            return self.inputs
        return apply(lambda tensor: tensor.repeat_interleave(rows // examples, 0), self.inputs)

    def stand_in(self, position: int, rows: int, fill: Fill, value: Tensor | None = None) -> Any:
        """Return what a skipped call returned: placeholders, the first tensor replaced by ``value`` where that is given."""
        leaves, structure = self.outputs[position]
        filled = _placeholders(leaves, count(self.inputs), rows, fill)
        if value is not None:
            filled[next(index for index, leaf in enumerate(leaves) if isinstance(leaf, Leaf))] = value
        return tree_unflatten(filled, structure)


@dataclass(eq=False)
class Tape:
    """What the switches of one model share during one pass: what it is for, and what they note in it."""

    mode: Literal["off", "record", "replay"] = "off"
    memo: Memo | None = None  # record: filled; replay: read
    inside: int = 0  # depth of running parts: calls inside them are not the frontier's
    counts: dict[int, int] = field(default_factory=dict)  # switch -> calls begun in this pass
    captured: dict[int, Tensor] = field(default_factory=dict)  # record: position of a cut -> its output
    inputs: dict[int, Any] = field(default_factory=dict)  # record: position of a cut -> its first argument
    start: int = 0  # replay: the position that gets the value
    into: bool = False  # replay: the value is that call's input, not its output
    value: Tensor | None = None
    entered: bool = False  # replay: the value has been taken


class Switch:
    """Stands in a module's ``forward``: passes calls through, unless a replay skips them."""

    def __init__(self, owner: Replay, module: nn.Module, positions: list[int]) -> None:
        self.owner, self.forward, self.positions = owner, module.forward, positions
        self.found = vars(module).get("forward")  # a `forward` of the module's own: another switch, or its user's

    def remove(self, module: nn.Module) -> None:
        """Give ``module`` back what stood in its ``forward`` before, also from under a switch attached later."""
        above = vars(module).get("forward")
        if above is self:
            del module.forward
            if self.found is not None:
                module.forward = self.found
            return
        while isinstance(above, Switch):
            if above.found is self:
                above.forward, above.found = self.forward, self.found
                return
            above = above.found

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Do what the pass in progress asks for in place of the module's own forward."""
        tape = self.owner.tape
        if tape.mode == "off" or tape.inside:
            return self.forward(*arguments, **keywords)
        number = tape.counts.get(id(self), 0)
        tape.counts[id(self)] = number + 1
        # Calls beyond those of the first pass (a part that runs in training only) just run.
        position = self.positions[number] if number < len(self.positions) else None
        if tape.mode == "replay" and position is not None and position <= tape.start:
            if position < tape.start:
                return self.owner.stand_in(position)
            tape.entered = True
            if not tape.into:
                return self.owner.stand_in(position, tape.value)
            arguments = (tape.value, *arguments[1:])
        tape.inside += 1
        try:
            output = self.forward(*arguments, **keywords)
        finally:
            tape.inside -= 1
        if tape.mode == "record":
            self.owner.note(position, arguments[0] if arguments else None, output, self)
        return output
