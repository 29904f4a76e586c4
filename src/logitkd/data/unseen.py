"""Examples that a person wants predicted: where each comes from, and the batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from logitkd.checks import listed
from logitkd.data.loader import Loader

__all__ = ["Unseen"]


class Unseen(NamedTuple):
    """Examples without labels.

    Args:
        places: of each the file, and where a file holds several the row, counted from 0.
        loader: their batches; labels mean nothing.
    """

    places: Sequence[tuple[str, int | None]]
    loader: Loader

    def check_numbers(self, finite: Tensor, index: Tensor) -> None:
        """Name the examples of which a network returned NaN or infinity.

        Args:
            finite: ``(N,)`` bool, whether it returned numbers.
            index: ``(N,)`` int64, which examples they are.

        Raises:
            ValueError: there are some.
        """
        if not finite.all():
            bad = [self._called(number) for number in index[~finite].tolist()]
            raise ValueError(f"the student's logits must be numbers, got NaN or infinity for {listed(bad, 3)}.")

    def _called(self, number: int) -> str:
        file, row = self.places[number]
        return file if row is None else f"{file} row {row}"
