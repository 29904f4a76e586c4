"""The maps that a network of timm yields where its last stages are dilated in place of being strided."""

from __future__ import annotations

import functools
from typing import Any

import timm
import torch

__all__ = ["LOW", "STRIDES", "check_maps", "create_maps"]

STRIDES = {"deeplabv3": 8, "lraspp": 16}  # pixels a side that a cell of the last map stands for, as in torchvision's networks
LOW = 8  # that of the map which the head of LR-ASPP reads beside the last


def create_maps(name: str, head: str, *, pretrained: bool, maps: tuple[int, ...] | None = None) -> Any:
    """Return timm's network as one that returns a list of its maps.

    Args:
        name: timm's.
        head: which reads them: a key of ``STRIDES``.
        pretrained: whether to load the weights that the name stands for.
        maps: which of them; all by default.
    """
    chosen: dict[str, Any] = {} if maps is None else {"out_indices": maps}
    return timm.create_model(name, pretrained=pretrained, features_only=True, output_stride=STRIDES[head], **chosen)


@functools.cache
def check_maps(name: str, head: str) -> tuple[int, ...]:
    """Return the strides of the maps that a network yields; none of its weights are made.

    Args:
        name: timm's.
        head: which reads them: a key of ``STRIDES``.

    Raises:
        OSError: its configuration is not here and cannot be fetched.
        ValueError: it yields no maps, or none of the stride that the head reads.
    """
    try:
        with torch.device("meta"):  # no memory: only what it is made of
            strides = tuple(create_maps(name, head, pretrained=False).feature_info.reduction())
        got = f"one whose maps have the strides {list(strides)}"
    except (TypeError, AssertionError, AttributeError, NotImplementedError, RuntimeError) as error:
        strides, said = (), " ".join(str(error).split())
        got = f"one that cannot be ({type(error).__name__}{f': {said}' if said else ''})"
    if strides[-1:] != (STRIDES[head],) or (head == "lraspp" and LOW not in strides[:-1]):
        raise ValueError(
            f"model `{head}:{name}` must be on a network that timm can build with `features_only=True` and"
            f" `output_stride={STRIDES[head]}`, got {got}. Take a convolutional one such as resnet18, mobilenetv3_large_100 or"
            " efficientnet_lite0."
        )
    return strides
