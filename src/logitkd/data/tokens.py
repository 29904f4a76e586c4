"""Texts as a network takes them: token ids of any length one after another, and the batches padded to their longest."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from logitkd.data.batch import Request

__all__ = ["TokenFetcher", "Tokens"]


@dataclass(frozen=True, eq=False)
class Tokens:
    """The texts of a split as one tokenizer reads them, each cut to the longest that is allowed.

    Args:
        ids: ``(T,)`` int32, the token ids of all texts, one text after another.
        ends: ``(N,)`` int64, where each text ends.
        types: ``(T,)`` int32, which of two texts a token is of, for networks that take it; ``None`` for others.
        pad: the id that fills up shorter texts of a batch.
        pad_type: the type of the filling.
        left: whether the filling stands before the text.
        cut: how many texts were longer than allowed.
    """

    ids: Tensor
    ends: Tensor
    types: Tensor | None
    pad: int
    pad_type: int = 0
    left: bool = False
    cut: int = 0

    def __len__(self) -> int:
        """Texts there are."""
        return len(self.ends)

    @property
    def starts(self) -> Tensor:
        """``(N,)`` int64, where each text begins."""
        return torch.cat([self.ends.new_zeros(1), self.ends[:-1]])

    @property
    def lengths(self) -> Tensor:
        """``(N,)`` int64, tokens of each text."""
        return self.ends - self.starts

    def same_ids(self, other: Tokens) -> bool:
        """Whether both are the same token ids, padded alike."""
        alike = (self.pad, self.left) == (other.pad, other.left)
        return alike and torch.equal(self.ends, other.ends) and torch.equal(self.ids, other.ids)

    def same(self, other: Tokens) -> bool:
        """Whether both come to the same inputs by the same names."""
        if not self.same_ids(other) or (self.types is None) != (other.types is None):
            return False
        if self.types is None or other.types is None:
            return True
        return self.pad_type == other.pad_type and torch.equal(self.types, other.types)
