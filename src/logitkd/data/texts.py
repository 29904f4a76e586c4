"""From a ``TextConfig`` to labelled texts: what every source becomes, and one function for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from logitkd.data.fingerprint import source_snapshot
from logitkd.data.kept import Kept
from logitkd.data.selection import check_selection, divide, keep
from logitkd.data.splits import TEXTS, find_folder, split_names
from logitkd.data.text_config import TextConfig
from logitkd.data.utf8 import is_unicode
from logitkd.hashes import Snapshot

if TYPE_CHECKING:
    from logitkd.data.frames import Frame

__all__ = ["TextData", "TextSplit", "load_texts", "text_fingerprint"]

LABEL_COLUMNS = ("label", "labels")
# To be raised when the same files come to other texts here: fingerprints that were kept are then not found.
READING = 1
# What of a TextConfig no fingerprint depends on: it is of the texts, whatever tokens are then made of them.
SHAPING = ("source", "subset", "max_length")


@dataclass(frozen=True)
class TextSplit:
    """One split.

    Args:
        texts: one column of N texts, or the two columns of N pairs; none is empty.
        labels: ``(N,)`` int64 class numbers; in a training split -1 where one is missing.
    """

    texts: tuple[Sequence[str], ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Tensor) -> TextSplit:
        """Return the split of the examples that ``chosen``, a ``(N,)`` bool mask, marks."""
        marks = chosen.tolist()
        return TextSplit(tuple(list(compress(column, marks)) for column in self.texts), self.labels[chosen])

    def update(self, digest: Any) -> None:
        """Feed texts, labels and their order to a hash."""
        for column in self.texts:
            contents = [text.encode() for text in column]
            digest.update(torch.tensor([len(contents), *map(len, contents)]).numpy().data)
            digest.update(b"".join(contents))
        digest.update(self.labels.numpy().data)


@dataclass(frozen=True)
class TextData(Kept):
    """A data set of texts.

    Args:
        train: the labelled training texts (after ``train_per_class``).
        eval: the texts every reported accuracy is measured on.
        classes: the name of each class, in label order.
        columns: the names of the columns of texts: one, or the two of pairs.

    Attributes:
        files: as of :class:`~logitkd.data.images.ImageData`.
    """

    train: TextSplit
    eval: TextSplit
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    files: Snapshot | None = field(default=None, init=False, repr=False, compare=False)

    def summary(self) -> str:
        """Say in a line how much there is and of what.

        >>> split = TextSplit((["a card", "a loan"],), torch.tensor([0, 1]))
        >>> TextData(split, split, ("card", "loan"), ("text",)).summary()
        '2 training and 2 evaluation texts (`text`) of 2 classes: card, loan'
        """
        shown = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        what = f"{'pairs of ' if len(self.columns) > 1 else ''}texts ({', '.join(f'`{name}`' for name in self.columns)})"
        return f"{len(self.train):,} training and {len(self.eval):,} evaluation {what} of {len(self.classes)} classes: {shown}"


def load_texts(config: TextConfig, seed: int = 0, *, labels: Literal["given", "none"] = "given") -> TextData:
    """Load both splits of a data set of texts.

    Args:
        config: where the texts are, and how many to keep.
        seed: decides which texts ``config.train_per_class`` keeps: a pure function of (seed, row). A run's ``data_seed``.
        labels: ``none`` hides the training split's labels, if it has any: each is -1. Classes are then those of both splits,
            and those of the evaluation split need no training texts.

    Warns:
        UserWarning: the evaluation split lacks a class that has training texts.

    Returns:
        The data; a missing training label is -1.

    Raises:
        FileNotFoundError: no such source.
        ConnectionError: a hub id that cannot be reached.
        ValueError: no source named, a missing split or column, one of numbers, an empty split, an empty text, a file that is
            damaged or not UTF-8, a label out of range, a missing evaluation label, no training label at all, too few texts of a
            class or none, a single class. The message names file and row.
    """
    if problems := config.problems():
        raise ValueError(" ".join(problems))
    check_selection(config, labels)
    files = _snapshot(config, seed, labels)  # before they are read: a change meanwhile must not go unseen
    splits, columns, classes = _read(config, labels == "given")
    train, evaluation = divide(splits, config, labels == "given", classes, TEXTS)
    if config.train_per_class is not None:
        train = keep(train, config.train_per_class, seed, classes, TEXTS)
    data = TextData(train, evaluation, classes, columns)
    object.__setattr__(data, "files", files)
    return data


def text_fingerprint(config: TextConfig, *, seed: int = 0, labels: Literal["given", "none"] = "given") -> str | None:
    """Return the fingerprint that ``load_texts`` of the same arguments would give its data, if that is known already.

    Only names, sizes and times of files are looked at; see :func:`~logitkd.data.fingerprint.data_fingerprint`.

    Raises:
        FileNotFoundError: no such source.
        ValueError: the source is a file.
    """
    files = _snapshot(config, seed, labels)
    return None if files is None else files.known()


def _snapshot(config: TextConfig, seed: int, labels: str) -> Snapshot | None:
    folder = find_folder(config.source, TEXTS)
    return source_snapshot(config, folder, f"texts, reading {READING}", SHAPING, seed, labels=labels)


def _read(config: TextConfig, labelled: bool) -> tuple[list[TextSplit], tuple[str, ...], tuple[str, ...]]:
    from logitkd.data.columns import label_column, text_columns  # `datasets` comes with it: a second of start-up
    from logitkd.data.labels import label_name, read_labels, values_of
    from logitkd.data.readers import read_frames

    frames = read_frames(config.source, *split_names(config), unlabelled=not labelled, kind=TEXTS, subset=config.subset)
    find = partial(label_column, usual=LABEL_COLUMNS)
    label = label_name(frames, find, config.label_column, labelled)
    columns = text_columns(frames[0], config.text_columns, label)
    for frame in frames[1:]:
        text_columns(frame, columns, label)
    numbers, classes = read_labels(frames, label, columns[0], TEXTS, labelled=labelled)
    texts = [tuple(_checked(values_of(frame, name), frame, name) for name in columns) for frame in frames]
    return [TextSplit(*split) for split in zip(texts, numbers, strict=True)], columns, classes


def _checked(texts: Sequence[Any], frame: Frame, column: str) -> Sequence[str]:
    """Return a column of texts, all of them there: of an empty one a network would see the special tokens alone."""
    empty = [row for row, text in enumerate(texts) if text is None or not text or text.isspace()]
    if empty:
        what = "null" if texts[empty[0]] is None else "empty"
        raise ValueError(
            f"texts must not be empty, got {len(empty):,} of {len(texts):,} in column `{column}` of {frame.where}, the first "
            f"({what}) in {frame.place(empty[0])}. Fill or remove them."
        )
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        row = next(row for row, text in enumerate(texts) if not is_unicode(text))
        raise ValueError(f"texts must be Unicode, got half of a character (a lone surrogate) in {frame.place(row)}.") from None
    return texts
