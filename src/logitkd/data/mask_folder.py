"""Folders of images and masks: which files belong together, by their names; no file is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from logitkd.checks import listed
from logitkd.data.splits import Kind, Labelled, check_splits, find_folder, split_folders, split_names, split_tables

__all__ = ["MASK", "MASKED", "UNTAUGHT", "PairFolders", "check_mask_source", "pair_folders", "paired"]

MASKED = Kind("image", (".parquet",))  # an image with a mask: no embedded source has some
MASK = Kind("mask", ())
IMAGES, MASKS = "images", "masks"
UNTAUGHT = " To train on the teacher alone, without labels, give `labels: none`."


class PairFolders(NamedTuple):
    """Where the images of a split are, and their masks."""

    images: Path
    masks: Path


def check_mask_source(config: Labelled, labelled: bool) -> None:
    """Check the source of a run as far as names go; what is on the hub is not asked for.

    Args:
        config: the run's data.
        labelled: whether the training split needs masks.

    Raises:
        OSError: no such source.
        ValueError: it lacks a split or the masks of one, or has the split that is to be made out of the other.
    """
    folder = find_folder(config.source, MASKED)
    if folder is None:
        return
    splits, absent = split_names(config)
    if split_tables(folder, splits, absent, MASKED) is None:
        pair_folders(folder, splits, absent, labelled)


def pair_folders(folder: Path, splits: Sequence[str], absent: str | None, labelled: bool) -> list[PairFolders]:
    """Return where the images and masks of the named splits are.

    Args:
        folder: the source.
        splits: their names.
        absent: a split that is to be made out of the first one, so must not be there. Images right in ``images`` then are one
            split, whatever its name.
        labelled: whether the first split needs masks.

    Raises:
        ValueError: no such split, ``absent`` is there, or a split has no folder of masks.
    """
    found = _arrange(folder, splits, absent)
    for split, pair in zip(splits, found, strict=True):
        trained_alone = split == splits[0] and absent is None  # no image of it is evaluated on
        if not pair.masks.is_dir() and (labelled or not trained_alone):
            raise ValueError(
                f"the masks of split `{split}` must be in {pair.masks}, got no such folder.{UNTAUGHT if trained_alone else ''}"
            )
    return found


def _arrange(folder: Path, splits: Sequence[str], absent: str | None) -> list[PairFolders]:
    by_kind = (folder / IMAGES).is_dir()
    if by_kind:
        known = split_folders(folder / IMAGES)
        if absent is not None and not {splits[0], absent} & set(known) and any(map(_is_there, (folder / IMAGES).iterdir())):
            return [PairFolders(folder / IMAGES, folder / MASKS)]
    else:
        known = [name for name in split_folders(folder) if (folder / name / IMAGES).is_dir()]
    if not known:
        raise ValueError(
            f"{folder} must hold parquet files, or folders {IMAGES}/SPLIT and {MASKS}/SPLIT, or SPLIT/{IMAGES} and"
            f" SPLIT/{MASKS}, got none of them. There: {listed(sorted(path.name for path in folder.iterdir()), 5)}."
        )
    check_splits(
        splits, absent, str(folder / IMAGES) if by_kind else f"{folder} (folders with `{IMAGES}` in them)", known, MASKED
    )
    if by_kind:
        return [PairFolders(folder / IMAGES / split, folder / MASKS / split) for split in splits]
    return [PairFolders(folder / split / IMAGES, folder / split / MASKS) for split in splits]


def _is_there(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def paired(
    folders: PairFolders, images: Sequence[str], masks: Sequence[str], *, labelled: bool, advice: str = ""
) -> list[str | None]:
    """Return the mask of each image: the one at the same place, whatever its suffix.

    Args:
        folders: where they are.
        images: the paths of the images.
        masks: those of the masks.
        labelled: whether each image must have one; else there is ``None`` for one without.
        advice: what to do about images without a mask, for the message.

    Raises:
        ValueError: two images or two masks of one name, an image without a mask, or a mask without an image.
    """
    of_image, of_mask = (_by_name(folder, paths) for folder, paths in zip(folders, (images, masks), strict=True))
    lacking = [path for name, path in of_image.items() if name not in of_mask]
    if lacking and labelled:
        raise ValueError(
            f"every image must have a mask of its name in {folders.masks}, got none for {len(lacking):,} of {len(images):,},"
            f" the first {listed(lacking, 3)}.{advice}"
        )
    spare = [path for name, path in of_mask.items() if name not in of_image]
    if spare:
        raise ValueError(
            f"every mask must have an image of its name in {folders.images}, got none for {len(spare):,} of {len(masks):,}, the"
            f" first {listed(spare, 3)}. Bring the images back, or remove the masks."
        )
    return [of_mask.get(name) for name in of_image]


def _by_name(folder: Path, paths: Sequence[str]) -> Mapping[str, str]:
    """Return the paths by where they are in the folder, without suffix."""
    names = [str(Path(path).relative_to(folder).with_suffix("")) for path in paths]
    found = dict(zip(names, paths, strict=True))
    if len(found) < len(paths):
        counts = Counter(names)
        twice = [path for name, path in zip(names, paths, strict=True) if counts[name] > 1]
        raise ValueError(
            f"names of files must differ by more than their suffix, got {len(twice):,} that do not: {listed(twice, 4)}. Which"
            " are the right ones? Move the others away."
        )
    return found
