"""Running a model from the middle, without editing it: the parts before a cut are skipped, the model's own code does the rest.

Stepping stones (Block-KD) enter the frozen teacher behind one of its blocks; the region logits of any classifier (SDD, iCD)
enter it behind its feature extractor. Both need "the rest of the model" as a function, for any ``nn.Module``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from logitkd.reach.inputs import Inputs, apply, call, eval_mode, is_images
from logitkd.reach.replay.flow import Recorder
from logitkd.reach.replay.frontier import CutError, find_frontier
from logitkd.reach.replay.tape import Fill, Leaf, Memo, Switch, Tape, boxed, noise, own_zeros, thin_zeros
from logitkd.reach.replay.trace import answer, call_model, first_tensor, plain
from logitkd.reach.signals import agree, gap, read_output

__all__ = ["Passed", "Replay"]


class Passed(NamedTuple):
    """What one whole pass yields.

    Args:
        output: what the model returned.
        values: the first tensor that each cut put out, or what it took.
        memo: what it takes to go on from the cuts.
    """

    output: Any
    values: list[Tensor]
    memo: Memo


class Replay:
    """Runs ``model`` whole, then again from any of its cuts on; what lies before the cut is not computed again.

    ::

        output, values, memo = replay.run(inputs)
        again = replay.resume(memo, 0, values[0])      # equals `output`; any other value may stand there, as often as one likes

    A cut is a submodule, given by its path. While attached, the parts of the model that a pass can skip (the cuts, and what
    runs beside them outside the modules that contain a cut) hold a switch in place of their ``forward``; the model's
    outputs, parameters and ``state_dict`` are as before, and :meth:`close` takes the switches out. In a replayed pass the
    parts before the cut return placeholders of the right shape, the cut returns the given value, and the model's own code
    goes on from there. What that code does outside any module before the cut runs again: on the placeholders, where it is
    not used, nor kept in a buffer, and on the pass's real inputs, such as an attention mask, where these are token ids or have
    names. Forward hooks on skipped parts are called once more, with placeholders.

    Of the skipped parts only what the inputs do not change (position tables) is kept; ``check`` proves that nothing else of
    them is read behind a cut. All that a pass leaves is in its memo: passes may be resumed in any order.

    Args:
        model: any module that is called with one batch: one tensor, ``model(images)``, or several by name.
        paths: the cuts, in the order in which they run.
        inputs: an example batch, N at least 2, on the model's device.
        what: what a path is called in messages.
        runs: which call of each cut is meant, see ``find_frontier``.
        dense: the model puts out a map of logits, see ``checked_map``.

    Raises:
        ValueError: no such path, a module that runs never or more than once (tied or shared blocks), cuts in the wrong
            order or one inside another. The message names the path.
        TypeError: ``model`` cannot be called with the inputs alone.
    """

    def __init__(
        self,
        model: nn.Module,
        paths: Sequence[str],
        inputs: Inputs,
        what: str = "cut",
        runs: Sequence[int] | None = None,
        *,
        dense: bool = False,
    ) -> None:
        self.model, self.dense = model, dense
        self.name = type(plain(model)).__name__
        self.paths, self.what = tuple(paths), what
        frontier = find_frontier(model, self.paths, inputs, what, runs)
        self.positions, self.shapes = frontier.positions, frontier.shapes
        self._around = frontier.around
        self.tape = Tape()  # of the pass in progress
        self._constants: set[tuple[int, int]] | None = set()  # (position, leaf): what inputs do not change; found by `check`
        self._recorder: Recorder | None = None  # while `check` looks at what depends on the inputs
        self._fill: Fill = thin_zeros
        self._switches: list[tuple[nn.Module, Switch]] = []
        places: dict[nn.Module, list[int]] = {}
        for position, module in enumerate(frontier.modules):
            places.setdefault(module, []).append(position)
        for module, positions in places.items():
            switch = Switch(self, module, positions)
            module.forward = switch
            self._switches.append((module, switch))

    def close(self) -> None:
        """Take the switches out: the model is as it was."""
        for module, switch in self._switches:
            switch.remove(module)
        self._switches = []

    def run(self, inputs: Inputs, *, into: bool = False) -> Passed:
        """Return what the model makes of the inputs, what each cut puts out (its first tensor) or takes (``into``), and a memo.

        Raises:
            ValueError: a cut was not reached, or its output has another shape than in the example.
        """
        with self._recorded(inputs) as tape:
            output = call_model(self.model, inputs)
        values = [tape.inputs[position] if into else tape.captured[position] for position in self.positions]
        assert tape.memo is not None
        return Passed(output, values, tape.memo)

    @contextmanager
    def recording(self, inputs: Inputs) -> Iterator[Memo]:
        """Yield the memo of the pass that somebody else makes inside the block, on these inputs; errors as :meth:`run`."""
        with self._recorded(inputs) as tape:
            assert tape.memo is not None
            yield tape.memo

    def resume(self, memo: Memo, cut: int, value: Tensor, *, into: bool = False) -> Any:
        """Return the model's output with ``value`` in place of the output of a cut, or of its input.

        Args:
            memo: of the pass to resume.
            cut: number of the cut in ``paths``.
            value: what goes on from there, ``(M, ...)``; M may be another number than that pass's N, of inputs that are not
                images a multiple of it: the rows of each example beside each other.
            into: give ``value`` to the cut as its first argument, instead of skipping it.

        Raises:
            ValueError: the model did not come by the cut.
        """
        tape = Tape("replay", memo, start=self.positions[cut], into=into, value=value)
        inputs = memo.again(len(value), self._fill)
        with self._pass(tape), self._kept_buffers():
            output = call(self.model, inputs)
        if not tape.entered:
            raise ValueError(f"{self.what} `{self.paths[cut]}` of {self.name} must run in every pass, but was not reached.")
        return output

    @torch.compiler.disable
    @torch.no_grad()
    def check(self, inputs: Inputs) -> None:
        """Prove in eval mode that a resumed pass is the whole pass: that behind each cut only its output is read.

        What stands for all else is noise here, so that whatever reads it shows in the logits.

        Raises:
            CutError: it is not, at the cut that the message names.
            ValueError: the output is not finite.
        """
        self._constants = None  # keep everything, to see what the inputs change
        with eval_mode(self.model):
            # The examples themselves in another order: what else is a valid input (a token id), only their author knows.
            other = self.run(apply(_turned, inputs)).memo.outputs
            try:
                with Recorder(inputs, self.model) as self._recorder:
                    seen = self.run(inputs).memo.outputs
            finally:
                self._recorder = None
            self._constants = {
                (position, number)
                for position, (leaves, _) in seen.items()
                for number, leaf in enumerate(leaves)
                if isinstance(leaf, Leaf) and _same(leaf, other[position][0][number])
            }
            output, values, memo = self.run(inputs)
            read_output(output if self.dense else answer(output), "model", self.dense)
            logits = answer(output)
            assert logits is not None
            if not logits.isfinite().all():
                raise ValueError(f"{self.name} must put out finite logits, got NaN or infinity: check its weights.")
            for cut, value in enumerate(values):
                for again in self._resumed_to_see(memo, cut, value):
                    if again is not None and agree(again, logits):
                        continue
                    found = "no tensor" if again is None else gap(again, logits)
                    raise CutError(
                        f"{self.what} `{self.paths[cut]}` of {self.name} must put out all that the parts behind it read, but"
                        f" they read something else from before it, too: the logits differ by {found}. Choose another path,"
                        " such as the whole stage around it.",
                        self.paths[cut],
                    )

    def _resumed_to_see(self, memo: Memo, cut: int, value: Tensor) -> Iterator[Tensor | None]:
        """Yield the logits of a resumed pass, then with noise in place of zeros."""
        try:
            yield answer(self.resume(memo, cut, value))
        except RuntimeError as error:
            if "single memory location" not in str(error):
                raise
            # Something before the cut writes into what a module returned.
            self._fill = own_zeros
            yield answer(self.resume(memo, cut, value))
        before, self._fill = self._fill, noise
        try:
            yield answer(self.resume(memo, cut, value))
        finally:
            self._fill = before

    # -- what the switches call -----------------------------------------------------------------------------------------

    @contextmanager
    def _recorded(self, inputs: Inputs) -> Iterator[Tape]:
        """Record the pass inside the block, and check that it came by every cut."""
        tape = Tape("record", Memo(inputs))
        with self._pass(tape):
            yield tape
        free = 0 if is_images(inputs) else 1  # texts may be longer than the example was
        for path, position, shape in zip(self.paths, self.positions, self.shapes, strict=True):
            if position not in tape.captured:
                raise ValueError(f"{self.what} `{path}` of {self.name} must run in every pass, but did not in this one.")
            now = tuple(tape.captured[position].shape[1:])
            if len(now) != len(shape) or now[free:] != shape[free:]:
                raise ValueError(
                    f"{self.what} `{path}` of {self.name} must put out one shape, got (N, {_sizes(now)}) after"
                    f" (N, {_sizes(shape)}): give images of one size."
                )

    @contextmanager
    def _pass(self, tape: Tape) -> Iterator[None]:
        self.tape = tape
        try:
            yield
        finally:
            self.tape = Tape()

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

    def note(self, position: int | None, first: Any, output: Any, switch: Switch) -> None:
        """Keep of a call's output what a resumed pass needs."""
        tape = self.tape
        assert tape.memo is not None
        if position is None:
            if any(p in self.positions for p in switch.positions):
                path = self.paths[next(cut for cut, p in enumerate(self.positions) if p in switch.positions)]
                raise ValueError(f"{self.what} `{path}` of {self.name} must run once in a pass, but now runs again.")
            return
        if position in self.positions:
            tensor = first_tensor(output)
            if tensor is not None:
                tape.captured[position] = tensor
            tape.inputs[position] = first
        leaves, structure = tree_flatten(output)
        kept = [
            Leaf.of(leaf, constant=self._is_constant(position, index, leaf)) if isinstance(leaf, Tensor) else boxed(leaf)
            for index, leaf in enumerate(leaves)
        ]
        tape.memo.outputs[position] = kept, structure

    def _is_constant(self, position: int, index: int, leaf: Tensor) -> bool:
        if self._constants is not None:
            return (position, index) in self._constants
        return self._recorder is None or not self._recorder.depends(leaf)

    def stand_in(self, position: int, value: Tensor | None = None) -> Any:
        """Return what a skipped call returned: placeholders, the first tensor replaced by ``value`` where that is given."""
        tape = self.tape
        assert tape.value is not None
        assert tape.memo is not None
        if position not in tape.memo.outputs:
            path = self.paths[self.positions.index(tape.start)]
            raise ValueError(
                f"{self.name} must run the same modules in every pass up to its {self.what} `{path}`, but the last left one"
                " out: layers that are dropped at random must lie behind it, or inside one module before it."
            )
        return tape.memo.stand_in(position, len(tape.value), self._fill, value)


def _turned(tensor: Tensor) -> Tensor:
    return tensor.flip(0) if tensor.ndim == 1 else tensor.flip(0).flip(-1)


def _same(leaf: Leaf, other: Any) -> bool:
    if not isinstance(other, Leaf) or leaf.constant is None or other.constant is None:
        return False
    return leaf.shape == other.shape and torch.equal(leaf.constant, other.constant)


def _sizes(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
