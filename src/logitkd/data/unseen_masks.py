"""Images of a person's own to find classes of pixels in, shown as a run's evaluation shows its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from logitkd.data.mask_config import MaskConfig
from logitkd.data.mask_files import Pairs
from logitkd.data.mask_loader import mask_loader
from logitkd.data.masks import VOID, MaskData, MaskSplit
from logitkd.data.unseen import Unseen
from logitkd.data.unseen_images import FEW, readable

__all__ = ["unseen_scenes"]


def unseen_scenes(
    files: Sequence[str | Path],
    config: MaskConfig,
    shown: tuple[Sequence[float], Sequence[float]],
    batch_size: int,
    device: torch.device,
) -> Unseen:
    """Return images from files and, sorted, from folders of them.

    Labels are ``VOID`` at each image's own size, which says at what size to answer.

    Args:
        files: paths of images and folders.
        config: of the run's data.
        shown: mean and std that images are normalised by.
        batch_size: images a batch; 1 where their sizes differ.
        device: where batches are.

    Raises:
        ValueError: there is none, or some cannot be read; each is named.
    """
    paths = readable(files, None)
    pairs = Pairs("files", [{"path": path} for path in paths], None, paths.__getitem__, paths.__getitem__)
    rows = range(len(paths))
    split = MaskSplit(pairs, torch.tensor(rows), pairs.sizes(rows), None, absent=VOID)
    scenes = MaskData(split, split, (), (), tuple(shown[0]), tuple(shown[1]), torch.zeros(0, dtype=torch.int64))
    config = replace(config, workers=0 if len(paths) <= FEW else config.workers)
    loader = mask_loader(scenes, config, train=False, batch_size=batch_size, device=device)
    return Unseen([(path, None) for path in paths], loader)
