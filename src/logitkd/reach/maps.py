"""Two dense networks on one grid: whatever the strides of student and teacher, a loss compares cell with cell."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import nn

from logitkd.reach.inputs import Example
from logitkd.reach.pair import Pair
from logitkd.reach.resize import grid_size, resize_map
from logitkd.reach.signals import Signals
from logitkd.reach.tutor import Taught

__all__ = ["Grid", "MapPair"]

Grid = Literal["coarser", "student", "labels"]


class MapPair(Pair):
    """A pair of dense networks whose signals are brought onto one grid, see ``resize_map``.

    Logits, stones and auxiliary maps of both networks are. The student's own map, on which its own loss is measured, stays
    in the stream ``own``, that of its auxiliary head in ``own_aux``: where nothing was resized, they are the same tensors.
    Without a teacher nothing is resized.

    Args:
        inner: what joins the networks; its signals are dense.
        grid: ``coarser``, that of the network of fewer cells (the student's of equals); ``student``, the student's;
            ``labels``, that of the batch's labels, ``(N, h, w)``.
    """

    def __init__(self, inner: Pair, grid: Grid) -> None:
        super().__init__(inner.student, inner.tutor)
        self.inner, self.grid = inner, grid

    def check(self, example: Example) -> None:
        """Refuse what ``inner`` does, and labels that are no maps where theirs is the grid.

        Raises:
            PairError: one of the networks is not what the method needs.
            ValueError: there is no grid of the labels.
        """
        if self.grid == "labels" and example.labels.ndim != 3:
            raise ValueError(
                "`grid` must be coarser or student where labels are no maps (N, H, W), got labels"
                f" {tuple(example.labels.shape)}."
            )
        self.inner.check(example)

    def forward(self, batch: Example, taught: Taught | None) -> tuple[Signals, Signals | None]:
        """Return the signals of the student and of the teacher, on one grid, and the student's own maps."""
        student, teacher = self.inner(batch, taught)
        own = {"own": student.logits} | {f"own_{name}": value for name, value in student.streams.items()}
        if teacher is not None:
            size = self._size(batch, student, teacher)
            student, teacher = _on(student, size), _on(teacher, size)
        return replace(student, streams={**student.streams, **own}), teacher

    def _size(self, batch: Example, student: Signals, teacher: Signals) -> tuple[int, int]:
        if self.grid == "labels":
            height, width = batch.labels.shape[1:]
            return height, width
        mine, theirs = grid_size(student.logits), grid_size(teacher.logits)
        coarser = self.grid == "coarser" and theirs[0] * theirs[1] < mine[0] * mine[1]
        return theirs if coarser else mine

    def trained(self) -> dict[str, nn.Module]:
        """Return what ``inner`` trains."""
        return self.inner.trained()

    def stored(self) -> dict[str, nn.Module]:
        """Return what ``inner`` stores."""
        return self.inner.stored()

    def note(self) -> str:
        """Return what ``inner`` found in the networks."""
        return self.inner.note()

    def close(self) -> nn.Module:
        """Take everything out of both networks and return the student."""
        return self.inner.close()


def _on(signals: Signals, size: tuple[int, int]) -> Signals:
    stones = None if signals.stones is None else [resize_map(stone, size) for stone in signals.stones]
    streams = {name: resize_map(value, size) for name, value in signals.streams.items()}
    return Signals(resize_map(signals.logits, size), stones=stones, streams=streams)
