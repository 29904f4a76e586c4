"""What is in the masks of a split, and whether it fits: their sizes, the numbers in them, the classes that these are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from logitkd.checks import listed
from logitkd.data.decode import is_turned
from logitkd.data.mask_files import LARGEST_CLASS, Pairs, find_numbers, mask_palette
from logitkd.data.mask_folder import UNTAUGHT

__all__ = ["Seen", "check_labelled", "check_learnable", "class_names", "first_palette", "look", "pixels_of_classes"]

PLACE, HEIGHT, WIDTH, NUMBER, COUNT = range(5)  # columns of what find_numbers returns


@dataclass(frozen=True)
class Seen:
    """What was found in a split.

    Args:
        pairs: its images and masks.
        rows: which of them.
        sizes: ``(N, 2)`` int64, height and width of each image.
        numbers: as :func:`~logitkd.data.mask_files.find_numbers` returns them.
    """

    pairs: Pairs
    rows: Sequence[int]
    sizes: Tensor
    numbers: Tensor

    @property
    def unlabelled(self) -> list[int]:
        """Rows of the images that have no mask."""
        there = set(self.numbers[:, PLACE].tolist())
        return [row for place, row in enumerate(self.rows) if place not in there]


def look(pairs: Pairs, rows: Sequence[int]) -> Seen:
    """Look at the headers of a split's images and into its masks.

    Raises:
        ValueError: an image or a mask that cannot be read, or a mask of another size than its image.
    """
    sizes = pairs.sizes(rows)
    numbers = torch.empty((0, 5), dtype=torch.int64)
    if pairs.masks is not None:
        numbers = find_numbers(pairs.masks, rows, pairs.mask_place)
    places = numbers[:, PLACE]
    unlike = (numbers[:, [HEIGHT, WIDTH]] != sizes[places]).any(1).nonzero().flatten().tolist()
    if unlike:
        place, height, width = numbers[unlike[0], :NUMBER].tolist()
        count = len(set(places[unlike].tolist()))
        (high, wide), row = sizes[place].tolist(), rows[place]
        fix = (
            "The image is to be turned when it is shown (EXIF), which is not done here: save it upright."
            if is_turned(pairs.images[row], row, pairs.place)
            else "Resize the masks by nearest neighbour."
        )
        raise ValueError(
            f"masks must have the size of their images (height x width), {high}x{wide}, got {height}x{width} in"
            f" {pairs.mask_place(row)} and {count - 1:,} more of {len(rows):,} unlike theirs. {fix}"
        )
    return Seen(pairs, rows, sizes, numbers)


def check_labelled(train: Seen, evaluation: Seen, labelled: bool) -> None:
    """Raise ``ValueError`` where an evaluation image has no mask, or no training image has one and they matter."""
    lacking = evaluation.unlabelled
    if lacking:
        places = listed(map(evaluation.pairs.mask_place, lacking), 3)
        raise ValueError(
            f"every image to evaluate on must have a mask, got none for {len(lacking):,} of {len(evaluation.rows):,}, the first"
            f" in {places}."
        )
    if labelled and not len(train.numbers):
        raise ValueError(f"every mask of {train.pairs.where} is missing.{UNTAUGHT}")


def class_names(splits: Sequence[Seen], given: Sequence[str] | None, ignore_index: int | None) -> tuple[str, ...]:
    """Return the name of each class, and check that every number in masks is one.

    Args:
        splits: those whose masks matter, the evaluation's last.
        given: the names, if there are some; else numbers are their own names.
        ignore_index: the number of pixels without a class.

    Raises:
        ValueError: a number that is no class, or no class at all in what is evaluated on.
    """
    numbers = torch.cat([seen.numbers[:, NUMBER] for seen in splits])
    meant = numbers if ignore_index is None else numbers[numbers != ignore_index]
    if ignore_index is not None and (splits[-1].numbers[:, NUMBER] == ignore_index).all():
        raise ValueError(
            f"masks to evaluate on must have pixels of a class, but all of {splits[-1].pairs.where} are {ignore_index}, which"
            " `data.ignore_index` says are of none. If it is a class, give another, or null."
        )
    last = LARGEST_CLASS if given is None else len(given) - 1
    for seen in splits:
        _check_numbers(seen, last, given, ignore_index)
    return tuple(map(str, range(int(meant.max()) + 1))) if given is None else tuple(given)


def _check_numbers(seen: Seen, last: int, given: Sequence[str] | None, ignore_index: int | None) -> None:
    numbers = seen.numbers[:, NUMBER]
    wrong = (numbers < 0) | (numbers > last)
    if ignore_index is not None:
        wrong &= numbers != ignore_index
    if not wrong.any():
        return
    found = numbers[wrong].unique().tolist()
    masks = seen.numbers[wrong, PLACE].unique()
    row = seen.rows[int(masks[0])]
    first = int(numbers[wrong][0])
    void = "" if ignore_index is None else f", or `data.ignore_index` ({ignore_index})"
    names = "" if given is None else f" ({last + 1} names in `data.classes`)"
    fix = f"If {first} marks pixels without a class, give `data.ignore_index: {first}`"
    fix += "." if given is None else "; if it is a class, name it in `data.classes`: there must be a name for every number."
    raise ValueError(
        f"class numbers in masks must be in [0, {last}]{names}{void}, got {listed(found, 5)} in {len(masks):,} of"
        f" {len(seen.rows):,} masks, the first in {seen.pairs.mask_place(row)}. {fix}"
    )


def pixels_of_classes(seen: Seen, classes: int, ignore_index: int | None) -> Tensor:
    """Return how many pixels of a split each class has, ``(classes,)`` int64; ignored ones count nowhere."""
    numbers, counts = seen.numbers[:, NUMBER], seen.numbers[:, COUNT]
    if ignore_index is not None:
        counts = torch.where(numbers == ignore_index, 0, counts)
        numbers = torch.where(numbers == ignore_index, 0, numbers)
    return torch.zeros(classes, dtype=torch.int64).index_add_(0, numbers, counts)


def check_learnable(train: Tensor, evaluation: Tensor, classes: Sequence[str], where: str, ignore_index: int | None) -> None:
    """Compare the classes that there are in both splits.

    Args:
        train: ``(C,)`` pixels of each class.
        evaluation: likewise.
        classes: their names.
        where: the training split, in words.
        ignore_index: where it is below C, no class.

    Warns:
        UserWarning: a class that no mask of either split has, or that training alone has.

    Raises:
        ValueError: a single class in training, or one to evaluate that has no training pixels.
    """

    def names(chosen: Tensor) -> list[str]:
        return [classes[number] for number in chosen.nonzero().flatten().tolist() if number != ignore_index]

    taught = names(train > 0)
    if len(taught) < 2:
        fix = "" if ignore_index is None else f" Is `data.ignore_index` ({ignore_index}) a class?"
        raise ValueError(
            f"masks must have pixels of at least 2 classes, got {f'`{taught[0]}` alone' if taught else 'none'} in {where}:"
            f" there is nothing to tell apart.{fix}"
        )
    untaught = names((train == 0) & (evaluation > 0))
    if untaught:
        raise ValueError(
            f"every class of the evaluation split must have training pixels, got none of {listed(untaught, 5)}. Are classes"
            " numbered alike in the two splits? If so, divide the images anew, or give these pixels the number of"
            " `data.ignore_index`."
        )
    if absent := names((train == 0) & (evaluation == 0)):
        warnings.warn(
            f"no mask has a pixel of {len(absent)} of the {len(classes)} classes ({listed(absent, 5)}): nothing teaches them,"
            " and no score is of them. Are `data.classes` and `data.ignore_index` those of the masks?",
            stacklevel=3,
        )
    if untested := names((train > 0) & (evaluation == 0)):
        warnings.warn(
            f"the evaluation split has no pixel of {len(untested)} of the {len(classes)} classes in training"
            f" ({listed(untested, 5)}): its scores say nothing of them. Is something missing there?",
            stacklevel=3,
        )


def first_palette(seen: Seen) -> list[tuple[int, int, int]] | None:
    """Return the colors of a split's first mask by their numbers; ``None`` if it has no palette."""
    if not len(seen.numbers):
        return None
    row = seen.rows[int(seen.numbers[0, PLACE])]
    assert seen.pairs.masks is not None
    return mask_palette(seen.pairs.masks[row], row, seen.pairs.mask_place)
