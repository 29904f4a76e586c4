"""Running a model from the middle, without editing it: the parts before a cut are skipped, the model's own code does the rest.

Stepping stones (Block-KD) enter the frozen teacher behind one of its blocks; the region logits of any classifier (SDD, iCD)
enter it behind its feature extractor. Both need "the rest of the model" as a function, for any ``nn.Module``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from logitkd.reach.modes import eval_mode
from logitkd.reach.replay.flow import Recorder
from logitkd.reach.replay.frontier import CutError, find_frontier
from logitkd.reach.replay.trace import call_model, first_tensor, plain
from logitkd.reach.signals import agree, checked_logits, gap

__all__ = ["Replay"]


class _Leaf(NamedTuple):
    """What stands for a tensor that a skipped call returned."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    constant: Tensor | None  # the tensor itself, where images do not change it

    @classmethod
    def of(cls, tensor: Tensor, constant: bool = False) -> _Leaf:
        return cls(tensor.shape, tensor.dtype, tensor.device, tensor.detach() if constant else None)

    def placeholder(self, before: int, now: int, dense: bool) -> Tensor:
        """Return the constant, or zeros of the shape with ``now`` examples in place of ``before``."""
        if self.constant is not None:
            return self.constant
        shape = (now, *self.shape[1:]) if self.shape[:1] == (before,) else tuple(self.shape)
        if dense:
            return torch.zeros(shape, dtype=self.dtype, device=self.device)
        return torch.zeros((), dtype=self.dtype, device=self.device).expand(shape)  # takes no memory


class _Box(NamedTuple):
    """What stands for an object that a skipped call returned and that holds tensors in its attributes."""

    owner: Any
    fields: dict[str, tuple[list[Any], Any]]  # attribute -> leaves and structure

    def placeholder(self, before: int, now: int, dense: bool) -> Any:
        """Return a copy of the object with placeholders for its tensors."""
        copied = copy.copy(self.owner)
        for name, (leaves, structure) in self.fields.items():
            vars(copied)[name] = tree_unflatten(_placeholders(leaves, before, now, dense), structure)
        return copied


def _placeholders(leaves: list[Any], before: int, now: int, dense: bool) -> list[Any]:
    return [leaf.placeholder(before, now, dense) if isinstance(leaf, (_Leaf, _Box)) else leaf for leaf in leaves]


def _boxed(value: Any) -> Any:
    """Return what stands for ``value``, no tensor: a box where it holds tensors, itself elsewhere."""
    fields: dict[str, tuple[list[Any], Any]] = {}
    for name, held in getattr(value, "__dict__", {}).items():
        leaves, structure = tree_flatten(held)
        if any(isinstance(leaf, Tensor) for leaf in leaves):
            fields[name] = [_Leaf.of(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure
    if not fields or isinstance(value, nn.Module):
        return value
    owner = copy.copy(value)
    for name in fields:
        vars(owner)[name] = None  # of its tensors only the shapes are kept
    return _Box(owner, fields)


@dataclass(eq=False)
class _Tape:
    """What the switches of one model share: what the pass in progress is for, and what they note in it."""

    mode: Literal["off", "record", "replay"] = "off"
    inside: int = 0  # depth of running parts: calls inside them are not the frontier's
    counts: dict[int, int] = field(default_factory=dict)  # switch -> calls begun in this pass
    batch: int = 0  # record: examples
    outputs: dict[int, tuple[list[Any], Any]] = field(default_factory=dict)  # position -> leaves and structure
    captured: dict[int, Tensor] = field(default_factory=dict)  # position of a cut -> its output
    inputs: dict[int, Any] = field(default_factory=dict)  # position of a cut -> its first argument
    start: int = 0  # replay: the position that gets the value
    into: bool = False  # replay: the value is that call's input, not its output
    value: Tensor | None = None
    entered: bool = False  # replay: the value has been taken


class _Switch:
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
        while isinstance(above, _Switch):
            if above.found is self:
                above.forward, above.found = self.forward, self.found
                return
            above = above.found

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        tape = self.owner.tape
        if tape.mode == "off" or tape.inside:
            return self.forward(*arguments, **keywords)
        number = tape.counts.get(id(self), 0)
        tape.counts[id(self)] = number + 1
        # Calls beyond those of the first pass (a part that runs in training only) just run.
        position = self.positions[number] if number < len(self.positions) else None
        if tape.mode == "replay" and position is not None and position <= tape.start:
            if position < tape.start:
                return self.owner._stand_in(position)
            tape.entered = True
            if not tape.into:
                return self.owner._stand_in(position, tape.value)
            arguments = (tape.value, *arguments[1:])
        tape.inside += 1
        try:
            output = self.forward(*arguments, **keywords)
        finally:
            tape.inside -= 1
        if tape.mode == "record":
            self.owner._note(position, arguments[0] if arguments else None, output, self)
        return output


class Replay:
    """Runs ``model`` whole, then again from any of its cuts on; what lies before the cut is not computed again.

    A cut is a submodule, given by its path. While attached, the parts of the model that a pass can skip (the cuts, and what
    runs beside them outside the modules that contain a cut) hold a switch in place of their ``forward``; the model's
    outputs, parameters and ``state_dict`` are as before, and :meth:`close` takes the switches out. In a replayed pass the
    parts before the cut return placeholders of the right shape, the cut returns the given value, and the model's own code
    goes on from there. What that code does outside any module before the cut runs on the placeholders, and is not used, nor
    kept in a buffer. Forward hooks on skipped parts are called once more, with placeholders.

    Of the skipped parts only what the images do not change (masks, position tables) is kept; ``check`` proves that
    nothing else of them is read behind a cut.

    Args:
        model: any module that is called with one batch, ``model(images)``.
        paths: the cuts, in the order in which they run.
        images: an example batch ``(N, ...)``, N at least 2, on the model's device.
        what: what a path is called in messages.
        runs: which call of each cut is meant, see ``find_frontier``.

    Raises:
        ValueError: no such path, a module that runs never or more than once (tied or shared blocks), cuts in the wrong
            order or one inside another. The message names the path.
        TypeError: ``model`` cannot be called with images alone.
    """

    def __init__(
        self,
        model: nn.Module,
        paths: Sequence[str],
        images: Tensor,
        what: str = "cut",
        runs: Sequence[int] | None = None,
    ) -> None:
        self.model = model
        self.name = type(plain(model)).__name__
        self.paths, self.what = tuple(paths), what
        frontier = find_frontier(model, self.paths, images, what, runs)
        self.positions, self.shapes = frontier.positions, frontier.shapes
        self._around = frontier.around
        self.tape = _Tape()
        self._constants: set[tuple[int, int]] | None = set()  # (position, leaf): what images do not change; found by `check`
        self._recorder: Recorder | None = None  # while `check` looks at what depends on the images
        self._dense = False
        self._switches: list[tuple[nn.Module, _Switch]] = []
        places: dict[nn.Module, list[int]] = {}
        for position, module in enumerate(frontier.modules):
            places.setdefault(module, []).append(position)
        for module, positions in places.items():
            switch = _Switch(self, module, positions)
            module.forward = switch
            self._switches.append((module, switch))

    def close(self) -> None:
        """Take the switches out: the model is as it was."""
        for module, switch in self._switches:
            switch.remove(module)
        self._switches = []

    def run(self, images: Tensor, *, into: bool = False) -> tuple[Any, list[Tensor]]:
        """Return what ``model(images)`` returns, and the output of each cut (its first tensor), or ``into`` it: its input.

        Raises:
            ValueError: a cut was not reached, or its output has another shape than in the example.
        """
        with self._pass(_Tape("record", batch=len(images))):
            output = call_model(self.model, images)
            captured, inputs = self.tape.captured, self.tape.inputs
        outputs = []
        for path, position, shape in zip(self.paths, self.positions, self.shapes, strict=True):
            if position not in captured:
                raise ValueError(f"{self.what} `{path}` of {self.name} must run in every pass, but did not in this one.")
            now = tuple(captured[position].shape[1:])
            if now != shape:
                raise ValueError(
                    f"{self.what} `{path}` of {self.name} must put out one shape, got (N, {_sizes(now)}) after"
                    f" (N, {_sizes(shape)}): give images of one size."
                )
            outputs.append(inputs[position] if into else captured[position])
        return output, outputs

    def resume(self, cut: int, value: Tensor, images: Tensor, *, into: bool = False) -> Any:
        """Return the model's output with ``value`` in place of the output of a cut, or of its input.

        Args:
            cut: number of the cut in ``paths``.
            value: what goes on from there, ``(M, ...)``; M may differ from the N of the last ``run``.
            images: those of the last ``run``; only their shape is used.
            into: give ``value`` to the cut as its first argument, instead of skipping it.

        Raises:
            RuntimeError: ``run`` has not come before.
            ValueError: the model did not come by the cut.
        """
        if not self.tape.outputs:
            raise RuntimeError("`resume` goes on from the last `run`: call `run(images)` first.")
        before = self.tape
        tape = _Tape("replay", batch=before.batch, outputs=before.outputs, start=self.positions[cut], into=into, value=value)
        nothing = _Leaf.of(images).placeholder(before.batch, len(value), dense=False)
        with self._pass(tape), self._kept_buffers():
            output = self.model(nothing)
        if not tape.entered:
            raise ValueError(f"{self.what} `{self.paths[cut]}` of {self.name} must run in every pass, but was not reached.")
        return output

    @torch.compiler.disable
    @torch.no_grad()
    def check(self, images: Tensor) -> None:
        """Prove in eval mode that a resumed pass is the whole pass: that behind each cut only its output is read.

        Raises:
            CutError: it is not, at the cut that the message names.
            ValueError: the output is not finite.
        """
        self._constants = None  # keep everything, to see what the images change
        with eval_mode(self.model):
            # The examples themselves in another order: what else is a valid input (a token id), only their author knows.
            self.run(images.flip(0).flip(-1))
            other = self.tape.outputs
            try:
                with Recorder(images) as self._recorder:
                    self.run(images)
            finally:
                self._recorder = None
            self._constants = {
                (position, number)
                for position, (leaves, _) in self.tape.outputs.items()
                for number, leaf in enumerate(leaves)
                if isinstance(leaf, _Leaf) and _same(leaf, other[position][0][number])
            }
            output, values = self.run(images)
            logits = checked_logits(first_tensor(output), "model")
            if not logits.isfinite().all():
                raise ValueError(f"{self.name} must put out finite logits, got NaN or infinity: check its weights.")
            for cut, value in enumerate(values):
                again = first_tensor(self._resume_checked(cut, value, images))
                if again is None or not agree(again, logits):
                    found = "no tensor" if again is None else gap(again, logits)
                    raise CutError(
                        f"{self.what} `{self.paths[cut]}` of {self.name} must put out all that the parts behind it read, but"
                        f" they read something else from before it, too: the logits differ by {found}. Choose another path,"
                        " such as the whole stage around it.",
                        self.paths[cut],
                    )

    def _resume_checked(self, cut: int, value: Tensor, images: Tensor) -> Any:
        try:
            return self.resume(cut, value, images)
        except RuntimeError as error:
            if "single memory location" not in str(error):
                raise
        self._dense = True  # something before the cut writes into what a module returned: placeholders need memory of their own
        return self.resume(cut, value, images)

    # -- what the switches call -----------------------------------------------------------------------------------------

    @contextmanager
    def _pass(self, tape: _Tape) -> Iterator[None]:
        self.tape = tape
        try:
            yield
        finally:
            # The outputs' shapes are for `resume`; tensors would keep the pass's graph alive.
            self.tape = _Tape(batch=tape.batch, outputs=tape.outputs)

    @contextmanager
    def _kept_buffers(self) -> Iterator[None]:
        """Put back the own buffers of modules around the cuts: in training mode their code may count or average in them."""
        held = [(m._buffers, name, value) for m in self._around if m.training for name, value in m._buffers.items()]
        for buffers, name, value in held:
            buffers[name] = None if value is None else value.clone()
        try:
            yield
        finally:
            for buffers, name, value in held:
                buffers[name] = value

    def _note(self, position: int | None, first: Any, output: Any, switch: _Switch) -> None:
        """Keep of a call's output what a resumed pass needs."""
        if position is None:
            if any(p in self.positions for p in switch.positions):
                path = self.paths[next(cut for cut, p in enumerate(self.positions) if p in switch.positions)]
                raise ValueError(f"{self.what} `{path}` of {self.name} must run once in a pass, but now runs again.")
            return
        if position in self.positions:
            tensor = first_tensor(output)
            if tensor is not None:
                self.tape.captured[position] = tensor
            self.tape.inputs[position] = first
        leaves, structure = tree_flatten(output)
        kept = [
            _Leaf.of(leaf, constant=self._is_constant(position, index, leaf)) if isinstance(leaf, Tensor) else _boxed(leaf)
            for index, leaf in enumerate(leaves)
        ]
        self.tape.outputs[position] = kept, structure

    def _is_constant(self, position: int, index: int, leaf: Tensor) -> bool:
        if self._constants is not None:
            return (position, index) in self._constants
        return self._recorder is None or not self._recorder.depends(leaf)

    def _stand_in(self, position: int, value: Tensor | None = None) -> Any:
        """Return what a skipped call returned: placeholders, the first tensor replaced by ``value`` where that is given."""
        tape = self.tape
        assert tape.value is not None
        if position not in tape.outputs:
            path = self.paths[self.positions.index(tape.start)]
            raise ValueError(
                f"{self.name} must run the same modules in every pass up to its {self.what} `{path}`, but the last left one"
                " out: layers that are dropped at random must lie behind it, or inside one module before it."
            )
        leaves, structure = tape.outputs[position]
        filled = _placeholders(leaves, tape.batch, len(tape.value), self._dense)
        if value is not None:
            filled[next(index for index, leaf in enumerate(leaves) if isinstance(leaf, _Leaf))] = value
        return tree_unflatten(filled, structure)


def _same(leaf: _Leaf, other: Any) -> bool:
    if not isinstance(other, _Leaf) or leaf.constant is None or other.constant is None:
        return False
    return leaf.shape == other.shape and torch.equal(leaf.constant, other.constant)


def _sizes(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
