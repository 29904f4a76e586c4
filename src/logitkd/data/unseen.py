"""Examples that a person wants predicted: where each comes from, and the batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
