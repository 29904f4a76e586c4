"""Batches of images with masks: random parts of both to train on, whole images to evaluate on."""

from __future__ import annotations

import torch

from logitkd.data.batch import Normalize, Shown
from logitkd.data.loader import Loader
from logitkd.data.mask_config import MaskConfig
from logitkd.data.mask_views import EvaluationView, MaskViews, TrainingView
from logitkd.data.masks import VOID, MaskData, MaskSplit
from logitkd.data.workers import WorkerFetcher

__all__ = ["mask_loader"]


def mask_loader(
    data: MaskData,
    config: MaskConfig,
    *,
    train: bool,
    batch_size: int,
    device: torch.device | str,
    seed: int = 0,
    channels_last: bool = False,
    part: tuple[int, int] = (0, 1),
) -> Loader:
    """Return the loader of a split: random parts in a new order each epoch to train on, else whole images in their order.

    A batch's ``labels`` are ``(B, H, W)`` int64, the class of each pixel, ``VOID`` or ``UNLABELLED``. To train on they have the
    size of the images; to evaluate on they have their own, whatever size images are brought to.

    Args:
        data: what ``load_masks(config)`` returned.
        config: says how training images are augmented.
        train: the training split, not the evaluation's.
        batch_size: images a batch, over all processes; 1 to evaluate on images of several sizes.
        device: where batches are.
        seed: decides order and views; a run's ``data_seed``.
        channels_last: give images in the channels_last memory format.
        part: ``(rank, count)``: which of ``count`` slices of each batch to give.

    Raises:
        ValueError: an argument out of range, or no size for the training view.
    """
    split, device = data.train if train else data.eval, torch.device(device)
    normalize = Normalize(data.mean, data.std, channels=3, device=device, channels_last=channels_last)
    if train:
        crop = training_crop(config, split)
        views = MaskViews(split, TrainingView(config, crop, data.mean), crop, crop)
    else:
        own = split.size or (int(split.sizes[0, 0]), int(split.sizes[0, 1]))
        views = MaskViews(split, EvaluationView(config), config.image_size or own, own)
        batch_size = batch_size if split.size else 1
    return Loader(
        WorkerFetcher(
            views,
            lambda pixels, classes: Shown(normalize(pixels.permute(0, 3, 1, 2)), classes.long()),
            device=device,
            workers=config.workers,
        ),
        torch.full((len(split),), VOID),
        batch_size=batch_size,
        device=device,
        seed=seed,
        shuffle=train,
        part=part,
    )


def training_crop(config: MaskConfig, split: MaskSplit) -> tuple[int, ...]:
    """Return height and width of the training view.

    Raises:
        ValueError: neither is it given, nor do images have one size.
    """
    size = config.crop_size or config.image_size or split.size
    if size is None:
        low, high = (split.sizes.amin(0).tolist(), split.sizes.amax(0).tolist())
        raise ValueError(
            "`data.crop_size` must be given where training images differ in size (height x width), these have"
            f" {low[0]} to {high[0]} x {low[1]} to {high[1]} pixels. Give what fits your networks and memory, such as"
            f" [{min(512, high[0])}, {min(512, high[1])}], or `data.image_size` to bring all to one."
        )
    return size
