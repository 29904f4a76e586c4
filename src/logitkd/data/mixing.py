"""Mixup and CutMix on a batch, on its device: two images become one, and their labels shares of two classes.

mixup: Zhang et al. ICLR 2018, arXiv 1710.09412. CutMix: Yun et al. ICCV 2019, arXiv 1905.04899.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from logitkd.checks import check_range
from logitkd.data.rng import random_below

__all__ = ["Mixer", "Mixing"]

QUANTILES = 2**16  # a share is one of so many, equally likely


@dataclass(frozen=True)
class Mixing:
    """How training images are mixed.

    Args:
        mixup: the alpha of mixup's Beta distribution, 0 for no mixup: 1 mixes evenly, 0.2 hardly ever half and half.
        cutmix: the same of CutMix, 0 for none.
        labels: mix the labels too, into class probabilities; otherwise the images alone.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    labels: bool = True

    def mixer(self, num_classes: int, device: torch.device | str) -> Mixer | None:
        """Return what mixes so, or none where nothing is mixed."""
        if not self.mixup and not self.cutmix:
            return None
        classes = num_classes if self.labels else None
        return Mixer(mixup=self.mixup, cutmix=self.cutmix, num_classes=classes, device=device)


class Mixer:
    """Mixes each example of a batch with its partner.

    ::

        share = quantile of Beta(alpha, alpha)                      # an own one for each example, by its random bits
        mixup:  image = share * own + (1 - share) * partner
        CutMix: image = own, but partner inside a box of (1 - share) of the area, centred anywhere, cut at the borders
                share = what is left of own                         # exactly, in pixels
        label  = share * onehot(own) + (1 - share) * onehot(partner)

    Where both are on, each example gets one of them, by a coin. Shares, boxes and coins are pure functions of the bits. Nothing
    waits for the device.

    Args:
        mixup: the alpha of mixup's Beta distribution, 0 for no mixup.
        cutmix: the same of CutMix, 0 for none.
        num_classes: C; None mixes the images alone and leaves the labels as they are.
        device: of the batches.

    Raises:
        ValueError: an alpha below 0, or 0 for both.

    Differs: the authors draw one share a batch and a random partner in the batch; here every example has its own share and a
        partner out of the whole split.
    """

    def __init__(self, *, mixup: float, cutmix: float, num_classes: int | None, device: torch.device | str = "cpu") -> None:
        check_range("mixup", mixup, 0, None)
        check_range("cutmix", cutmix, 0, None)
        if not mixup and not cutmix:
            raise ValueError("`mixup` or `cutmix` must be above 0, got 0 for both: nothing would be mixed.")
        self.num_classes = num_classes
        # Row 0 is mixup's, row 1 CutMix's; with only one of them on, both rows are that one's.
        self._shares = torch.stack([_beta_quantiles(mixup or cutmix), _beta_quantiles(cutmix or mixup)]).to(device)
        self._sides = (1 - _beta_quantiles(cutmix or mixup)).sqrt().to(device)
        self._kinds = [name for name, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha]

    def __call__(
        self, own: Tensor, partner: Tensor, labels: Tensor, partner_labels: Tensor, bits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the mixed images and their labels.

        Args:
            own: ``(B, 3, H, W)`` float32.
            partner: likewise, of each example's partner.
            labels: ``(B,)`` int64, each example's own class.
            partner_labels: likewise, its partner's.
            bits: ``(B,)`` int64 random bits of each example.

        Returns:
            ``(B, 3, H, W)`` images; class probabilities ``(B, C)`` float32 where there is a ``num_classes``, else ``labels``.
        """
        images, share = self._mix(own, partner, bits)
        if self.num_classes is None:
            return images, labels
        mixed = torch.zeros(len(share), self.num_classes, device=share.device)
        mixed.scatter_(1, labels.unsqueeze(1), share.unsqueeze(1))
        mixed.scatter_add_(1, partner_labels.unsqueeze(1), (1 - share).unsqueeze(1))
        return images, mixed

    def _mix(self, images: Tensor, partners: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixed images and the share ``(B,)`` of its own that each keeps."""
        draw = random_below(bits, QUANTILES, word=0)
        if self._kinds == ["mixup"]:
            share = self._shares[0][draw]
            return _blend(images, partners, share), share
        inside = self._boxes(images, bits, draw)
        kept = 1 - inside.sum((1, 2, 3)) / (images.shape[2] * images.shape[3])
        cut = torch.where(inside, partners, images)
        if self._kinds == ["cutmix"]:
            return cut, kept
        heads = bits < 0  # the one bit that no word of `random_below` reads
        share = self._shares[0][draw]
        mixed = torch.where(heads.view(-1, 1, 1, 1), cut, _blend(images, partners, share))
        return mixed, torch.where(heads, kept, share)

    def _boxes(self, images: Tensor, bits: Tensor, draw: Tensor) -> Tensor:
        """Return each image's box as a ``(B, 1, H, W)`` mask."""
        height, width = images.shape[2:]
        side = self._sides[draw]
        rows = _inside(height, random_below(bits, height, word=1), side)
        columns = _inside(width, random_below(bits, width, word=2), side)
        return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)


def _blend(images: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    share = share.view(-1, 1, 1, 1)
    return share * images + (1 - share) * partners


def _inside(length: int, centre: Tensor, side: Tensor) -> Tensor:
    """Return which of ``length`` pixels lie in a stretch of ``side * length`` around ``centre``, ``(B, length)``."""
    half = (side * length).long() // 2
    pixels = torch.arange(length, device=centre.device)
    return (pixels >= (centre - half).unsqueeze(1)) & (pixels < (centre + half).unsqueeze(1))


def _beta_quantiles(alpha: float) -> Tensor:
    """Return ``QUANTILES`` equally likely values of Beta(alpha, alpha): the middle of each part, ascending, float32."""
    import numpy as np
    from scipy.special import betaincinv  # half a second: only for those who mix

    middles = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return torch.from_numpy(betaincinv(alpha, alpha, middles)).float()
