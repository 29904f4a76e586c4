"""Texts as a network takes them: token ids of any length, one text after another, and rows of them padded to the longest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Tokens"]


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

    @cached_property
    def starts(self) -> Tensor:
        """``(N,)`` int64, where each text begins."""
        return torch.cat([self.ends.new_zeros(1), self.ends[:-1]])

    @cached_property
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

    def rows(self, chosen: Tensor) -> dict[str, Tensor]:
        """Return some texts as a network takes them, filled up to the longest of them.

        Args:
            chosen: ``(B,)`` int64, rows of the split.

        Returns:
            ``input_ids``, ``attention_mask`` (1 for a token, 0 for filling) and, where there are types, ``token_type_ids``,
            each ``(B, L)`` int64.

        >>> tokens = Tokens(torch.tensor([5, 6, 7], dtype=torch.int32), torch.tensor([2, 3]), None, pad=0)
        >>> tokens.rows(torch.tensor([1, 0]))["input_ids"]
        tensor([[7, 0],
                [5, 6]])
        """
        lengths, starts = self.lengths[chosen, None], self.starts[chosen, None]
        longest = int(lengths.max()) if len(chosen) else 0
        place = torch.arange(longest)
        if self.left:
            place = place - (longest - lengths)
        there = (place >= 0) & (place < lengths)
        source = torch.where(there, starts + place, 0)
        inputs = {"input_ids": self.ids[source].long().masked_fill(~there, self.pad), "attention_mask": there.long()}
        if self.types is not None:
            inputs["token_type_ids"] = self.types[source].long().masked_fill(~there, self.pad_type)
        return inputs
