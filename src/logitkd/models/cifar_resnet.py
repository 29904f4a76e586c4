"""The three-stage CIFAR ResNets of depth 6n + 2, and their four times wider forms (resnet8x4, resnet32x4).

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, 1512.03385, section 4.2; with 1x1 convolutions
where a stage changes the shape, as the distillation literature has them since CRD (Tian et al., ICLR 2020, 1910.10699).
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from logitkd.models.cifar_net import CifarNet, cifar_cfgs, init_convolutions

__all__ = ["CifarResNet"]


class _Block(nn.Module):
    """Two 3x3 convolutions and a skip, ReLU after the sum."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + skip)


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = _Block(in_channels, channels, stride)
    return nn.Sequential(first, *(_Block(channels, channels, 1) for _ in range(blocks - 1)))


class CifarResNet(CifarNet):
    """Stem and three stages of (depth - 2) / 6 basic blocks each; the last map has a quarter of the input's size.

    Args:
        depth: 6n + 2.
        widths: Channels of the stem and of the three stages.
        num_classes: Classes C.
        in_chans: Channels of the images.
        global_pool: Pooling before the classifier.

    Raises:
        ValueError: ``depth`` is not 6n + 2.
    """

    classifier_path = "fc"

    def __init__(
        self,
        depth: int,
        widths: tuple[int, int, int, int] = (16, 16, 32, 64),
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"`depth` must be 6n + 2 (8, 14, 20, ...), got {depth}.")
        stem, one, two, three = widths
        self.conv1 = nn.Conv2d(in_chans, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(stem, one, blocks, 1)
        self.layer2 = _stage(one, two, blocks, 2)
        self.layer3 = _stage(two, three, blocks, 2)
        init_convolutions(self)
        self._add_head(
            three,
            num_classes,
            global_pool,
            [("relu", stem, 1), ("layer1", one, 1), ("layer2", two, 2), ("layer3", three, 4)],
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, after its ReLU: ``(N, D, H / 4, W / 4)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))


_NAMES = ("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet8x4", "resnet32x4")
default_cfgs = cifar_cfgs(*_NAMES, classifier="fc")


def _build(variant: str, pretrained: bool, **kwargs: Any) -> CifarResNet:
    return build_model_with_cfg(CifarResNet, variant, pretrained, **kwargs)


@register_model
def cifar_resnet8(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-8, 0.08 million parameters at 100 classes."""
    return _build("cifar_resnet8", pretrained, depth=8, **kwargs)


@register_model
def cifar_resnet14(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-14, 0.18 million parameters at 100 classes."""
    return _build("cifar_resnet14", pretrained, depth=14, **kwargs)


@register_model
def cifar_resnet20(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-20, 0.28 million parameters at 100 classes."""
    return _build("cifar_resnet20", pretrained, depth=20, **kwargs)


@register_model
def cifar_resnet32(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-32, 0.47 million parameters at 100 classes."""
    return _build("cifar_resnet32", pretrained, depth=32, **kwargs)


@register_model
def cifar_resnet44(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-44, 0.67 million parameters at 100 classes."""
    return _build("cifar_resnet44", pretrained, depth=44, **kwargs)


@register_model
def cifar_resnet56(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-56, 0.86 million parameters at 100 classes."""
    return _build("cifar_resnet56", pretrained, depth=56, **kwargs)


@register_model
def cifar_resnet110(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-110, 1.7 million parameters at 100 classes."""
    return _build("cifar_resnet110", pretrained, depth=110, **kwargs)


@register_model
def cifar_resnet8x4(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-8 with wide stages, 1.2 million parameters at 100 classes."""
    return _build("cifar_resnet8x4", pretrained, depth=8, widths=(32, 64, 128, 256), **kwargs)


@register_model
def cifar_resnet32x4(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-32 with wide stages, 7.4 million parameters at 100 classes."""
    return _build("cifar_resnet32x4", pretrained, depth=32, widths=(32, 64, 128, 256), **kwargs)
