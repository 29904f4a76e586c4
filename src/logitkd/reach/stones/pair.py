"""A student that enters its teacher behind the teacher's blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from logitkd.reach.inputs import Example
from logitkd.reach.pair import Pair
from logitkd.reach.signals import Signals
from logitkd.reach.stones.model import StoneModel, find_stones
from logitkd.reach.teacher import Teacher
from logitkd.reach.tutor import Taught, Tutor

__all__ = ["StonePair"]


class StonePair(Pair):
    """Stepping stones, see :class:`StoneModel`; their connectors are trained with the student.

    Args:
        student: any classifier.
        tutor: of one teacher.
        example: a batch of two different examples.
        student_cuts: paths of the modules that end the student's blocks; found by themselves if ``None``.
        teacher_cuts: likewise the teacher's.
        use: which stones, see :class:`StoneModel`.
        seed: of the connectors' weights.

    Raises:
        ValueError: several teachers, or what :class:`StoneModel` refuses.
    """

    def __init__(
        self,
        student: nn.Module,
        tutor: Tutor,
        example: Example,
        student_cuts: Sequence[str] | None = None,
        teacher_cuts: Sequence[str] | None = None,
        use: Literal["all", "last"] | Sequence[int] = "all",
        seed: int = 0,
    ) -> None:
        super().__init__(student, tutor)
        teacher = tutor.teacher
        if not isinstance(teacher, Teacher):
            raise ValueError(
                f"stepping stones enter the blocks of one teacher, got {len(teacher.members())}: give one, or choose a method"
                " that reads logits or regions."
            )
        # Before anything is folded: the cuts must not depend on the precision, nor what the network puts out at them.
        cuts = find_stones(student, teacher, example.inputs, student_cuts, teacher_cuts, use)
        here, there = zip(*cuts, strict=True)
        tutor.settle(there)
        torch.manual_seed(seed)
        stones = StoneModel(student, teacher, example.inputs, student_cuts=here, teacher_cuts=there)
        self.connectors = stones.connectors
        self._stones = (stones,)  # adds no module to the student and the connectors
        tutor.watch(self, stones.recording)

    def forward(self, batch: Example, taught: Taught | None) -> tuple[Signals, Signals | None]:
        """Return the signals of the student, with stones, and of the teacher."""
        if taught is None:
            raise ValueError("stepping stones need what the teacher's pass left: `taught` must be given, got None.")
        return self._stones[0](batch.inputs, taught.memo[self]), taught.signals

    def trained(self) -> dict[str, nn.Module]:
        """Return the student and the connectors."""
        return {"student": self.student, "connectors": self.connectors}

    def note(self) -> str:
        """Return a line on each stone's cuts."""
        return self._stones[0].note()

    def close(self) -> nn.Module:
        """Take everything out of both networks and return the student."""
        assert self.tutor is not None
        self.tutor.unwatch(self)
        return self._stones[0].export()
