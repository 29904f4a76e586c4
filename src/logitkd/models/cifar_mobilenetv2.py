"""MobileNetV2 at half width for CIFAR. Sandler et al., CVPR 2018, 1801.04381."""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from logitkd.models.cifar_net import CifarNet, cifar_cfgs, init_convolutions

__all__ = ["CifarMobileNetV2"]

_WIDTH = 0.5  # on the channels of the stem and the stages, not on the last 1280
# Expansion, channels at full width, blocks, stride of the first block.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class _InvertedResidual(nn.Module):
    """Widen, depthwise 3x3, narrow; a skip where the shape stays. Unlike timm's, expansion 1 keeps its 1x1 layer."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.skips = stride == 1 and in_channels == channels
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skips else self.conv(x)


class CifarMobileNetV2(CifarNet):
    """Stem of stride 2 and seven stages; 32-pixel images end as a 2x2 map of 1280 channels.

    Args:
        num_classes: Classes C.
        in_chans: Channels of the images.
        global_pool: Pooling before the classifier.
    """

    classifier_path = "classifier.0"

    def __init__(self, num_classes: int = 100, in_chans: int = 3, global_pool: str = "avg") -> None:
        super().__init__()
        channels, last = int(32 * _WIDTH), 1280
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_chans, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential()
        stages, reduction = [("conv1", channels, 2)], 2
        for i, (expansion, out, count, stride) in enumerate(_STAGES):
            out = int(out * _WIDTH)
            first = _InvertedResidual(channels, out, stride, expansion)
            self.blocks.append(nn.Sequential(first, *(_InvertedResidual(out, out, 1, expansion) for _ in range(count - 1))))
            channels, reduction = out, reduction * stride
            if i in (1, 2, 4):  # the last of each map size; the deepest size is described by the final 1x1 layer
                stages.append((f"blocks.{i}", channels, reduction))
        self.conv2 = nn.Sequential(nn.Conv2d(channels, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU(inplace=True))
        self.classifier = nn.Sequential(nn.Identity())
        init_convolutions(self)
        self._add_head(last, num_classes, global_pool, [*stages, ("conv2", last, reduction)])

    def _init_classifier(self) -> None:
        classifier = self.get_classifier()
        if isinstance(classifier, nn.Linear):
            nn.init.normal_(classifier.weight, std=0.01)
            nn.init.zeros_(classifier.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, after its ReLU: ``(N, 1280, H / 16, W / 16)``."""
        return self.conv2(self.blocks(self.conv1(x)))


default_cfgs = cifar_cfgs("mobilenetv2", classifier="classifier.0", first_conv="conv1.0")


@register_model
def cifar_mobilenetv2(pretrained: bool = False, **kwargs: Any) -> CifarMobileNetV2:
    """MobileNetV2 at half width, 0.81 million parameters at 100 classes."""
    return build_model_with_cfg(CifarMobileNetV2, "cifar_mobilenetv2", pretrained, **kwargs)
