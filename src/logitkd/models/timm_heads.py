"""torchvision's segmentation heads on a network of timm."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.segmentation import LRASPP, DeepLabV3
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from logitkd.models.names import Source
from logitkd.models.pretrained import loading
from logitkd.models.timm_maps import LOW, check_maps, create_maps

__all__ = ["Features", "build_on_timm"]


class Features(nn.Module):
    """A network of timm that returns its maps by name, as torchvision's segmentation networks want their backbone.

    Args:
        body: built with ``features_only``.
        names: of its maps, first to last.
    """

    def __init__(self, body: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.body = body
        self.names = names

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return its maps ``(N, D, h, w)`` of images ``(N, 3, H, W)``."""
        return dict(zip(self.names, self.body(images), strict=True))


def build_on_timm(source: Source, num_classes: int, weights: bool, aux: bool) -> nn.Module:
    """Return torchvision's ``DeepLabV3`` or ``LRASPP`` with random heads.

    Args:
        source: its name, taken apart.
        num_classes: C of its maps.
        weights: whether to load those that the name stands for; they are the backbone's.
        aux: whether DeepLabV3 has its auxiliary head, on the stage before the last one.

    Raises:
        ConnectionError: the weights are not here and cannot be fetched.
        ValueError: the network of timm yields no maps, or cannot be dilated.
    """
    with loading(source.backbone):
        strides = check_maps(source.inner, source.kind)
        last = len(strides) - 1
        if source.kind == "lraspp":
            maps = {"low": last - strides[::-1].index(LOW), "high": last}
        else:
            maps = {"aux": last - 1, "out": last} if aux else {"out": last}
        body = create_maps(source.inner, source.kind, pretrained=weights, maps=tuple(maps.values()))
    channels = dict(zip(maps, body.feature_info.channels(), strict=True))
    features = Features(body, tuple(maps))
    if source.kind == "lraspp":
        return LRASPP(features, channels["low"], channels["high"], num_classes)
    auxiliary = FCNHead(channels["aux"], num_classes) if aux else None
    return DeepLabV3(features, DeepLabHead(channels["out"], num_classes), auxiliary)
