"""Classifiers of torchvision, with random weights or its own."""

from __future__ import annotations

import re

import torch
import torchvision
from torch import Tensor, nn

from logitkd.checks import listed
from logitkd.models.names import Source
from logitkd.models.pretrained import Pretrained, loading

__all__ = ["build_torchvision", "fetch", "torchvision_pretrained"]

# DenseNet's files predate the rule that a module's name holds no dot.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)\.")


def build_torchvision(source: Source, num_classes: int, weights: bool) -> nn.Module:
    """Return the network for ``num_classes``; with its weights if asked, the head random where the classes differ.

    Raises:
        ConnectionError: the weights are not here and cannot be fetched.
    """
    model = torchvision.models.get_model(source.inner, weights=None, num_classes=num_classes)
    if weights:
        state = fetch(source)
        with loading(source):
            own = {name: value.shape for name, value in model.state_dict().items()}
            head = [name for name, value in state.items() if own[name] != value.shape]
            if any(own[name][:1] != (num_classes,) for name in head) or len(head) > 2:
                raise RuntimeError(f"another shape than the network's: {listed(head)}")
            model.load_state_dict({**model.state_dict(), **{k: v for k, v in state.items() if k not in head}})
    return model


def torchvision_pretrained(source: Source) -> Pretrained:
    """Return the network with its weights and its own head.

    Raises:
        ConnectionError: the weights are not here and cannot be fetched.
    """
    record = torchvision.models.get_model_weights(source.inner)[source.tag]
    preset = record.transforms()
    state = fetch(source)
    with loading(source):
        head = [name for name, _ in torchvision.models.get_model(source.inner, weights=None).named_parameters()][-1]
        num_classes = state[head].shape[0]
        model = torchvision.models.get_model(source.inner, weights=None, num_classes=num_classes)
        model.load_state_dict(state)
    classes = record.meta.get("categories")
    classes = tuple(classes) if classes and len(classes) == num_classes else None
    return Pretrained(model, num_classes, classes, tuple(preset.mean), tuple(preset.std))


def fetch(source: Source) -> dict[str, Tensor]:
    """Return the weights that a name stands for, in torchvision's current names.

    Raises:
        ConnectionError: they are not here and cannot be fetched.
        ValueError: they cannot be read.
    """
    record = torchvision.models.get_model_weights(source.inner)[source.tag]
    with loading(source):
        state = torch.hub.load_state_dict_from_url(record.url, map_location="cpu", check_hash=True, weights_only=True)
    return {_OLD_DENSENET.sub(r"\1\2.", name): value for name, value in state.items()}
