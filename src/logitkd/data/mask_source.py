"""Where images and their masks are kept: tables of two columns of images, or two folders."""

from __future__ import annotations

from datasets import Image

from logitkd.data.class_folders import FileKind, files_frame, files_under, path_column
from logitkd.data.columns import mask_column, masked_column
from logitkd.data.frames import Frame
from logitkd.data.image_folder import IMAGE_FILES
from logitkd.data.mask_config import MaskConfig
from logitkd.data.mask_files import Pairs
from logitkd.data.mask_folder import MASK, MASKED, UNTAUGHT, PairFolders, pair_folders, paired
from logitkd.data.readers import read_frames
from logitkd.data.splits import find_folder, split_names, split_tables

__all__ = ["read_pairs"]

MASK_FILES = FileKind(MASK, IMAGE_FILES.suffixes, Image(), lambda paths: paths)


def read_pairs(config: MaskConfig, labelled: bool) -> list[Pairs]:
    """Return the splits that the settings name: the training split, and the evaluation's where it is another.

    Args:
        config: where they are.
        labelled: whether the training split's masks matter; if not, they are not looked at unless some are evaluated on.

    Raises:
        OSError: no such source.
        ValueError: a missing split or column, an empty split, a file that cannot be read, or files that are no pairs.
    """
    splits, absent = split_names(config)
    matter = [labelled or absent is not None, *[True] * (len(splits) - 1)]
    folder = find_folder(config.source, MASKED)
    if folder is not None and split_tables(folder, splits, absent, MASKED) is None:
        folders = pair_folders(folder.absolute(), splits, absent, labelled)
        # An image to evaluate on must have a mask; which these are where they are a share of the training split, others say.
        must = [labelled, *[True] * (len(splits) - 1)]
        advice = [UNTAUGHT, *[""] * (len(splits) - 1)]
        return [_from_folders(*each) for each in zip(splits, folders, matter, must, advice, strict=True)]
    frames = read_frames(config.source, splits, absent, kind=MASKED)
    mask = _mask_name(frames, config, labelled)
    image = masked_column(frames[-1], config.image_column, mask)
    return [
        _from_frame(frame, masked_column(frame, image, mask), mask, looked)
        for frame, looked in zip(frames, matter, strict=True)
    ]


def _mask_name(frames: list[Frame], config: MaskConfig, labelled: bool) -> str:
    mask = mask_column(frames[-1], config.mask_column, config.image_column)
    if labelled and len(frames) > 1:
        try:
            mask_column(frames[0], mask, config.image_column)
        except ValueError as error:
            raise ValueError(f"{error}{UNTAUGHT}") from error
    return mask


def _from_frame(frame: Frame, image: str, mask: str, looked: bool) -> Pairs:
    images = frame.column(image)
    if not len(images):
        raise ValueError(f"{frame.where} is empty: it has no rows.")
    return Pairs(frame.where, images, frame.column(mask) if looked else None, frame.place, frame.place)


def _from_folders(split: str, folders: PairFolders, looked: bool, labelled: bool, advice: str) -> Pairs:
    paths = files_under(folders.images, IMAGE_FILES)
    images = files_frame(folders.images, split, paths, None, IMAGE_FILES)
    if not looked:
        return Pairs(images.where, images.column("image"), None, images.place, images.place)
    found = paired(folders, paths, files_under(folders.masks, MASK_FILES), labelled=labelled, advice=advice)
    masks = path_column(found, MASK.noun)
    return Pairs(images.where, images.column("image"), masks, images.place, lambda row: found[row] or images.place(row))
