"""Networks of timm: by name, by name and pretrained tag, from the hub, from a folder."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

from logitkd.models.names import Source
from logitkd.models.pretrained import Pretrained, check_head, loading

__all__ = ["build_timm", "timm_pretrained", "timm_statistics"]


def build_timm(source: Source, num_classes: int, weights: bool) -> nn.Module:
    """Return the network for ``num_classes``; with its weights if asked, the head random where the classes differ."""
    if source.kind == "timm" and not weights:
        return timm.create_model(source.name, pretrained=False, num_classes=num_classes)
    with loading(source):
        return timm.create_model(source.name, pretrained=weights, num_classes=num_classes)


def timm_pretrained(source: Source) -> Pretrained:
    """Return the network with its weights and its own head.

    Raises:
        ConnectionError: the weights are not here and cannot be fetched.
        ValueError: they hold no classifier, or do not fit.
    """
    with loading(source), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = timm.create_model(source.name, pretrained=False)
        torch.manual_seed(0)
        model = timm.create_model(source.name, pretrained=True)
    num_classes = int(getattr(model, "num_classes", 0))
    if num_classes < 2:
        raise ValueError(f"model `{source.name}` has no classifier, so it cannot teach. Give one that was trained to classify.")
    cfg: dict[str, Any] = dict(getattr(model, "pretrained_cfg", {}))
    parts = cfg.get("classifier") or ()
    check_head(source.name, model, untrained, (parts,) if isinstance(parts, str) else tuple(parts))
    return Pretrained(model, num_classes, _classes(cfg, num_classes), *_statistics(cfg))


def timm_statistics(source: Source, model: nn.Module) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and std of the weights that timm knows for the network, ``None`` for both where it knows none."""
    cfg: dict[str, Any] = dict(getattr(model, "pretrained_cfg", {}))
    if source.kind == "timm" and not any(cfg.get(key) for key in ("url", "file", "hf_hub_id")):
        return None, None
    return _statistics(cfg)


def _statistics(cfg: dict[str, Any]) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    mean, std = cfg.get("mean"), cfg.get("std")
    return (tuple(mean), tuple(std)) if mean and std else (None, None)


def _classes(cfg: dict[str, Any], num_classes: int) -> tuple[str, ...] | None:
    names = cfg.get("label_names")
    descriptions = cfg.get("label_descriptions") or {}
    if names is None and (subset := infer_imagenet_subset(cfg)):
        info = ImageNetInfo(subset)
        names, descriptions = info.label_names(), info.label_descriptions(as_dict=True)
    if not isinstance(names, (list, tuple)) or len(names) != num_classes:
        return None
    return tuple(str(descriptions.get(name, name)) for name in names)
