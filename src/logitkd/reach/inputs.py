"""What a network takes, one tensor or several by name, such as token ids and their mask; and looking at it without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor, nn

__all__ = ["Example", "Inputs", "apply", "call", "count", "eval_mode", "is_images", "sides", "take", "tensors"]

Inputs = Tensor | Mapping[str, Tensor]  # every tensor (N, ...)


class Example(Protocol):
    """A batch, as far as reaching into networks needs to know it: inputs, labels, and each example's place in its split."""

    @property
    def inputs(self) -> Inputs:
        """What the student is given."""

    @property
    def labels(self) -> Tensor:
        """What is right."""

    @property
    def index(self) -> Tensor:
        """``(N,)`` int64."""


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Return ``model(inputs)``, or ``model(**inputs)`` where they have names.

    >>> call(nn.Identity(), {"input": Tensor([1.0])})
    tensor([1.])
    """
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def tensors(inputs: Inputs) -> list[Tensor]:
    """Return the tensors."""
    return list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]


def apply(change: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """Return the inputs with each tensor changed.

    >>> apply(Tensor.neg, {"input": Tensor([1.0])})
    {'input': tensor([-1.])}
    """
    if isinstance(inputs, Mapping):
        return {name: change(tensor) for name, tensor in inputs.items()}
    return change(inputs)


def count(inputs: Inputs) -> int:
    """Return how many examples there are.

    >>> count({"input_ids": Tensor([[1, 2], [3, 4], [5, 6]])})
    3
    """
    return len(tensors(inputs)[0])


def take(inputs: Inputs, number: int) -> Inputs:
    """Return the first ``number`` examples.

    >>> take(Tensor([[1], [2], [3]]), 2)
    tensor([[1.],
            [2.]])
    """
    return apply(lambda tensor: tensor[:number], inputs)


def is_images(inputs: Inputs) -> bool:
    """Whether it is one tensor of numbers, such as images: not several by name, and no token ids.

    All that a network makes of an example then comes out of that one tensor; there is no mask beside it.
    """
    return isinstance(inputs, Tensor) and inputs.is_floating_point()


def sides(inputs: Inputs) -> tuple[int, int] | None:
    """Return height and width of the images among the inputs, ``None`` where there are none.

    >>> sides({"pixel_values": Tensor(2, 3, 8, 6)}), sides(Tensor(2, 9))
    ((8, 6), None)
    """
    images = [tensor for tensor in tensors(inputs) if tensor.ndim == 4]
    return (images[0].shape[2], images[0].shape[3]) if images else None


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
