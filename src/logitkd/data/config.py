"""What data a run uses: one typed record, read by the recipes and the command line."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DataConfig"]


@dataclass(frozen=True)
class DataConfig:
    """Where labelled images come from and how the training view is augmented.

    Args:
        source: ``digits`` (embedded, no download), a local folder of parquet files, a local image folder
            (``train/CLASS/*.png``, ``test/CLASS/*.png``), or a hub id such as ``uoft-cs/cifar100``.
        train_split: name of the split to train on.
        eval_split: name of the split every reported accuracy is measured on.
        image_column: column that holds the images; by default the only image column.
        label_column: column that holds the class; by default the only class column. A column of plain integers
            (0, 1, ...) or of names has to be named here.
        train_per_class: keep only this many training images of each class, chosen by the run's ``seed``; a larger number
            keeps those that a smaller one keeps.
        crop_padding: pixels of zero padding on each side before a random crop of the original size; 0 turns it off.
        flip: mirror half of the training images left to right.
    """

    source: str = "digits"
    train_split: str = "train"
    eval_split: str = "test"
    image_column: str | None = None
    label_column: str | None = None
    train_per_class: int | None = None
    crop_padding: int = 4
    flip: bool = True
