"""Building a network by name: a timm name, or ``package.module:callable`` for one's own."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path

import timm
from torch import nn

from logitkd.models.weights import load_weights

__all__ = ["build_model", "parameter_count"]


def parameter_count(model: nn.Module) -> int:
    """Return how many parameters ``model`` has, frozen ones too, shared ones once.

    >>> parameter_count(nn.Linear(10, 3))
    33
    """
    return sum(parameter.numel() for parameter in model.parameters())


def build_model(name: str, num_classes: int, *, checkpoint: str | Path | None = None) -> nn.Module:
    """Build a classifier and, where a checkpoint is given, load its weights.

    Args:
        name: A timm name (``"resnet18"``, ``"cifar_resnet8x4"``), or ``"package.module:callable"``, which is called as
            ``callable(num_classes=num_classes)`` and must return an ``nn.Module``.
        num_classes: Classes C, at least 2.
        checkpoint: What ``load_weights`` reads; ``None`` leaves the weights random.

    Returns:
        The model on the CPU, in training mode.

    Raises:
        ValueError: The name is unknown, names pretrained weights, or the model has another number of classes.
        TypeError: The callable is none, or does not return an ``nn.Module``.

    >>> parameter_count(build_model("cifar_resnet8", 100))
    83892
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int):
        raise TypeError(f"`num_classes` must be an int, got {num_classes!r} ({type(num_classes).__name__}).")
    if num_classes < 2:
        raise ValueError(f"`num_classes` must be at least 2, got {num_classes}.")
    model = _own(name, num_classes) if ":" in name and not name.startswith("hf") else _timm(name, num_classes)
    built = getattr(model, "num_classes", num_classes)
    if isinstance(built, int) and built != num_classes:
        raise ValueError(f"`{name}` was asked for {num_classes} classes and was built with {built}.")
    if checkpoint is not None:
        load_weights(model, checkpoint)
    return model


def _timm(name: str, num_classes: int) -> nn.Module:
    """Build a registered network with random weights."""
    base, _, tag = name.partition(".")
    if tag or ":" in name:
        raise ValueError(
            f"model `{name}` names pretrained weights, which are not fetched by name. Use `{base}` for random weights"
            " and give a checkpoint file for others."
            if tag
            else f"model `{name}` lies on a hub; models are built from timm names or `package.module:callable`."
        )
    if not timm.is_model(name):
        known = timm.list_models()
        close = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
        if f"cifar_{name}" in known:
            close = [f"cifar_{name}", *(c for c in close if c != f"cifar_{name}")]
        hint = f" Nearest: {', '.join(close)}." if close else ""
        raise ValueError(
            f"unknown model `{name}`.{hint} A name is one of timm's {len(known)} (`timm.list_models()`) or"
            " `package.module:callable`."
        )
    return timm.create_model(name, pretrained=False, num_classes=num_classes)


def _own(name: str, num_classes: int) -> nn.Module:
    """Call the user's own ``package.module:callable``."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"model `{name}` must read `package.module:callable`.")
    try:
        target = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise ValueError(
            f"model `{name}`: there is no module `{error.name}`. It must be importable: installed, or in the folder"
            " the command runs in (then `python -m logitkd ...` finds it)."
        ) from error
    try:
        for part in attribute.split("."):
            target = getattr(target, part)
    except AttributeError:
        close = difflib.get_close_matches(attribute, dir(target), n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise ValueError(f"model `{name}`: `{module_name}` has no `{attribute}`.{hint}") from None
    if not callable(target):
        raise TypeError(f"model `{name}`: `{attribute}` must be callable, got {type(target).__name__}.")
    model = target(num_classes=num_classes)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model `{name}` must return a torch.nn.Module, got {type(model).__name__}.")
    return model
