"""Where a model can be cut: the ends of its blocks, by module path, found without its author's help.

Block-KD needs as many cuts in the student as in the teacher and nothing else in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from logitkd.reach.trace import Call, first_tensor, plain, trace

__all__ = ["Blocks", "find_blocks", "pair_cuts"]

EVEN = 4  # blocks that two models of many equal layers are divided into


@dataclass(frozen=True)
class Blocks:
    """The ends of a model's blocks.

    Args:
        paths: module paths in the order in which they run.
        equal: whether they are layers of one kind (a transformer's), of which any number may make a block.
    """

    paths: tuple[str, ...]
    equal: bool

    def take(self, count: int) -> tuple[str, ...]:
        """Return ``count`` cuts: evenly spaced ones of equal layers, otherwise the last ones.

        >>> Blocks(("a", "b", "c", "d", "e", "f"), equal=True).take(3)
        ('b', 'd', 'f')
        >>> Blocks(("stem", "low", "high"), equal=False).take(2)
        ('low', 'high')
        """
        if not self.equal:
            return self.paths[-count:]
        return tuple(self.paths[-(-number * len(self.paths) // count) - 1] for number in range(1, count + 1))


def pair_cuts(
    student: nn.Module,
    teacher: nn.Module,
    student_images: Tensor,
    teacher_images: Tensor,
    student_cuts: Sequence[str] | None = None,
    teacher_cuts: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return as many cuts of the student as of the teacher; where a side's are not given, they are found.

    Two models whose blocks are stages of falling resolution get the last ``min`` of both; layers of one size are divided
    evenly into as many blocks as the other model has (into four where both are such models).

    Raises:
        ValueError: both are given and differ in number, a given list is empty, or no blocks can be found.
    """
    for role, cuts in (("student", student_cuts), ("teacher", teacher_cuts)):
        if cuts is not None and len(cuts) == 0:
            raise ValueError(f"{role} cuts must be at least one module path, got none. Leave them out to have them found.")
    sides = ((student, student_images, student_cuts), (teacher, teacher_images, teacher_cuts))
    found = [find_blocks(model, images) if cuts is None else Blocks(tuple(cuts), equal=False) for model, images, cuts in sides]
    numbers = [len(blocks.paths) for blocks in found]
    given = {len(cuts) for _, _, cuts in sides if cuts is not None}  # as many are needed on the other side
    count = max(given) if given else min(*numbers, *([EVEN] if all(blocks.equal for blocks in found) else []))
    if len(given) > 1 or min(numbers) < count:
        said = [f"{len(blocks.paths)} ({', '.join(blocks.paths)})" for blocks in found]
        raise ValueError(
            f"student and teacher must be cut at the same number of places, got {said[0]} and {said[1]}: give one path of"
            " each for every stepping stone."
        )
    return found[0].take(count), found[1].take(count)


def find_blocks(model: nn.Module, images: Tensor) -> Blocks:
    """Return the ends of the blocks of ``model``.

    Tried in turn: timm's ``feature_info`` (the CIFAR networks have it, too) without the stem; torchvision's ``layer1`` ...
    ``layer4``; the largest ``nn.Sequential`` or ``nn.ModuleList`` of parts that run in a row on maps or tokens, cut before
    each fall of the resolution, or divided evenly where there is none (transformers' encoder layers).

    Args:
        model: any module that is called with one batch.
        images: an example batch ``(N, ...)``.

    Raises:
        ValueError: no blocks were found.
    """
    model = plain(model)
    calls, _ = trace(model, images)
    once = {call.path: call for call in calls if sum(other.module is call.module for other in calls) == 1}
    blocks = _from_feature_info(model, calls, once) or _from_names(model, once) or _from_largest_row(model, once)
    if blocks is None:
        names = ", ".join(f"`{name}`" for name, _ in model.named_children())
        raise ValueError(
            f"no blocks were found in {type(model).__name__}: give the module paths of their ends, first to last. Modules"
            f" there: {names or 'none'}."
        )
    return blocks


def _from_feature_info(model: nn.Module, calls: list[Call], once: dict[str, Call]) -> Blocks | None:
    info: Any = getattr(model, "feature_info", None)
    entries = [entry for entry in getattr(info, "info", info) or [] if isinstance(entry, dict) and entry.get("module") in once]
    if len(entries) < 2:
        return None
    sizes = {(entry.get("num_chs"), entry.get("reduction")) for entry in entries}
    paths = [entry["module"] for entry in entries]
    # timm counts the stem's output as a feature level: one layer is no block.
    until = [call for call in calls if call.number <= once[paths[0]].number or once[paths[0]] in call.within()]
    if sum(_has_matrix(call.module) for call in until) <= 1:
        paths = paths[1:]
    return Blocks(tuple(paths), equal=len(sizes) == 1)


def _has_matrix(module: nn.Module) -> bool:
    return any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False))


def _from_names(model: nn.Module, once: dict[str, Call]) -> Blocks | None:
    paths = tuple(path for path in ("layer1", "layer2", "layer3", "layer4") if path in once)
    return Blocks(paths, equal=False) if len(paths) > 1 else None


def _from_largest_row(model: nn.Module, once: dict[str, Call]) -> Blocks | None:
    rows = []
    for path, module in model.named_modules():
        if not path or not isinstance(module, (nn.Sequential, nn.ModuleList)):
            continue
        parts = [once[f"{path}.{name}"] for name, _ in module.named_children() if f"{path}.{name}" in once]
        outputs = [first_tensor(part.output) for part in parts]
        if len(parts) > 1 and all(output is not None and output.ndim >= 3 for output in outputs):
            rows.append((sum(p.numel() for p in module.parameters()), parts, outputs))
    if not rows:
        return None
    _, parts, outputs = max(rows, key=lambda row: row[0])  # the first of equals: the outermost
    cells = [output.numel() // output.shape[1 if output.ndim == 4 else 2] for output in outputs if output is not None]
    ends = [part.path for part, (now, then) in zip(parts, pairwise(cells), strict=False) if then < now]
    if ends:
        return Blocks((*ends, parts[-1].path), equal=False)
    return Blocks(tuple(part.path for part in parts), equal=True)
