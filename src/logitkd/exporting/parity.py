"""Whether an exported file gives the student's logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

from logitkd.exporting.formats import Network
from logitkd.reach.inputs import Inputs, call

__all__ = ["BATCHES", "TOLERANCE", "Parity", "ParityError", "compare"]

BATCHES = (1, 3, 8)  # sizes at which an exported file must agree; it was traced with another one, 2
TOLERANCE = 1e-4  # largest difference of a logit, as a share of the batch's largest logit


class ParityError(ValueError):
    """What was exported does not compute what the student computes."""


class Parity(NamedTuple):
    """How well an exported file agrees with the student.

    Args:
        file: its name.
        gap: largest difference of a logit over all batches.
        allowed: the gap that would have been too large.
    """

    file: str
    gap: float
    allowed: float


@torch.no_grad()
def compare(student: nn.Module, exported: Network, batches: Mapping[str, Inputs], file: str) -> Parity:
    """Return how well ``exported`` gives the student's logits of ``batches``, each with its size in words.

    Raises:
        ParityError: not well enough, and ``file`` is named.
    """
    worst, allowed = 0.0, 0.0
    for size, batch in batches.items():
        wanted = call(student, batch)
        if not wanted.isfinite().all():
            raise ParityError("the student's logits must be finite, got NaN or infinity: there is nothing to compare with.")
        try:
            found = exported(batch)
        except Exception as error:  # of whatever kind the runtime has
            raise ParityError(f"{file} must take a batch of {size}, got {type(error).__name__}: {error}") from error
        if found.shape != wanted.shape:
            raise ParityError(f"{file} must give {tuple(wanted.shape)} logits for a batch of {size}, got {tuple(found.shape)}.")
        gap, limit = (found - wanted).abs().max().item(), TOLERANCE * wanted.abs().max().item()
        if not gap <= limit:  # NaN is no agreement
            again = (call(student, batch) - wanted).abs().max().item()
            why = (
                f"The student does not agree with itself either (by {again:.2g}): is a dropout active in eval mode?"
                if not again <= limit
                else "The student computes something else when it is traced."
            )
            raise ParityError(
                f"{file} must give the student's logits within {limit:.2g}, got a difference of {gap:.2g} on a batch of "
                f"{size}. {why} Nothing was exported."
            )
        worst, allowed = max(worst, gap), max(allowed, limit)
    return Parity(file, worst, allowed)
