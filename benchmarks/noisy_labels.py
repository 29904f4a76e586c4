r"""What wrong labels cost with and without a teacher: copies a data set with a share of its training labels made wrong.

    python benchmarks/noisy_labels.py SOURCE TARGET [--share 0.4] [--seed 0] [--label-column NAME]

SOURCE is a folder of labelled parquet files, TARGET a folder that is not there yet. ``round(share * N)`` training rows get
one of the other classes, each equally likely (symmetric noise, no label stays right by chance). Which rows and which class
is a pure function of (seed, row); a larger share keeps the changes that a smaller one makes. The evaluation split, the
images and all other columns are copied as they are.

The experiment on CIFAR-100: a teacher that saw right labels, students that see 40 % wrong ones. The accuracy is measured on
the right labels of the evaluation split::

    python benchmarks/noisy_labels.py DATA/cifar100 DATA/cifar100-noisy40 --label-column fine_label
    logitkd train --student cifar_resnet20 --method ce --data.source DATA/cifar100 --data.label_column fine_label \
        --output runs/teacher
    logitkd train --student cifar_resnet8 --teacher cifar_resnet20 --teacher.checkpoint runs/teacher --method METHOD \
        --data.source DATA/cifar100-noisy40 --data.label_column fine_label --output runs/noisy40/METHOD-seed0

with ``ce`` (the student alone; leave the teacher out), ``kd``, ``gdkd`` and ``ldrld`` for METHOD. For a teacher that saw the
wrong labels too, train it on DATA/cifar100-noisy40. ``--labels none`` shows what a method makes of the images without any of
the labels.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from logitkd.checks import check_int, check_range
from logitkd.data.columns import class_names, label_column
from logitkd.data.labels import decode_labels
from logitkd.data.readers import read_frames
from logitkd.data.rng import Stream, random_below, random_bits
from logitkd.data.splits import SHARD

ROWS = 1024  # read and written at a time


def wrong_labels(labels: Tensor, num_classes: int, share: float, seed: int) -> Tensor:
    """Return ``labels`` ``(N,)`` with ``round(share * N)`` of them moved to one of the other classes.

    >>> labels = torch.tensor([0, 1, 2, 0, 1])
    >>> (wrong_labels(labels, 3, 0.4, seed=0) != labels).sum()
    tensor(2)
    """
    check_range("share", share, 0, 1)
    check_int("seed", seed, 0, 2**63 - 1)
    check_int("num_classes", num_classes, 2, 2**20, "a wrong class needs another one")
    rows = torch.arange(len(labels))
    queue = torch.argsort(random_bits(seed, 0, rows, Stream.NOISE), stable=True)
    chosen = queue[: round(share * len(labels))]
    # Epoch 1 is not the queue's 0: the rows at its front share their leading bits.
    step = 1 + random_below(random_bits(seed, 1, chosen, Stream.NOISE), num_classes - 1, word=0)
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + step) % num_classes
    return noisy


def write_noisy(
    source: Path,
    target: Path,
    share: float = 0.4,
    seed: int = 0,
    *,
    column: str | None = None,
    train_split: str = "train",
    eval_split: str = "test",
) -> tuple[int, int]:
    """Write the copy and return how many labels were changed, of how many.

    Raises:
        FileExistsError: something is at ``target`` already.
        ValueError: ``source`` holds no parquet files, split or label column as asked; a label is missing or no class.
    """
    if target.exists():
        raise FileExistsError(f"the target {target} must not be there yet: remove it or name another.")
    if not any(source.glob("*.parquet")):
        raise ValueError(f"the source must be a folder of parquet files, got {source}.")
    train, evaluation = read_frames(str(source), (train_split, eval_split))
    column = label_column(train, column)
    values = train.read(column)
    classes = class_names([train, evaluation], column, values)
    labels = decode_labels(values, train.place, classes)
    noisy = wrong_labels(labels, len(classes), share, seed)
    new: list[Any] = [classes[label] for label in noisy.tolist()] if isinstance(values[0], str) else noisy.tolist()
    aside = target.with_name(target.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    start = 0
    for path in _shards(source, train_split):
        start = _copy(path, aside / path.name, column, new, start)
    for path in _shards(source, eval_split):
        shutil.copyfile(path, aside / path.name)
    aside.rename(target)
    return int((noisy != labels).sum()), len(labels)


def _shards(folder: Path, split: str) -> list[Path]:
    return [path for path in sorted(folder.glob("*.parquet")) if (m := SHARD.fullmatch(path.stem)) and m["split"] == split]


def _copy(path: Path, target: Path, column: str, labels: list[Any], start: int) -> int:
    """Copy one file a piece at a time, its labels taken from ``labels`` at ``start``; return where the next file starts."""
    with pq.ParquetFile(path) as file, pq.ParquetWriter(target, file.schema_arrow) as writer:
        place = file.schema_arrow.get_field_index(column)
        field = file.schema_arrow.field(place)
        for batch in file.iter_batches(ROWS):
            values = pa.array(labels[start : start + batch.num_rows], field.type)
            writer.write_batch(batch.set_column(place, field, values))
            start += batch.num_rows
    return start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--share", type=float, default=0.4, help="of the training labels to make wrong, in [0, 1]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label-column")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--eval-split", default="test")
    options = parser.parse_args()
    changed, count = write_noisy(
        options.source,
        options.target,
        options.share,
        options.seed,
        column=options.label_column,
        train_split=options.train_split,
        eval_split=options.eval_split,
    )
    print(f"{options.target}: {changed:,} of {count:,} labels of `{options.train_split}` are wrong (seed {options.seed}).")


if __name__ == "__main__":
    main()
