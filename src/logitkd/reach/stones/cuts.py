"""Where a model can be cut: the ends of its blocks, by module path, found without its author's help.

Block-KD needs as many cuts in the student as in the teacher and nothing else in common.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from torch import nn

from logitkd.reach.inputs import Inputs, count
from logitkd.reach.regions.sources import map_sizes
from logitkd.reach.replay.flow import Flow, follow
from logitkd.reach.replay.frontier import CutError
from logitkd.reach.replay.trace import Call, first_tensor
from logitkd.reach.stones.blocks import Blocks, fits
from logitkd.reach.stones.connectors import read_layout

__all__ = ["check_cut", "find_blocks", "pair_cuts"]

EVEN = 4  # blocks that two models are divided into which say of no number of blocks that it is theirs
SMALL = 1 / (2 * EVEN)  # share of the work: a part that does no more than this is not looked into
STEM = 1 / 2  # likewise where the part takes the images themselves


def pair_cuts(
    student: nn.Module,
    teacher: nn.Module,
    student_inputs: Inputs,
    teacher_inputs: Inputs,
    student_cuts: Sequence[str] | None = None,
    teacher_cuts: Sequence[str] | None = None,
    refused: Collection[str] = (),
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return as many cuts of the student as of the teacher; where a side's are not given, they are found.

    Two models that have stages get as many as the one with fewer. A model that can be divided anywhere gets as many blocks
    as the other has, at most so many that each ends near its share of the work (up to four where both are such models).

    Args:
        student: any model that is called with one batch.
        teacher: likewise.
        student_inputs: an example batch.
        teacher_inputs: likewise.
        student_cuts: module paths, first to last.
        teacher_cuts: likewise.
        refused: paths in the teacher that are not to be taken.

    Raises:
        ValueError: both are given and differ in number, a given list is empty, or no blocks can be found.
    """
    for role, cuts in (("student", student_cuts), ("teacher", teacher_cuts)):
        if cuts is not None and len(cuts) == 0:
            raise ValueError(f"{role} cuts must be at least one module path, got none. Leave them out to have them found.")
    sides = ((student, student_inputs, student_cuts, ()), (teacher, teacher_inputs, teacher_cuts, refused))
    found = [
        find_blocks(model, inputs, out) if cuts is None else Blocks(tuple(cuts), equal=False)
        for model, inputs, cuts, out in sides
    ]
    given = {len(cuts) for _, _, cuts, _ in sides if cuts is not None}  # as many are needed on the other side
    if given:
        count = max(given)
    else:
        count = min(len(blocks.paths) for blocks in found)
        most = EVEN if all(blocks.equal for blocks in found) else count
        count = min(blocks.best(min(count, most)) if blocks.equal else count for blocks in found)
    if len(given) > 1 or min(len(blocks.paths) for blocks in found) < count:
        said = [f"{len(blocks.paths)} ({', '.join(blocks.paths)})" for blocks in found]
        raise ValueError(
            f"student and teacher must be cut at the same number of places, got {said[0]} and {said[1]}: give one path of"
            " each for every stepping stone."
        )
    return found[0].take(count), found[1].take(count)


def find_blocks(model: nn.Module, inputs: Inputs, refused: Collection[str] = ()) -> Blocks:
    """Return the ends of the blocks of ``model``.

    An end is a module that runs once and puts out maps or tokens on which all that follows depends alone; never one inside
    a shortcut, a stem, a patch embedding or the head behind the pooling. Taken is the first of these that has such ends:
    timm's ``feature_info`` (the CIFAR networks have it, too) without the stem, or torchvision's ``layer1`` ... ``layer4``, of
    the model or of a network inside it; the last end before each fall of the resolution, if the work is spread over them;
    all ends.

    Args:
        model: any module that is called with one batch.
        inputs: an example batch.
        refused: paths that are not to be taken.

    Raises:
        ValueError: no blocks were found.
    """
    flow = follow(model, inputs)
    ends = _Ends(flow, refused)
    blocks = ends.named() or ends.stages() or ends.all()
    if blocks is None:
        names = ", ".join(f"`{name}`" for name, _ in flow.model.named_children())
        raise ValueError(
            f"no blocks were found in {type(flow.model).__name__}: give the module paths of their ends, first to last; all that"
            f" follows must depend on what one puts out alone. Modules there: {names or 'none'}."
        )
    return blocks


def check_cut(flow: Flow, path: str, what: str) -> None:
    """Refuse a cut whose output a connector cannot stand for: several tensors, or other rows than examples.

    Raises:
        CutError: it is one; the message calls it ``what``.
    """
    call = flow.at(path)
    said = f"{what} `{path}` of {type(flow.model).__name__}"
    read, output = flow.of(call).read, first_tensor(call.output)
    if read > 1:
        raise CutError(
            f"{said} must put out one map, tokens or vector, but the parts behind it read {read} tensors of its output (a"
            " feature pyramid, a second stream), and a stone stands for one only: cut where there is one, before them or"
            " behind what joins them.",
            path,
        )
    if output is not None and len(output) != count(flow.inputs):
        raise CutError(
            f"{said} must put out a row an example, got {len(output)} rows for {count(flow.inputs)} examples: cut where they"
            " are whole again, such as behind the module around it.",
            path,
        )


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of a model that ends a block: the call that ends it, and those that do the work since the part before."""

    end: Call
    calls: list[Call]
    cells: int

    def layers(self) -> int:
        """Return how many layers with weights there are in it."""
        return sum(_has_matrix(module) for module in {m for call in self.calls for m in call.module.modules()})


class _Ends:
    """The calls of a forward pass that may end a block."""

    def __init__(self, flow: Flow, refused: Collection[str]) -> None:
        self.flow = flow
        self.once = flow.once()
        self.cells: dict[Call, int] = {}  # of each call that may end a block, the cells or tokens that it puts out
        grids = map_sizes(flow.calls)
        for path, call in self.once.items():
            output = first_tensor(call.output)
            passage = flow.of(call)
            if path in refused or not passage.alone or passage.in_head or output is None or output.ndim < 3:
                continue
            if len(output) != count(flow.inputs):
                continue
            try:
                self.cells[call] = read_layout(flow.model, tuple(output.shape[1:]), flow.inputs, path, grids).length
            except ValueError:  # a layout that no connector knows
                continue

    def named(self) -> Blocks | None:
        """Return the blocks that a model, or a network inside it, says it has by timm's or torchvision's names."""
        for prefix, owner in self.flow.model.named_modules():
            before = f"{prefix}." if prefix else ""
            info: Any = getattr(owner, "feature_info", None)
            info = getattr(info, "info", info)
            entries = [entry for entry in info if isinstance(entry, dict)] if isinstance(info, list | tuple) else []
            entries = [entry for entry in entries if before + str(entry.get("module")) in self.once]
            paths = [before + entry["module"] for entry in entries]
            if self._begins_with_stem(paths):  # timm counts its output as a feature level
                paths = paths[1:]
            equal = len({(entry.get("num_chs"), entry.get("reduction")) for entry in entries}) == 1
            if len(entries) < 2:
                paths = [path for n in (1, 2, 3, 4) if (path := f"{before}layer{n}") in self.once]
                equal = False
            if len(paths) < 2 or not all(self.once[path] in self.cells for path in paths):
                continue
            blocks = self._blocks([self.once[path] for path in paths], equal)
            if not prefix or self.flow.share(paths[-1]) > 0.5:  # the work is not done by another network beside it
                return blocks
        return None

    def stages(self) -> Blocks | None:
        """Return the last ends before falls of the resolution; none if there are no two over which the work is spread."""
        parts = self._parts()
        ends = [now.end for now, then in pairwise(parts) if 2 * then.cells <= now.cells] + [part.end for part in parts[-1:]]
        spread = self._spread(ends)
        return self._blocks([self._whole(end, spread) for end in spread], equal=False) if spread else None

    def all(self) -> Blocks | None:
        """Return all ends, of which any number may be taken."""
        parts = self._parts()
        return self._blocks([part.end for part in parts], equal=True) if parts else None

    def _spread(self, ends: list[Call]) -> list[Call]:
        """Return the ends, without as many of the first as leaves two or more over which the work is spread; or none."""
        shares = [self.flow.of(end).ended for end in ends]
        return next((ends[first:] for first in range(len(ends) - 1) if fits(shares[first:])), [])

    def _blocks(self, ends: list[Call], equal: bool) -> Blocks:
        # Layers of one kind are numbered, whatever comes before them; so are parts of whose work torch knows nothing.
        layers = equal and (all(self._alike(end, ends[0]) for end in ends) or self.flow.of(ends[-1]).ended == 0)
        return Blocks(tuple(end.path for end in ends), equal, () if layers else tuple(self.flow.of(end).ended for end in ends))

    def _begins_with_stem(self, paths: list[str]) -> bool:
        """Whether the first end is no block's: behind one layer, of a stem by name, or of an activation before blocks."""
        if not paths:
            return False
        first, leaf = self.once[paths[0]], [not any(self.once[path].module.children()) for path in paths]
        until = sum(
            _has_matrix(call.module) for call in self.flow.calls if call.number <= first.number or first in call.within()
        )
        return until <= 1 or "stem" in paths[0] or (leaf[0] and not all(leaf))

    def _parts(self) -> list[_Part]:
        """Return what the model is made of, without its stem and patch embeddings."""
        parts = []
        for _, group in groupby(self._units(), key=lambda call: round(self.flow.of(call).ended, 9)):
            calls = list(group)
            # Of a block and the norm behind it the block; of single layers the last before the resolution changes.
            blocks = [call for call in calls if self._work(call) > 0 and any(call.module.children())]
            changes = (n for n, call in enumerate(calls) if self.cells[call] != self.cells[calls[0]])
            end = blocks[-1] if blocks else calls[next(changes, len(calls)) - 1]
            parts.append(_Part(end, calls, self.cells[end]))
        single = [part.layers() <= 1 for part in parts]
        begun = 1 if all(single) else max(1, single.index(False))  # behind the stem
        kept = []
        for number, part in enumerate(parts[begun:], begun):
            falls = part.cells < parts[number - 1].cells
            goes_on = number + 1 < len(parts) and parts[number + 1].cells == part.cells
            if not (single[number] and falls and goes_on):  # a patch embedding, or a layer that only lowers the resolution
                kept.append(part)
        return kept or parts

    def _units(self) -> list[Call]:
        """Return the ends, in order and none inside another: of a part that does much of the work those inside it."""
        inside: dict[Call | None, list[Call]] = {}
        for call in self.flow.calls:
            inside.setdefault(call.parent, []).append(call)

        def units(call: Call) -> list[Call]:
            inner = [unit for child in inside.get(call, []) for unit in units(child)]
            if call not in self.cells:
                return inner
            # One of a row of equal layers, or a small part, is not divided.
            row = sum(other in self.cells and self._alike(other, call) for other in inside[call.parent]) >= EVEN
            # Nor is one of single layers, such as a block of two convolutions, if it does not do most of the work.
            leaves = not any(any(unit.module.children()) for unit in inner)
            big = self._work(call) > (STEM if leaves or self.flow.of(call).begun == 0 else SMALL) and not row
            return inner if big and len(inner) > 1 and _end_alike(call, inner[-1]) else [call]

        return [unit for call in inside.get(None, []) for unit in units(call)]

    def _whole(self, end: Call, ends: list[Call]) -> Call:
        """Return the largest part that ends where ``end`` does and contains no other end."""
        others = {outer for other in ends if other is not end for outer in other.within()}
        around = [outer for outer in end.within() if outer in self.cells and outer not in others and _end_alike(outer, end)]
        return around[-1] if around else end

    def _alike(self, one: Call, other: Call) -> bool:
        """Whether two calls are of modules of one kind that do the same work."""
        same = type(one.module) is type(other.module) and self._work(one) > 0
        return same and math.isclose(self._work(one), self._work(other), rel_tol=0.05)

    def _work(self, call: Call) -> float:
        return self.flow.of(call).ended - self.flow.of(call).begun


def _end_alike(one: Call, other: Call) -> bool:
    first, second = first_tensor(one.output), first_tensor(other.output)
    if first is None or second is None:
        return first is second
    return first.shape == second.shape and first.data_ptr() == second.data_ptr()  # a view of it is another tensor (GPT-2)


def _has_matrix(module: nn.Module) -> bool:
    """Whether a module has weights of its own; a table of positions, (1, ...), is added to what flows and weighs nothing."""
    return any(parameter.ndim >= 2 and len(parameter) > 1 for parameter in module.parameters(recurse=False))
