"""From data and their configuration to the loader that fits them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

import torch

from logitkd.data.config import DataConfig
from logitkd.data.images import ImageData, ImageSplit
from logitkd.data.memory import Batch, DeviceLoader

__all__ = ["Loader", "make_loader"]


class Loader(Protocol):
    """Iterates over a split: batches on the device, their order and views pure functions of (seed, epoch, index)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image in a batch."""

    def __len__(self) -> int:
        """Steps in an epoch."""

    def epoch(self, epoch: int, start_step: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch (from 1), from ``start_step`` on."""


def make_loader(
    data: ImageData,
    config: DataConfig,
    *,
    train: bool,
    batch_size: int,
    device: torch.device | str,
    seed: int = 0,
    channels_last: bool = False,
) -> Loader:
    """Return the loader of a split: augmented and in a new order each epoch to train on, else as it is.

    Args:
        data: what ``load_images(config)`` returned.
        config: says how training images are augmented.
        train: the training split, not the evaluation's.
        batch_size: examples a batch.
        device: where batches are made.
        seed: decides order and augmentation.
        channels_last: give images in the channels_last memory format.

    Raises:
        ValueError: an argument out of range.
    """
    split = data.train if train else data.eval
    if isinstance(split, ImageSplit):
        return DeviceLoader(
            split,
            batch_size=batch_size,
            device=device,
            mean=data.mean,
            std=data.std,
            seed=seed,
            shuffle=train,
            crop_padding=config.crop_padding if train else 0,
            flip=train and config.flip,
            channels_last=channels_last,
        )
    from logitkd.data.views import evaluation_view, training_view  # torchvision: not for small images
    from logitkd.data.workers import WorkerLoader, default_workers

    return WorkerLoader(
        split,
        training_view(config) if train else evaluation_view(config),
        batch_size=batch_size,
        device=device,
        mean=data.mean,
        std=data.std,
        seed=seed,
        shuffle=train,
        workers=default_workers() if config.workers is None else config.workers,
        channels_last=channels_last,
    )
