"""ShuffleNet V1 with three groups for CIFAR. Zhang et al., CVPR 2018, 1707.01083."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from logitkd.models.cifar_net import CifarNet, cifar_cfgs

__all__ = ["CifarShuffleNetV1"]

_STEM, _WIDTHS, _DEPTHS, _GROUPS = 24, (240, 480, 960), (4, 8, 4), 3


class _Unit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; a strided unit appends its pooled input, others add theirs."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        hidden = channels // 4
        first_groups = 1 if in_channels == _STEM else _GROUPS
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.shuffle = nn.ChannelShuffle(first_groups) if first_groups > 1 else nn.Identity()
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, channels, 1, groups=_GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.AvgPool2d(3, 2, 1) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.shuffle(self.relu(self.bn1(self.conv1(x))))
        out = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(out)))))
        skip = self.shortcut(x)
        return self.relu(out + skip if isinstance(self.shortcut, nn.Identity) else torch.cat([out, skip], 1))


class CifarShuffleNetV1(CifarNet):
    """1x1 stem and three stages, each halving the map; the last map has an eighth of the input's size.

    Args:
        num_classes: Classes C.
        in_chans: Channels of the images.
        global_pool: Pooling before the classifier.
    """

    classifier_path = "linear"

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module

    def __init__(self, num_classes: int = 100, in_chans: int = 3, global_pool: str = "avg") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, _STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.relu = nn.ReLU(inplace=True)
        stages, channels = [("relu", _STEM, 1)], _STEM
        for i, (width, depth) in enumerate(zip(_WIDTHS, _DEPTHS, strict=True), start=1):
            # The first unit's pooled input makes up for the channels that its own branch lacks.
            first = _Unit(channels, width - channels, 2)
            self.add_module(f"layer{i}", nn.Sequential(first, *(_Unit(width, width, 1) for _ in range(depth - 1))))
            stages.append((f"layer{i}", width, 2**i))
            channels = width
        self._add_head(channels, num_classes, global_pool, stages)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, after its ReLU: ``(N, 960, H / 8, W / 8)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))


default_cfgs = cifar_cfgs("shufflenetv1", classifier="linear")


@register_model
def cifar_shufflenetv1(pretrained: bool = False, **kwargs: Any) -> CifarShuffleNetV1:
    """ShuffleNet V1, 3 groups, 0.95 million parameters at 100 classes."""
    return build_model_with_cfg(CifarShuffleNetV1, "cifar_shufflenetv1", pretrained, **kwargs)
