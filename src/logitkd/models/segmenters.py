"""Segmentation networks that return their map of logits at its own resolution, before it is resized to the images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.segmentation import LRASPP
from torchvision.models.segmentation._utils import _SimpleSegmentationModel

from logitkd.models.pretrained import reason

__all__ = ["Segmenter", "TorchvisionSegmenter", "TransformersSegmenter", "UperNetSegmenter", "as_segmenter"]

_HEADS = ("head", "classifier")  # how the parts that end in the classes are called, by torchvision and transformers
_RULE = "a {} must return what its backbone and its heads give, resized to the image, as torchvision's do"
_FIX = "Wrap it in a module of its own that returns a map (N, C, h, w)."


class Segmenter(nn.Module):
    """A wrapped segmentation network.

    Attributes:
        auxiliary: the name of the head that the network can do without; empty where it has none of use.

    Args:
        model: stays reachable as ``.model``.
        num_classes: of its map.
    """

    auxiliary: ClassVar[str] = ""

    def __init__(self, model: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.model = model
        self.num_classes = num_classes

    def drop_auxiliary(self) -> None:
        """Leave the auxiliary head out from now on, its weights too."""
        setattr(self.model, self.auxiliary, None)

    @property
    def class_layers(self) -> frozenset[str]:
        """The paths of the layers that have a row for every class: the last of each head."""
        return frozenset(
            f"model.{name}.{path}".rstrip(".")
            for name, head in self.model.named_children()
            if name.endswith(_HEADS)
            for path, layer in head.named_modules()
            if isinstance(layer, nn.Conv2d) and layer.out_channels == self.num_classes and layer.bias is not None
        )


class TorchvisionSegmenter(Segmenter):
    """A segmentation network of torchvision that returns its maps before the final resize.

    Args:
        model: a ``DeepLabV3``, ``FCN``, ``LRASPP`` or another of torchvision's two classes, with their ``forward``.

    Raises:
        ValueError: its own output is not what its parts give, resized: its ``forward`` does something else. Or it cannot be
            shown a small image to find out.
    """

    auxiliary = "aux_classifier"

    def __init__(self, model: nn.Module) -> None:
        own, parts = _compare(model)
        super().__init__(model, parts["out"].shape[1])
        if own.keys() != parts.keys() or not all(_same(own[key], parts[key]) for key in parts):
            raise ValueError(f"{_RULE.format(type(model).__name__)}, got another output. {_FIX}")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``{"out": (N, C, h, w)}`` of images ``(N, 3, H, W)``; with an auxiliary head, its map is ``aux``."""
        return _parts(self.model, images)


class TransformersSegmenter(Segmenter):
    """A semantic segmentation network of transformers that returns its map as a tensor.

    Args:
        model: from ``AutoModelForSemanticSegmentation``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model, int(model.config.num_labels))

    def forward(self, images: Tensor) -> Any:
        """Return the logits ``(N, C, h, w)`` of images ``(N, 3, H, W)``."""
        return self.model(pixel_values=images, return_dict=True).logits


class UperNetSegmenter(TransformersSegmenter):
    """A UperNet of transformers, which resizes its maps to the images as torchvision's networks do: they are taken before.

    Args:
        model: an ``UperNetForSemanticSegmentation``.
    """

    auxiliary = "auxiliary_head"

    def drop_auxiliary(self) -> None:
        """Leave the auxiliary head out from now on, its weights too; the configuration says so."""
        super().drop_auxiliary()
        self.model.config.use_auxiliary_head = False  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``{"out": (N, C, h, w)}`` of images ``(N, 3, H, W)``; with an auxiliary head, its map is ``aux``."""
        model: Any = self.model
        features = model.backbone.forward_with_filtered_kwargs(images).feature_maps
        maps = {"out": model.decode_head(features)}
        if model.auxiliary_head is not None:
            maps["aux"] = model.auxiliary_head(features)
        return maps


def as_segmenter(network: nn.Module) -> nn.Module:
    """Return someone's own network, wrapped where it is one of torchvision's classes.

    A subclass with a ``forward`` of its own stays as it is: what it returns is its map.
    """
    known = any(type(network).forward is cls.forward for cls in (_SimpleSegmentationModel, LRASPP))
    return TorchvisionSegmenter(network) if known else network


def _parts(model: Any, images: Tensor) -> dict[str, Tensor]:
    """Return the maps of a network of torchvision: its ``forward`` but for the resizing."""
    features = model.backbone(images)
    if isinstance(model, LRASPP):
        return {"out": model.classifier(features)}
    maps = {"out": model.classifier(features["out"])}
    if model.aux_classifier is not None:
        maps["aux"] = model.aux_classifier(features["aux"])
    return maps


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, equal_nan=True)


@torch.no_grad()
def _compare(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a network's own output on a small image, and its parts' on the same, resized; nothing of it changes."""
    first = next(model.parameters())
    size = (64, 96)
    image = torch.linspace(-2, 2, 3 * size[0] * size[1], device=first.device, dtype=first.dtype).view(1, 3, *size)
    with _evaluating(model):
        try:
            own, parts = dict(model(image)), _parts(model, image)
        except Exception as error:  # of anyone's backbone
            what = f"{type(error).__name__}: {reason(error)}"
            raise ValueError(
                f"{_RULE.format(type(model).__name__)}, but it fails on one of {size[0]} x {size[1]} ({what}). {_FIX}"
            ) from error
    return own, {key: F.interpolate(value, size, mode="bilinear", align_corners=False) for key, value in parts.items()}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
