"""ShuffleNet V2 at width 1 for CIFAR. Ma et al., ECCV 2018, 1807.11164."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from logitkd.models.cifar_net import CifarNet, cifar_cfgs

__all__ = ["CifarShuffleNetV2"]

_STEM, _WIDTHS, _DEPTHS, _LAST = 24, (116, 232, 464), (4, 8, 4), 1024


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)


class _Unit(nn.Module):
    """Half of the channels pass, half go through 1x1, depthwise 3x3, 1x1; then the channels are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = _depthwise(half, 1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu = nn.ReLU(inplace=True)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        passed, out = x.chunk(2, dim=1)
        out = self.relu(self.bn1(self.conv1(out)))
        out = self.bn2(self.conv2(out))
        out = self.relu(self.bn3(self.conv3(out)))
        return self.shuffle(torch.cat([passed, out], 1))


class _DownUnit(nn.Module):
    """Both halves are computed from the whole input, each with a depthwise 3x3 of stride 2."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = _depthwise(in_channels, 2)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = _depthwise(half, 2)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)
        self.relu = nn.ReLU(inplace=True)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        left = self.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.relu(self.bn3(self.conv3(x)))
        right = self.relu(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return self.shuffle(torch.cat([left, right], 1))


class CifarShuffleNetV2(CifarNet):
    """1x1 stem, three stages that each halve the map, a 1x1 layer; the last map has an eighth of the input's size.

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
            units = (_Unit(width) for _ in range(depth - 1))
            self.add_module(f"layer{i}", nn.Sequential(_DownUnit(channels, width), *units))
            if i < 3:  # the third size is described by the final 1x1 layer
                stages.append((f"layer{i}", width, 2**i))
            channels = width
        self.conv2 = nn.Conv2d(channels, _LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(_LAST)
        self.relu2 = nn.ReLU(inplace=True)
        self._add_head(_LAST, num_classes, global_pool, [*stages, ("relu2", _LAST, 8)])

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, after the final 1x1 layer's ReLU: ``(N, 1024, H / 8, W / 8)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.relu2(self.bn2(self.conv2(x)))


default_cfgs = cifar_cfgs("shufflenetv2", classifier="linear")


@register_model
def cifar_shufflenetv2(pretrained: bool = False, **kwargs: Any) -> CifarShuffleNetV2:
    """ShuffleNet V2 at width 1, 1.4 million parameters at 100 classes."""
    return build_model_with_cfg(CifarShuffleNetV2, "cifar_shufflenetv2", pretrained, **kwargs)
