"""Dense networks of a few thousand weights: one map of logits, in the ways in which libraries return it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def block(before: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


class Backbone(nn.Module):
    """Four layers as torchvision names them: the last two of one stride, as in dilated networks."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stem = block(3, width, 2)
        self.layer1, self.layer2 = block(width, width, 1), block(width, 2 * width, stride // 2)
        self.layer3, self.layer4 = block(2 * width, 2 * width, 1), block(2 * width, 2 * width, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        early = self.layer3(self.layer2(self.layer1(self.stem(images))))
        return {"out": self.layer4(early), "aux": early}


class Pooled(nn.Module):
    """A head that joins each cell with the mean of all, as DeepLab's does."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.cells, self.image = nn.Conv2d(width, width, 1), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1))
        self.project, self.classes = block(2 * width, width, 1), nn.Conv2d(width, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        cells = self.cells(features)
        image = F.interpolate(self.image(features), cells.shape[-2:], mode="bilinear", align_corners=False)
        return self.classes(self.project(torch.cat([cells, image], 1)))


class DeepLab(nn.Module):
    """Returns ``{"out": ..., "aux": ...}``, the auxiliary map first where ``aux_first``."""

    def __init__(
        self, num_classes: int = 5, width: int = 4, stride: int = 4, aux: bool = True, aux_first: bool = False
    ) -> None:
        super().__init__()
        self.backbone = Backbone(width, stride)
        self.classifier = Pooled(2 * width, num_classes)
        self.aux_classifier = nn.Conv2d(2 * width, num_classes, 1) if aux else None
        self.aux_first = aux_first

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.backbone(images)
        maps = {"out": self.classifier(features["out"])}
        if self.aux_classifier is not None:
            maps["aux"] = self.aux_classifier(features["aux"])
        return dict(reversed(maps.items())) if self.aux_first else maps


class LowAndHigh(nn.Module):
    """The last layer reads an early map too, as in LR-ASPP: returns a tensor."""

    def __init__(self, num_classes: int = 5, width: int = 4) -> None:
        super().__init__()
        self.backbone = Backbone(width, 4)
        self.low, self.high = nn.Conv2d(2 * width, num_classes, 1), nn.Conv2d(2 * width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        return self.low(features["aux"]) + self.high(features["out"])


class Fused(nn.Module):
    """A head that joins maps of several sizes in one layer."""

    def __init__(self, maps: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.fuse = nn.Sequential(nn.Conv2d(maps * width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.classes = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        size = maps[0].shape[-2:]
        return self.classes(self.fuse(torch.cat([F.interpolate(each, size, mode="bilinear") for each in maps], 1)))


class Pyramid(nn.Module):
    """Every stage goes into one layer behind them, as in SegFormer: returns a tensor."""

    def __init__(self, num_classes: int = 5, width: int = 4) -> None:
        super().__init__()
        self.stages = nn.ModuleList([block(3, width, 2), block(width, width, 2), block(width, width, 1)])
        self.head = Fused(3, width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return self.head(maps)


class Flat(nn.Module):
    """One convolution: a tensor, half the images' height and width, or what ``stride`` makes of them."""

    def __init__(self, num_classes: int = 5, stride: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, 3, stride, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


def trained(network: nn.Module) -> nn.Module:
    """Let its norms see data, so that they are no identities."""
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 16, 24, generator=torch.Generator().manual_seed(9)))
    return network.eval()
