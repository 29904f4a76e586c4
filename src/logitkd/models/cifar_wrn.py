"""Wide residual networks. Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, 1605.07146."""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from logitkd.models.cifar_net import CifarNet, cifar_cfgs, init_convolutions

__all__ = ["CifarWideResNet"]


class _Block(nn.Module):
    """Pre-activation block: normalisation and ReLU before each convolution, nothing after the sum."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.convShortcut: nn.Module | None = None
        if in_channels != channels:
            self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu1(self.bn1(x))
        # A block that widens shortens the *activated* input, the others add the input as it came.
        skip = x if self.convShortcut is None else self.convShortcut(active)
        return skip + self.conv2(self.relu2(self.bn2(self.conv1(active))))


class _Stage(nn.Module):
    """Blocks under the name ``layer``, a level that only exists to keep the public state-dict keys."""

    def __init__(self, in_channels: int, channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = _Block(in_channels, channels, stride)
        self.layer = nn.Sequential(first, *(_Block(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class CifarWideResNet(CifarNet):
    """Stem and three stages of (depth - 4) / 6 pre-activation blocks; the last map has a quarter of the input's size.

    Args:
        depth: 6n + 4.
        widen: Factor on the channels 16, 32, 64 of the stages.
        num_classes: Classes C.
        in_chans: Channels of the images.
        global_pool: Pooling before the classifier.

    Raises:
        ValueError: ``depth`` is not 6n + 4.
    """

    classifier_path = "fc"

    def __init__(self, depth: int, widen: int, num_classes: int = 100, in_chans: int = 3, global_pool: str = "avg") -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"`depth` must be 6n + 4 (10, 16, 22, ...), got {depth}.")
        one, two, three = 16 * widen, 32 * widen, 64 * widen
        self.conv1 = nn.Conv2d(in_chans, 16, 3, 1, 1, bias=False)
        self.block1 = _Stage(16, one, blocks, 1)
        self.block2 = _Stage(one, two, blocks, 2)
        self.block3 = _Stage(two, three, blocks, 2)
        self.bn1 = nn.BatchNorm2d(three)
        self.relu = nn.ReLU(inplace=True)
        init_convolutions(self)
        self._add_head(
            three,
            num_classes,
            global_pool,
            [("conv1", 16, 1), ("block1", one, 1), ("block2", two, 2), ("relu", three, 4)],
        )

    def _init_classifier(self) -> None:
        classifier = self.get_classifier()
        if isinstance(classifier, nn.Linear):
            nn.init.zeros_(classifier.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, after the final normalisation and ReLU: ``(N, D, H / 4, W / 4)``."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.relu(self.bn1(x))


default_cfgs = cifar_cfgs("wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2", classifier="fc")


def _build(variant: str, pretrained: bool, **kwargs: Any) -> CifarWideResNet:
    return build_model_with_cfg(CifarWideResNet, variant, pretrained, **kwargs)


@register_model
def cifar_wrn_16_1(pretrained: bool = False, **kwargs: Any) -> CifarWideResNet:
    """WRN-16-1, 0.18 million parameters at 100 classes."""
    return _build("cifar_wrn_16_1", pretrained, depth=16, widen=1, **kwargs)


@register_model
def cifar_wrn_16_2(pretrained: bool = False, **kwargs: Any) -> CifarWideResNet:
    """WRN-16-2, 0.70 million parameters at 100 classes."""
    return _build("cifar_wrn_16_2", pretrained, depth=16, widen=2, **kwargs)


@register_model
def cifar_wrn_40_1(pretrained: bool = False, **kwargs: Any) -> CifarWideResNet:
    """WRN-40-1, 0.57 million parameters at 100 classes."""
    return _build("cifar_wrn_40_1", pretrained, depth=40, widen=1, **kwargs)


@register_model
def cifar_wrn_40_2(pretrained: bool = False, **kwargs: Any) -> CifarWideResNet:
    """WRN-40-2, 2.3 million parameters at 100 classes."""
    return _build("cifar_wrn_40_2", pretrained, depth=40, widen=2, **kwargs)
