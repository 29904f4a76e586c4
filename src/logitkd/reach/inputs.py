"""What a network takes, one tensor or several by name, such as token ids and their mask; and looking at it without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

__all__ = [
    "ByNetwork",
    "Example",
    "Given",
    "Inputs",
    "apply",
    "call",
    "count",
    "eval_mode",
    "for_network",
    "is_images",
    "sides",
    "take",
    "tensors",
]

Inputs = Tensor | Mapping[str, Tensor]  # every tensor (N, ...)


class ByNetwork(dict[str, Inputs]):
    """The same examples as each network takes them, where networks take different things: texts, each its own token ids.

    Its keys are ``student``, ``teacher``, ``teacher.others[0]`` and so on.

    Args:
        inputs: of each network.
        shared: names of tensors that are the same for all networks, in every batch and not in this one by chance.
    """

    def __init__(self, inputs: Mapping[str, Inputs], shared: Iterable[str] = ()) -> None:
        super().__init__(inputs)
        self.shared = frozenset(shared)


Given = Inputs | ByNetwork  # what a batch holds


def for_network(inputs: Given, role: str) -> Inputs:
    """Return what one network takes.

    Args:
        inputs: of a batch.
        role: the network's: ``student``, ``teacher``, ``teacher.others[0]``.

    Raises:
        ValueError: the batch has nothing for it.

    >>> for_network(ByNetwork({"student": Tensor([1.0]), "teacher": Tensor([2.0])}), "teacher")
    tensor([2.])
    >>> for_network(Tensor([1.0]), "teacher")
    tensor([1.])
    """
    if not isinstance(inputs, ByNetwork):
        return inputs
    if role not in inputs:
        raise ValueError(f"a batch must hold what each network takes, got {', '.join(inputs)}, and nothing for the {role}.")
    return inputs[role]


class Example(Protocol):
    """A batch, as far as reaching into networks needs to know it: inputs, labels, and each example's place in its split."""

    @property
    def inputs(self) -> Given:
        """What the networks are given."""

    @property
    def labels(self) -> Tensor:
        """What is right."""

    @property
    def index(self) -> Tensor:
        """``(N,)`` int64."""


def call(model: nn.Module, inputs: Given) -> Any:
    """Return ``model(inputs)``, or ``model(**inputs)`` where they have names; of inputs by network it gets the student's.

    >>> call(nn.Identity(), {"input": Tensor([1.0])})
    tensor([1.])
    """
    inputs = for_network(inputs, "student")
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def tensors(inputs: Given) -> list[Tensor]:
    """Return the tensors."""
    if isinstance(inputs, Tensor):
        return [inputs]
    return [tensor for own in inputs.values() for tensor in tensors(own)]


T = TypeVar("T", bound=Given)


def apply(change: Callable[[Tensor], Tensor], inputs: T) -> T:
    """Return the inputs with each tensor changed.

    >>> apply(Tensor.neg, {"input": Tensor([1.0])})
    {'input': tensor([-1.])}
    """
    changed: Any
    if isinstance(inputs, Tensor):
        changed = change(inputs)
    else:
        changed = {name: apply(change, own) for name, own in inputs.items()}
        changed = ByNetwork(changed, inputs.shared) if isinstance(inputs, ByNetwork) else changed
    return changed


def count(inputs: Given) -> int:
    """Return how many examples there are.

    >>> count({"input_ids": Tensor([[1, 2], [3, 4], [5, 6]])})
    3
    """
    return len(tensors(inputs)[0])


def take(inputs: T, number: int) -> T:
    """Return the first ``number`` examples.

    >>> take(Tensor([[1], [2], [3]]), 2)
    tensor([[1.],
            [2.]])
    """
    return apply(lambda tensor: tensor[:number], inputs)


def is_images(inputs: Given) -> bool:
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
