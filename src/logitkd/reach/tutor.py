"""The frozen teacher as a source of signals: asked once a batch, for all that the loss reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from logitkd.reach.ensemble import Ensemble
from logitkd.reach.fold import fold_batch_norms
from logitkd.reach.inputs import Example, Inputs
from logitkd.reach.signals import Signals, Wants
from logitkd.reach.teacher import Teacher

__all__ = ["Taught", "Tutor"]


@dataclass(frozen=True, eq=False)
class Taught:
    """What the teacher makes of a batch.

    Attributes:
        signals: Its signals, constants.
        inputs: What it was given: the batch's inputs, normalised as it wants them. ``None`` of several teachers, each of which
            has its own.
        memo: What its pass left for later, by whom it was left for, see ``Tutor.watch``.
    """

    signals: Signals
    inputs: Inputs | None
    memo: Any = None


class Tutor:
    """The frozen teacher, or several, run live.

    Args:
        teacher: What is asked; from now on it yields the regions that are wanted, and no others.
        wants: What the loss reads.
        fold: Whether :meth:`settle` folds batch norms into convolutions, which moves outputs by a rounding error.
    """

    def __init__(self, teacher: Teacher | Ensemble, wants: Wants, *, fold: bool = False) -> None:
        self.teacher, self.wants, self.fold = teacher, wants, fold
        for member in teacher.members():
            if member.scales != wants.scales:
                member.yield_regions(wants.scales)
        self._kept: tuple[str, ...] | None = None
        self._watches: dict[Any, Callable[[Inputs], AbstractContextManager[Any]]] = {}

    def settle(self, keep: Sequence[str] = ()) -> None:
        """Rearrange the teacher, if that is wanted, before anything is attached to it; a second call changes nothing.

        Args:
            keep: paths in it whose outputs are read and must stay what they are.

        Raises:
            ValueError: an earlier call has rearranged it without keeping one of these paths.
        """
        if self._kept is None:
            if self.fold:
                for member in self.teacher.members():
                    fold_batch_norms(member.model, keep)
            self.teacher.eval()
            self._kept = tuple(keep)
        elif self.fold and (lost := [path for path in keep if path not in self._kept]):
            raise ValueError(f"a teacher's batch norms are folded once, and `{lost[0]}` was not kept: make another Tutor.")

    def watch(self, owner: Any, recording: Callable[[Inputs], AbstractContextManager[Any]]) -> None:
        """Let ``recording(inputs)`` surround each pass of a single teacher from now on; what it yields is ``memo[owner]``."""
        self._watches[owner] = recording

    def unwatch(self, owner: Any) -> None:
        """End what :meth:`watch` began."""
        self._watches.pop(owner, None)

    @torch.no_grad()
    def teach(self, batch: Example, view_epoch: int) -> Taught:
        """Return what the teacher makes of a batch.

        Args:
            batch: what the student sees.
            view_epoch: which of each example's views that is: with the index it names them, for a teacher whose answers were
                stored. A live one looks at the inputs.

        Raises:
            ValueError: a part of it was put in training mode, or its logits are not ``(N, own classes)``.
            TypeError: it returns no tensor.
        """
        if isinstance(self.teacher, Ensemble):
            return Taught(self.teacher(batch.inputs), None, {})
        inputs = self.teacher.prepare(batch.inputs)
        with ExitStack() as stack:
            memo = {owner: stack.enter_context(recording(inputs)) for owner, recording in self._watches.items()}
            signals = self.teacher.answer(inputs)
        return Taught(signals, inputs, memo)
