"""VGG with batch normalisation and one linear layer for CIFAR.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, 1409.1556.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from logitkd.models.cifar_net import CifarNet, cifar_cfgs, init_convolutions

__all__ = ["CifarVGG"]

_WIDTHS = (64, 128, 256, 512, 512)


class _PoolLargeMap(nn.MaxPool2d):
    """Halve the map before the last block where images are 64 pixels (maps of 8); keep CIFAR's maps of 4."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[-2] == 8 else x


def _block(in_channels: int, channels: int, layers: int) -> nn.Sequential:
    """Convolutions with normalisation, ReLU between them; the ReLU after the last one is the network's ``act``."""
    modules: list[nn.Module] = []
    for i in range(layers):
        if i:
            modules.append(nn.ReLU(inplace=True))
        modules += [nn.Conv2d(in_channels if i == 0 else channels, channels, 3, 1, 1), nn.BatchNorm2d(channels)]
    return nn.Sequential(*modules)


class CifarVGG(CifarNet):
    """Five blocks of 3x3 convolutions; the last map has an eighth of a 32-pixel input's size, 4x4.

    Args:
        layers: Convolutions in each block.
        num_classes: Classes C.
        in_chans: Channels of the images.
        global_pool: Pooling before the classifier.
    """

    classifier_path = "classifier"

    def __init__(
        self,
        layers: tuple[int, int, int, int, int],
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        pools = (nn.MaxPool2d(2), nn.MaxPool2d(2), nn.MaxPool2d(2), _PoolLargeMap(2))
        channels = in_chans
        for i, (width, count) in enumerate(zip(_WIDTHS, layers, strict=True)):
            self.add_module(f"block{i}", _block(channels, width, count))
            self.add_module(f"act{i}", nn.ReLU(inplace=True))
            if i < len(pools):
                self.add_module(f"pool{i}", pools[i])
            channels = width
        init_convolutions(self)
        stages = [(f"act{i}", channels, 2 ** min(i, 3)) for i, channels in enumerate(_WIDTHS)]
        self._add_head(_WIDTHS[-1], num_classes, global_pool, stages)

    def _init_classifier(self) -> None:
        classifier = self.get_classifier()
        if isinstance(classifier, nn.Linear):
            nn.init.normal_(classifier.weight, std=0.01)
            nn.init.zeros_(classifier.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, after its ReLU: ``(N, 512, 4, 4)`` for images of 32 or of 64 pixels."""
        for name, module in self.named_children():
            if name.startswith(("block", "act", "pool")):
                x = module(x)
        return x


default_cfgs = cifar_cfgs("vgg8", "vgg11", "vgg13", "vgg16", "vgg19", classifier="classifier", first_conv="block0.0")


def _build(variant: str, pretrained: bool, **kwargs: Any) -> CifarVGG:
    return build_model_with_cfg(CifarVGG, variant, pretrained, **kwargs)


@register_model
def cifar_vgg8(pretrained: bool = False, **kwargs: Any) -> CifarVGG:
    """VGG-8, 4.0 million parameters at 100 classes."""
    return _build("cifar_vgg8", pretrained, layers=(1, 1, 1, 1, 1), **kwargs)


@register_model
def cifar_vgg11(pretrained: bool = False, **kwargs: Any) -> CifarVGG:
    """VGG-11, 9.3 million parameters at 100 classes."""
    return _build("cifar_vgg11", pretrained, layers=(1, 1, 2, 2, 2), **kwargs)


@register_model
def cifar_vgg13(pretrained: bool = False, **kwargs: Any) -> CifarVGG:
    """VGG-13, 9.5 million parameters at 100 classes."""
    return _build("cifar_vgg13", pretrained, layers=(2, 2, 2, 2, 2), **kwargs)


@register_model
def cifar_vgg16(pretrained: bool = False, **kwargs: Any) -> CifarVGG:
    """VGG-16, 15 million parameters at 100 classes."""
    return _build("cifar_vgg16", pretrained, layers=(2, 2, 3, 3, 3), **kwargs)


@register_model
def cifar_vgg19(pretrained: bool = False, **kwargs: Any) -> CifarVGG:
    """VGG-19, 20 million parameters at 100 classes."""
    return _build("cifar_vgg19", pretrained, layers=(2, 2, 4, 4, 4), **kwargs)
