"""Looking at a model without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["eval_mode"]


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in eval mode for the block, then give each module its own mode back.

    ``model.train(was_training)`` would not do: a part may be kept in eval mode on purpose.

    >>> norm = nn.BatchNorm2d(3).eval()
    >>> model = nn.Sequential(nn.Dropout(), norm)
    >>> with eval_mode(model):
    ...     model[0].training
    False
    >>> model[0].training, norm.training
    (True, False)
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
