"""ShuffleNets for CIFAR: V1 with three groups and V2 at width 1.

Zhang et al., CVPR 2018, 1707.01083; Ma et al., ECCV 2018, 1807.11164.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from logitkd.models.cifar_net import CifarNet, cifar_cfgs

__all__ = ["CifarShuffleNetV1", "CifarShuffleNetV2"]

_STEM, _DEPTHS, _GROUPS, _LAST = 24, (4, 8, 4), 3, 1024


class _GroupUnit(nn.Module):
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


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)


class _SplitUnit(nn.Module):
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


class _CifarShuffleNet(CifarNet):
    """1x1 stem and three stages, each halving the map; a subclass says of which units."""

    classifier_path = "linear"
    widths: ClassVar[tuple[int, int, int]]

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module

    def _add_stages(self, in_chans: int) -> list[tuple[str, int, int]]:
        """Add stem and stages, and return what ``_add_head`` takes of them."""
        self.conv1 = nn.Conv2d(in_chans, _STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.relu = nn.ReLU(inplace=True)
        stages, channels = [("relu", _STEM, 1)], _STEM
        for i, (width, depth) in enumerate(zip(self.widths, _DEPTHS, strict=True), start=1):
            first = self._first_unit(channels, width)
            self.add_module(f"layer{i}", nn.Sequential(first, *(self._unit(width) for _ in range(depth - 1))))
            stages.append((f"layer{i}", width, 2**i))
            channels = width
        return stages

    def _first_unit(self, in_channels: int, channels: int) -> nn.Module:
        raise NotImplementedError

    def _unit(self, channels: int) -> nn.Module:
        raise NotImplementedError

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's map, after its ReLU."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))


class CifarShuffleNetV1(_CifarShuffleNet):
    """1x1 stem and three stages; the last map, ``(N, 960, H / 8, W / 8)``, has an eighth of the input's size.

    Args:
        num_classes: Classes C.
        in_chans: Channels of the images.
        global_pool: Pooling before the classifier.
    """

    widths = (240, 480, 960)

    def __init__(self, num_classes: int = 100, in_chans: int = 3, global_pool: str = "avg") -> None:
        super().__init__()
        stages = self._add_stages(in_chans)
        self._add_head(self.widths[-1], num_classes, global_pool, stages)

    def _first_unit(self, in_channels: int, channels: int) -> nn.Module:
        return _GroupUnit(in_channels, channels - in_channels, 2)  # its pooled input makes up for the channels that it lacks

    def _unit(self, channels: int) -> nn.Module:
        return _GroupUnit(channels, channels, 1)


class CifarShuffleNetV2(_CifarShuffleNet):
    """1x1 stem, three stages and a 1x1 layer; the last map, ``(N, 1024, H / 8, W / 8)``, has an eighth of the input's size.

    Args:
        num_classes: Classes C.
        in_chans: Channels of the images.
        global_pool: Pooling before the classifier.
    """

    widths = (116, 232, 464)

    def __init__(self, num_classes: int = 100, in_chans: int = 3, global_pool: str = "avg") -> None:
        super().__init__()
        *stages, _ = self._add_stages(in_chans)  # the third size is described by the final 1x1 layer
        self.conv2 = nn.Conv2d(self.widths[-1], _LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(_LAST)
        self.relu2 = nn.ReLU(inplace=True)
        self._add_head(_LAST, num_classes, global_pool, [*stages, ("relu2", _LAST, 8)])

    def _first_unit(self, in_channels: int, channels: int) -> nn.Module:
        return _DownUnit(in_channels, channels)

    def _unit(self, channels: int) -> nn.Module:
        return _SplitUnit(channels)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the map of the final 1x1 layer, after its ReLU."""
        return self.relu2(self.bn2(self.conv2(super().forward_features(x))))


default_cfgs = cifar_cfgs("shufflenetv1", "shufflenetv2", classifier="linear")


@register_model
def cifar_shufflenetv1(pretrained: bool = False, **kwargs: Any) -> CifarShuffleNetV1:
    """ShuffleNet V1, 3 groups, 0.95 million parameters at 100 classes."""
    return build_model_with_cfg(CifarShuffleNetV1, "cifar_shufflenetv1", pretrained, **kwargs)


@register_model
def cifar_shufflenetv2(pretrained: bool = False, **kwargs: Any) -> CifarShuffleNetV2:
    """ShuffleNet V2 at width 1, 1.4 million parameters at 100 classes."""
    return build_model_with_cfg(CifarShuffleNetV2, "cifar_shufflenetv2", pretrained, **kwargs)
