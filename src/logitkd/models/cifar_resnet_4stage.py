"""ImageNet-shaped ResNets (four stages, 64 to 512 channels) with a 3x3 stem of stride 1 for CIFAR.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, 1512.03385.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from logitkd.models.cifar_net import CifarNet, cifar_cfgs, init_convolutions

__all__ = ["CifarResNet4Stage"]


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    if stride == 1 and in_channels == out_channels:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class _Basic(nn.Module):
    """Two 3x3 convolutions and a skip."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class _Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions and a skip."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = self.expansion * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


class CifarResNet4Stage(CifarNet):
    """Stem and four stages; the last map has an eighth of the input's size.

    Args:
        block: Basic or bottleneck block.
        depths: Blocks in each stage.
        num_classes: Classes C.
        in_chans: Channels of the images.
        global_pool: Pooling before the classifier.
    """

    classifier_path = "linear"

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(
        self,
        block: type[_Basic] | type[_Bottleneck],
        depths: tuple[int, int, int, int],
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        stages, width = [("relu", 64, 1)], 64
        for i, depth in enumerate(depths):
            channels, stride = 64 * 2**i, 1 if i == 0 else 2
            blocks = []
            for j in range(depth):
                blocks.append(block(width, channels, stride if j == 0 else 1))
                width = channels * block.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
            stages.append((f"layer{i + 1}", width, 2**i))
        init_convolutions(self)
        self._add_head(width, num_classes, global_pool, stages)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, after its ReLU: ``(N, D, H / 8, W / 8)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


default_cfgs = cifar_cfgs("resnet18", "resnet50", classifier="linear")


def _build(variant: str, pretrained: bool, **kwargs: Any) -> CifarResNet4Stage:
    return build_model_with_cfg(CifarResNet4Stage, variant, pretrained, **kwargs)


@register_model
def cifar_resnet18(pretrained: bool = False, **kwargs: Any) -> CifarResNet4Stage:
    """ResNet-18 for CIFAR, 11 million parameters at 100 classes."""
    return _build("cifar_resnet18", pretrained, block=_Basic, depths=(2, 2, 2, 2), **kwargs)


@register_model
def cifar_resnet50(pretrained: bool = False, **kwargs: Any) -> CifarResNet4Stage:
    """ResNet-50 for CIFAR, 24 million parameters at 100 classes."""
    return _build("cifar_resnet50", pretrained, block=_Bottleneck, depths=(3, 4, 6, 3), **kwargs)
