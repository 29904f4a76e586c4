"""What a network takes: one tensor, or several by name, such as token ids and their mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["Inputs", "call", "count", "take"]

Inputs = Tensor | Mapping[str, Tensor]  # every tensor (N, ...)


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Return ``model(inputs)``, or ``model(**inputs)`` where they have names.

    >>> call(nn.Identity(), {"input": Tensor([1.0])})
    tensor([1.])
    """
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def count(inputs: Inputs) -> int:
    """Return how many examples there are.

    >>> count({"input_ids": Tensor([[1, 2], [3, 4], [5, 6]])})
    3
    """
    return len(next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs)


def take(inputs: Inputs, number: int) -> Inputs:
    """Return the first ``number`` examples.

    >>> take(Tensor([[1], [2], [3]]), 2)
    tensor([[1.],
            [2.]])
    """
    if isinstance(inputs, Mapping):
        return {name: tensor[:number] for name, tensor in inputs.items()}
    return inputs[:number]
