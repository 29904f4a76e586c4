"""A student joined to its teacher for one method: what the training loop runs, whatever the method reads of both."""

from __future__ import annotations

from torch import nn

from logitkd.reach.inputs import Example, call
from logitkd.reach.signals import Signals, read_output
from logitkd.reach.tutor import Taught, Tutor

__all__ = ["Pair", "PairError", "PlainPair"]


class PairError(ValueError):
    """A network cannot be joined as the method needs it.

    Attributes:
        member: ``None`` for the student, else the number of the teacher, from 0.
        what: what is wrong with it, such as "has no regions".
        reason: why.
    """

    def __init__(self, reason: str, member: int | None, what: str) -> None:
        who = "student" if member is None else f"teacher (number {member}, counted from 0)" if member else "teacher"
        super().__init__(f"the {who} {what}: {reason}")
        self.reason, self.member, self.what = reason, member, what


class Pair(nn.Module):
    """A student and what joins it to a tutor; a new way of reaching into models is a class like this.

    Its modules are what is trained, the student first: the tutor is none of them. A pair is made by ``make_pair``, which has
    it checked.

    Args:
        student: the user's network, unedited; it stays reachable as it is.
        tutor: the teacher; ``None`` where the labels alone are learned from.
    """

    def __init__(self, student: nn.Module, tutor: Tutor | None) -> None:
        super().__init__()
        self.student = student
        self.tutor = tutor

    def check(self, example: Example) -> None:
        """Refuse what cannot work, before time is spent.

        Args:
            example: a batch of two.

        Raises:
            PairError: one of the networks is not what the method needs.
        """

    def forward(self, batch: Example, taught: Taught | None) -> tuple[Signals, Signals | None]:
        """Return the signals of the student and of the teacher, of a batch that the tutor has taught."""
        raise NotImplementedError

    def trained(self) -> dict[str, nn.Module]:
        """Return by name what an optimizer trains and a checkpoint holds; together these are the pair's parameters."""
        return {"student": self.student}

    def stored(self) -> dict[str, nn.Module]:
        """Return by name what a checkpoint holds and nothing trains, such as a bank of features."""
        return {}

    def note(self) -> str:
        """Return a line for people on what was found in the networks, empty for none."""
        return ""

    def close(self) -> nn.Module:
        """Take everything out of both networks and return the student, as it was given; the pair is of no use after."""
        return self.student


class PlainPair(Pair):
    """The logits of both networks.

    Args:
        student: the user's network.
        tutor: the teacher; ``None`` where the labels alone are learned from.
        dense: the student answers for every cell of a grid of each image, see ``checked_map``.
    """

    def __init__(self, student: nn.Module, tutor: Tutor | None, dense: bool = False) -> None:
        super().__init__(student, tutor)
        self.dense = dense
        if tutor is not None:
            tutor.settle()

    def forward(self, batch: Example, taught: Taught | None) -> tuple[Signals, Signals | None]:
        """Return the signals of the student and of the teacher, if there is one."""
        signals = read_output(call(self.student, batch.inputs), "student", self.dense)
        return signals, None if taught is None else taught.signals
