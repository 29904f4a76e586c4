"""Stepping stones: the student's first blocks, a connector, the teacher's remaining blocks; no network is edited or copied.

Yu et al., "Decoupling Dark Knowledge via Block-wise Logit Distillation for Feature-level Alignment", IEEE TAI 2024,
2411.01547. There is no public code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from logitkd.checks import listed
from logitkd.reach.inputs import ByNetwork, Given, Inputs, count, for_network, take, tensors
from logitkd.reach.regions.sources import map_sizes
from logitkd.reach.replay.flow import follow
from logitkd.reach.replay.frontier import CutError
from logitkd.reach.replay.replay import Replay
from logitkd.reach.replay.tape import Memo
from logitkd.reach.replay.trace import answer, plain
from logitkd.reach.signals import Signals, read_output
from logitkd.reach.stones.connectors import Connector, read_layout
from logitkd.reach.stones.cuts import check_cut, pair_cuts
from logitkd.reach.teacher import Teacher, check_not_shared

__all__ = ["StoneModel", "choose_stones", "find_stones"]

MOST_REFUSED = 8  # cuts of the teacher that may fail the proof before the search is given up


def find_stones(
    student: nn.Module,
    teacher: Teacher,
    inputs: Given,
    student_cuts: Sequence[str] | None = None,
    teacher_cuts: Sequence[str] | None = None,
    use: Literal["all", "last"] | Sequence[int] = "all",
) -> list[tuple[str, str]]:
    """Return the cuts of each stone: in the student and in the teacher; where they are not given, they are found.

    A cut of the teacher that is found and fails the proof (the parts behind it read something from before it) is left out,
    and the next is tried. Arguments as of :class:`StoneModel`. Both networks are left as they were.

    Raises:
        ValueError: as :class:`StoneModel`, as far as it shows before connectors are made.
    """
    mine, prepared = _each(teacher, inputs)
    refused: list[str] = []
    while True:
        pairs = pair_cuts(student, teacher.model, mine, prepared, student_cuts, teacher_cuts, refused)
        chosen = choose_stones(use, len(pairs[0]))
        cuts = [(pairs[0][number - 1], pairs[1][number - 1]) for number in chosen]
        if teacher_cuts is not None:  # there is no other choice: StoneModel proves it
            return cuts
        with contextlib.ExitStack() as undo:
            there = Replay(teacher.model, [cut for _, cut in cuts], prepared, what="teacher cut", dense=teacher.dense)
            undo.callback(there.close)
            try:
                there.check(prepared)
                return cuts
            except CutError as error:
                refused.append(error.path)
                if len(refused) > MOST_REFUSED:
                    raise


def _each(teacher: Teacher, inputs: Given) -> tuple[Inputs, Inputs]:
    """Return what student and teacher take of two examples.

    Raises:
        ValueError: each takes its own, and they do not share every tensor that both have.
    """
    inputs = take(inputs, 2)
    if isinstance(inputs, ByNetwork):
        common = set.intersection(*(set(own) if isinstance(own, Mapping) else set() for own in inputs.values()))
        if not common or common - inputs.shared:
            raise ValueError(
                "stepping stones go on in the teacher where the student left off, so both must be shown the same tokens, got"
                f" {listed(sorted(common - inputs.shared))} of their own for each. Give a student with the teacher's tokenizer,"
                " or choose a method that reads logits."
            )
    return for_network(inputs, "student"), teacher.prepare(inputs)


class StoneModel(nn.Module):
    """A student that also yields the logits of its stepping stones.

    Stone i is the student up to its cut i, a connector, and the teacher from behind its cut i on::

        stone_i = classifier(T_n(... T_{i+1}(connector_i(S_i(... S_1(images))))))

    One pass of the student and one of the teacher serve all stones: a stone starts behind the teacher's cut, with the
    connector's output in place of what the teacher put out there, and no teacher block before it runs again. Gradients
    pass through the teacher's blocks into connector and student; the teacher is frozen, in eval mode, and not a part of
    this module: ``parameters()`` are the student's and the connectors'.

    ::

        stones = StoneModel(student, teacher, images)
        optimizer = SGD(stones.parameters(), lr=0.05)   # student and connectors
        for images, labels in loader:
            taught = stones.teach(images)       # the teacher's only pass
            signals = stones(images)            # logits and stones
            loss = BlockKDLoss()(signals.logits, taught.logits, labels, stones=signals.stones)
        student = stones.export()

    ``cuts`` are the paths of each stone, ``shares`` the shares of both networks' multiply-adds done at them.

    The cuts are module paths. They are found where they are not given, see ``find_blocks``; the connectors' shapes come from
    one pass of both models on ``images``, and a few more prove that the teacher's blocks read nothing from before their cut.

    Args:
        student: any classifier ``images -> (N, C)``, or one that takes several inputs by name, ``student(**inputs)``; of a
            dense teacher one that is dense, see ``checked_map``.
        teacher: the frozen teacher; it takes the same.
        inputs: an example batch, N at least 2, of different examples; all later images must have its height and width.
        student_cuts: paths of the modules that end the student's blocks, first to last.
        teacher_cuts: likewise the teacher's; as many.
        use: which stones, from 1 (after the first block) to n: ``all``, ``last`` (the cheapest: only the teacher's
            classifier runs again) or their numbers.

    Raises:
        ValueError: cuts that do not exist, run never or more than once, in the wrong order or one inside another; different
            numbers of cuts; a stone that does not exist; a block whose output is no map, tokens or vector, or is several that
            are read behind it; a tensor that both models hold.
        TypeError: a model that cannot be called with the inputs alone, a teacher that is no ``Teacher``, a path
            instead of a list.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher,
        inputs: Given,
        *,
        student_cuts: Sequence[str] | None = None,
        teacher_cuts: Sequence[str] | None = None,
        use: Literal["all", "last"] | Sequence[int] = "all",
    ) -> None:
        super().__init__()
        if not isinstance(teacher, Teacher):
            raise TypeError(
                f"`teacher` must be a Teacher, got {type(teacher).__name__}: wrap it, Teacher(teacher, num_classes=C)."
            )
        for name, cuts in (("student_cuts", student_cuts), ("teacher_cuts", teacher_cuts)):
            if isinstance(cuts, str):
                raise TypeError(f"`{name}` must be a list of module paths, got the text {cuts!r}: write [{cuts!r}].")
        if count(inputs) < 2:
            raise ValueError(f"`inputs` must be an example batch of at least 2, got {count(inputs)}.")
        check_not_shared(student, teacher)
        mine, prepared = _each(teacher, inputs)
        paths = list(zip(*find_stones(student, teacher, inputs, student_cuts, teacher_cuts, use), strict=True))
        self.student = student
        with contextlib.ExitStack() as undo:  # what is refused leaves no switch behind
            here = Replay(student, paths[0], mine, what="student cut")
            undo.callback(here.close)
            there = Replay(teacher.model, paths[1], prepared, what="teacher cut", dense=teacher.dense)
            undo.callback(there.close)
            flows = follow(student, mine), follow(teacher.model, prepared)
            for flow, cuts, what in zip(flows, paths, ("student cut", "teacher cut"), strict=True):
                for cut in cuts:
                    check_cut(flow, cut, what)
            there.check(prepared)
            device = next((p.device for p in plain(student).parameters()), tensors(mine)[0].device)
            grids = [map_sizes(flow.calls) for flow in flows]
            self.connectors = nn.ModuleList(
                Connector(
                    read_layout(student, here.shapes[i], mine, paths[0][i], grids[0]),
                    read_layout(teacher.model, there.shapes[i], prepared, paths[1][i], grids[1]),
                ).to(device)
                for i in range(len(paths[0]))
            )
            undo.pop_all()
        self.shares = [
            tuple(flow.share(cut) for flow, cut in zip(flows, pair, strict=True)) for pair in zip(*paths, strict=True)
        ]
        # Not registered: what holds a student must not hold its teacher.
        self._teacher, self._student_pass, self._teacher_pass = (teacher,), (here,), (there,)
        self._taught: Memo | None = None  # of the last `teach`

    @property
    def cuts(self) -> list[tuple[str, str]]:
        """The paths of each stone: where it leaves the student, and behind what it enters the teacher."""
        return list(zip(self._student_pass[0].paths, self._teacher_pass[0].paths, strict=True))

    def note(self) -> str:
        """Return a line for people: each stone's cuts, and how much of each network's work is done there."""
        stones = [
            " -> ".join(f"{cut} ({share:.0%})" for cut, share in zip(cuts, shares, strict=True))
            for cuts, shares in zip(self.cuts, self.shares, strict=True)
        ]
        return f"stepping stones (share of the multiply-adds done there): {', '.join(stones)}"

    @property
    def recording(self) -> Callable[[Inputs], AbstractContextManager[Memo]]:
        """What notes in the teacher's own pass what the stones need, see ``Replay.recording``."""
        return self._teacher_pass[0].recording

    @torch.no_grad()
    def teach(self, inputs: Given) -> Signals:
        """Return the teacher's signals of a batch, constants, and remember what the stones need."""
        teacher = self._teacher[0]
        teacher.check_mode()
        output, _, self._taught = self._teacher_pass[0].run(teacher.prepare(inputs))
        return teacher.finish_all(read_output(output, "teacher", teacher.dense))

    def forward(self, inputs: Given, memo: Memo | None = None) -> Signals:
        """Return the student's logits ``(N, C)`` of a batch, and those of each stone, the deepest last; dense where both are.

        Args:
            inputs: the batch.
            memo: what the teacher's pass on it left; ``None`` for that of the last ``teach``.

        Raises:
            RuntimeError: the teacher has not seen these inputs, or a reentrant activation checkpoint in one of the models keeps
                a stone's gradient from the student.
        """
        teacher, resumed = self._teacher[0], self._teacher_pass[0]
        memo = self._taught if memo is None else memo
        if memo is None or count(memo.inputs) != count(inputs):
            raise RuntimeError("`teach(images)` must come before the student's pass on the same images, as stones enter it.")
        output, features, _ = self._student_pass[0].run(for_network(inputs, "student"))
        signals = read_output(output, "student", teacher.dense)
        stones = []
        for number, (connector, value) in enumerate(zip(self.connectors, features, strict=True)):
            entering = connector(value)
            again = resumed.resume(memo, number, entering)
            stone = read_output(again if teacher.dense else answer(again), "teacher", teacher.dense).logits
            if torch.is_grad_enabled():
                self._check_gradient(number, value, entering, stone)
            stones.append(teacher.finish(stone))
        return replace(signals, stones=stones)

    def _check_gradient(self, number: int, value: Tensor, entering: Tensor, stone: Tensor) -> None:
        """Raise ``RuntimeError`` where a stone has lost its way back: it would be trained no further, without a word."""
        lost = None
        if entering.requires_grad and not stone.requires_grad:
            lost = "teacher", self._teacher_pass[0].paths[number]
        elif not value.requires_grad:
            path = self._student_pass[0].paths[number]
            if any(p.requires_grad for p in plain(self.student).get_submodule(path).parameters()):
                lost = "student", path
        if lost is not None:
            raise RuntimeError(
                f"a stone's gradient must pass {lost[0]} cut `{lost[1]}`, but none does: does the model run it under a"
                " reentrant activation checkpoint (gradient checkpointing)? Turn that off, or give it `use_reentrant=False`."
            )

    def export(self) -> nn.Module:
        """Take everything out of both models and return the student, as it was given; this module is of no use after."""
        self._student_pass[0].close()
        self._teacher_pass[0].close()
        return self.student


def choose_stones(use: Literal["all", "last"] | Sequence[int], count: int) -> list[int]:
    """Return the numbers of the stones that ``use`` means, of ``count``.

    Raises:
        ValueError: it means none, or one that does not exist.

    >>> choose_stones("last", 4), choose_stones([2, 4], 4)
    ([4], [2, 4])
    >>> choose_stones([5], 4)
    Traceback (most recent call last):
    ValueError: stones must be `all`, `last` or rising numbers in [1, 4] (one a block), got [5].
    """
    if use == "all":
        return list(range(1, count + 1))
    if use == "last":
        return [count]
    numbers = [] if isinstance(use, str) else list(use)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= count for n in numbers)
    if not numbers or not whole or numbers != sorted(set(numbers)):
        raise ValueError(f"stones must be `all`, `last` or rising numbers in [1, {count}] (one a block), got {use}.")
    return numbers
