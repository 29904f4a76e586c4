"""Mixup and CutMix on a batch, on its device: two images become one, and their labels shares of two classes.

mixup: Zhang et al. ICLR 2018, arXiv 1710.09412. CutMix: Yun et al. ICCV 2019, arXiv 1905.04899.
"""

from __future__ import annotations

import torch
from torch import Tensor

from logitkd.checks import check_int, check_range
from logitkd.data.memory import Batch
from logitkd.data.rng import Stream, random_below, random_bits

__all__ = ["Mixer"]

QUANTILES = 2**16  # a share is one of so many, equally likely


class Mixer:
    """Mixes each example of a batch with the one before it in the batch (the first with the last).

    ::

        share = quantile of Beta(alpha, alpha)                      # an own one for each example, by its random bits
        mixup:  image = share * own + (1 - share) * partner
        CutMix: image = own, but partner inside a box of (1 - share) of the area, centred anywhere, cut at the borders
                share = what is left of own                         # exactly, in pixels
        label  = share * onehot(own) + (1 - share) * onehot(partner)

    Where both are on, each example gets one of them, by a coin. Shares, boxes and coins are pure functions of
    ``(seed, epoch, index)``; the partner follows from the order of the epoch, so from the batch size, too. Nothing waits for
    the device.

    Args:
        mixup: the alpha of mixup's Beta distribution, 0 for no mixup: 1 mixes evenly, 0.2 hardly ever half and half.
        cutmix: the same of CutMix, 0 for none.
        num_classes: C; None mixes the images alone and leaves the labels as they are.
        seed: the run's.
        device: of the batches.

    Differs: the authors draw one share a batch and a random partner; here every example has its own share, and as the order of
    an epoch is random already, its neighbour for a partner.
    """

    def __init__(
        self, *, mixup: float, cutmix: float, num_classes: int | None, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        check_range("mixup", mixup, 0, None)
        check_range("cutmix", cutmix, 0, None)
        check_int("seed", seed, 0, 2**63 - 1)
        if not mixup and not cutmix:
            raise ValueError("`mixup` or `cutmix` must be above 0, got 0 for both: nothing would be mixed.")
        self.num_classes, self.seed = num_classes, seed
        # Row 0 is mixup's, row 1 CutMix's; with only one of them on, both rows are that one's.
        self._shares = torch.stack([_beta_quantiles(mixup or cutmix), _beta_quantiles(cutmix or mixup)]).to(device)
        self._sides = (1 - _beta_quantiles(cutmix or mixup)).sqrt().to(device)
        self._kinds = [name for name, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha]

    def __call__(self, batch: Batch, epoch: int) -> Batch:
        """Return ``batch`` mixed, its labels as class probabilities ``(B, C)`` where there is a ``num_classes``."""
        bits = random_bits(self.seed, epoch, batch.index, Stream.MIXING)
        draw = random_below(bits, QUANTILES, word=0)
        images, share = self._mix(batch.inputs, bits, draw)
        if self.num_classes is None:
            return Batch(images, batch.labels, batch.index)
        labels = torch.zeros(len(share), self.num_classes, device=share.device)
        labels.scatter_(1, batch.labels.unsqueeze(1), share.unsqueeze(1))
        labels.scatter_add_(1, batch.labels.roll(1).unsqueeze(1), (1 - share).unsqueeze(1))
        return Batch(images, labels, batch.index)

    def _mix(self, images: Tensor, bits: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixed images and the share ``(B,)`` of its own that each keeps."""
        partners = images.roll(1, 0)
        if self._kinds == ["mixup"]:
            share = self._shares[0][draw]
            return _blend(images, partners, share), share
        inside = self._boxes(images, bits, draw)
        kept = 1 - inside.sum((1, 2, 3)) / inside[0].numel()
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
