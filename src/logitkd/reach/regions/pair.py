"""A student and a teacher that both yield the logits of their image regions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from logitkd.reach.inputs import Example
from logitkd.reach.pair import Pair, PairError
from logitkd.reach.regions.model import RegionModel
from logitkd.reach.signals import Signals
from logitkd.reach.tutor import Taught, Tutor

__all__ = ["RegionPair"]


class RegionPair(Pair):
    """Multi-scale region logits of both networks, see :class:`RegionModel`; several teachers yield each their own.

    Args:
        student: any classifier whose head reads the average of its last map, or its class tokens.
        tutor: wants the regions' scales.
        pool: path of the module that averages the student's last map; found by itself if ``None``.
        head: path of the module behind it, likewise.

    Raises:
        PairError: ``pool`` or ``head`` is no module of the student.
    """

    def __init__(self, student: nn.Module, tutor: Tutor, pool: str | None = None, head: str | None = None) -> None:
        super().__init__(student, tutor)
        if tutor.wants.scales is None:
            raise ValueError("`scales` must be given where regions are read, got None: Wants('regions', (1, 2, 4)).")
        tutor.settle()
        with _whose(None):
            regions = RegionModel(student, tutor.wants.scales, pool=pool, head=head)
        self._regions = (regions,)  # adds no module to the student

    def check(self, example: Example) -> None:
        """Find in both networks where cells enter them, on two images.

        Raises:
            PairError: a network does not average its last map, or not where it was said; see ``RegionModel``.
        """
        with _whose(None):
            self._regions[0].check(example.inputs)
        assert self.tutor is not None
        for number, member in enumerate(self.tutor.teacher.members()):
            if isinstance(member.network, RegionModel):
                with _whose(number):
                    member.network.check(member.prepare(example.inputs))

    def forward(self, batch: Example, taught: Taught | None) -> tuple[Signals, Signals | None]:
        """Return the signals of the student and of the teacher, with regions."""
        return self._regions[0](batch.inputs), None if taught is None else taught.signals

    def close(self) -> nn.Module:
        """Take everything out of both networks and return the student."""
        assert self.tutor is not None
        self._regions[0].close()
        for member in self.tutor.teacher.members():
            if isinstance(member.network, RegionModel):
                member.network.close()
        return self.student


@contextmanager
def _whose(member: int | None) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise PairError(str(error), member, "has no regions") from error
