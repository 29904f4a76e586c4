"""What a model calls in a forward pass, and its parts by path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from logitkd.checks import suggest
from logitkd.reach.inputs import Inputs, call, eval_mode
from logitkd.reach.signals import answer_of

__all__ = ["Call", "answer", "call_model", "find_module", "first_tensor", "plain", "trace"]


@dataclass(eq=False)
class Call:
    """One call of a submodule during a forward pass.

    Args:
        number: its place in the order in which calls began.
        path: the module's path in the model.
        module: the module.
        parent: the call inside which it was made; ``None`` directly in the model's own forward.
        inputs: its first positional argument.
        output: what it returned; ``None`` before it has.
        ended: how many calls had begun when it returned: it was over before the call of that number began.
    """

    number: int
    path: str
    module: nn.Module
    parent: Call | None
    inputs: Any = None
    output: Any = None
    ended: int = 0

    def within(self) -> Iterator[Call]:
        """Yield the calls around this one, the innermost first."""
        call = self.parent
        while call is not None:
            yield call
            call = call.parent


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor in ``value`` (a tensor, or any nest of tuples, lists, dicts and model outputs)."""
    return next((leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, Tensor)), None)


def answer(output: Any) -> Tensor | None:
    """Return the logits in what a model returned: what a mapping says they are, such as a dense network's, else the first."""
    found = answer_of(output) if isinstance(output, Mapping) else None
    return first_tensor(output if found is None else found)


@torch.no_grad()
def trace(model: nn.Module, inputs: Inputs, note: Callable[[Call], None] | None = None) -> tuple[list[Call], Any]:
    """Return every call of a submodule in one forward pass, in eval mode, in the order they began, and the model's output.

    Args:
        model: any module that is called with one batch: one tensor, ``model(images)``, or several by name.
        inputs: an example batch.
        note: is given each call when it begins, and again when it has returned.

    Raises:
        TypeError: ``model`` cannot be called with the inputs alone.
    """
    calls: list[Call] = []
    open_calls: list[Call] = []

    def before(path: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            parent = open_calls[-1] if open_calls else None
            call = Call(len(calls), path, module, parent, arguments[0] if arguments else None)
            calls.append(call)
            open_calls.append(call)
            if note is not None:
                note(call)

        return hook

    def after(module: nn.Module, arguments: Any, output: Any) -> None:
        call = open_calls.pop()
        call.output, call.ended = output, len(calls)
        if note is not None:
            note(call)

    handles = []
    for path, module in model.named_modules():
        if path:
            handles += [module.register_forward_pre_hook(before(path)), module.register_forward_hook(after)]
    try:
        with eval_mode(model):
            output = call_model(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls, output


def call_model(model: nn.Module, inputs: Inputs) -> Any:
    """Return what ``model`` makes of the inputs; say what to do where it wants other arguments.

    Raises:
        TypeError: it does.
    """
    try:
        return call(model, inputs)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        alone, given = "a batch of images alone", "images"
        if isinstance(inputs, Mapping):
            alone, given = "its inputs by name", ", ".join(inputs)
        raise TypeError(
            f"{type(model).__name__} must be callable with {alone}, `model({given})`, but: {error}. Wrap it in a"
            f" module whose `forward({given})` passes the other arguments."
        ) from error


def plain(model: nn.Module) -> nn.Module:
    """Return the model that ``torch.compile`` wrapped, and any other as it is: module paths are those of the model itself."""
    return getattr(model, "_orig_mod", model)


def find_module(model: nn.Module, path: str, what: str = "cut") -> nn.Module:
    """Return the submodule at ``path``.

    Raises:
        ValueError: there is none; the message calls it ``what`` and lists what there is.
    """
    model = plain(model)
    try:
        module = model.get_submodule(path) if path else None
    except AttributeError:
        module = None
    if module is None:
        known = [name for name, _ in model.named_modules() if name]
        raise ValueError(
            f"{what} `{path}` is no module of {type(model).__name__}.{suggest(path, known)}{_children(model, path)}"
        )
    return module


def _children(model: nn.Module, path: str) -> str:
    """Return a sentence that lists what there is where ``path`` leaves the model."""
    parent, above = model, ""
    for part in path.split("."):
        child = dict(parent.named_children()).get(part)
        if child is None:
            break
        parent, above = child, f"{above}{part}."
    names = [f"{above}{name}" for name, _ in parent.named_children()]
    shown = ", ".join(f"`{name}`" for name in names[:12]) + (", ..." if len(names) > 12 else "")
    return f" Modules there: {shown}." if names else ""
