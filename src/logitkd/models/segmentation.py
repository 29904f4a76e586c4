"""Segmentation networks of torchvision, and its heads on networks of timm: random, on a trained backbone, or trained."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

from logitkd.checks import listed
from logitkd.models.from_timm import timm_statistics
from logitkd.models.from_torchvision import fetch
from logitkd.models.names import HEADS, Source, backbone_weights, takes_auxiliary
from logitkd.models.pretrained import IMAGENET_MEAN, IMAGENET_STD, Pretrained, loading
from logitkd.models.segmenters import TorchvisionSegmenter
from logitkd.models.timm_heads import build_on_timm

__all__ = ["build_segmenter", "segmenter_pretrained", "segmenter_statistics"]


def build_segmenter(source: Source, num_classes: int, weights: bool, aux: bool) -> TorchvisionSegmenter:
    """Return the network for ``num_classes``; with its weights if asked, what ends in classes random where those differ.

    Args:
        source: its name, taken apart.
        num_classes: C of its maps.
        weights: whether to load those that the name stands for, the whole network's or its backbone's.
        aux: whether it has its auxiliary head, where it has one.

    Raises:
        ConnectionError: the weights are not here and cannot be fetched.
        ValueError: they do not fit; or as :func:`~logitkd.models.timm_heads.build_on_timm`.
    """
    if source.kind in HEADS:
        return TorchvisionSegmenter(build_on_timm(source, num_classes, weights, aux))
    backbones = backbone_weights(source.inner)
    if weights and source.tag in backbones:
        with loading(source):
            return TorchvisionSegmenter(_plain(source, num_classes, aux, backbones[source.tag]))
    model = _plain(source, num_classes, aux)
    if weights:
        own = model.state_dict()
        state = {name: value for name, value in fetch(source).items() if name in own and value.shape == own[name].shape}
        with loading(source):
            other = [name for name, value in own.items() if name not in state and value.shape[:1] != (num_classes,)]
            if other:
                raise RuntimeError(f"not there, or of another shape than the network's: {listed(other)}")
            model.load_state_dict(own | state)
    return TorchvisionSegmenter(model)


def segmenter_pretrained(source: Source) -> Pretrained:
    """Return the network with its weights and its own heads.

    Args:
        source: its name, taken apart.

    Raises:
        ConnectionError: the weights are not here and cannot be fetched.
        ValueError: they are its backbone's alone, or do not fit.
    """
    if not source.has_head:
        raise ValueError(
            f"model `{source.name}`: its weights are those of its backbone, so it cannot teach. Give a checkpoint, or a network"
            " that was trained to segment."
        )
    record = torchvision.models.get_model_weights(source.inner)[source.tag]
    preset, classes = record.transforms(), tuple(record.meta["categories"])
    state = fetch(source)
    with loading(source):
        model = _plain(source, len(classes), any(name.startswith("aux_classifier.") for name in state))
        model.load_state_dict(state)
    return Pretrained(TorchvisionSegmenter(model), len(classes), classes, tuple(preset.mean), tuple(preset.std))


def segmenter_statistics(source: Source, network: Any) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return the mean and std that weights of this network are usually trained with, ``None`` for both if none is usual."""
    if source.kind in HEADS:
        return timm_statistics(source.backbone, network.model.backbone.body)
    return IMAGENET_MEAN, IMAGENET_STD


def _plain(source: Source, num_classes: int, aux: bool, backbone: Any = None) -> nn.Module:
    """Return torchvision's own network, only its backbone trained."""
    more = {"aux_loss": aux} if takes_auxiliary(source.inner) else {}
    return torchvision.models.get_model(source.inner, weights=None, weights_backbone=backbone, num_classes=num_classes, **more)
