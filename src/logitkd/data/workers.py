"""Batches of images of any size: decoded and augmented by worker processes, normalised on the training device."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from logitkd.checks import check_int
from logitkd.data.encoded import EncodedSplit
from logitkd.data.memory import Batch, Normalize
from logitkd.data.rng import Stream, permutation, random_bits
from logitkd.data.views import View

__all__ = ["WorkerLoader", "default_workers"]

STOPPING = {signal.SIGINT, signal.SIGTERM}


def default_workers() -> int:
    """Return how many workers to use where nobody says: the cores this process may use but one, at least 1, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores - 1))


class WorkerLoader:
    """Iterates over a split of encoded images: each is read, decoded and transformed when its batch is near.

    As with :class:`DeviceLoader`, the order in epoch ``e`` is a pure function of ``(seed, e)`` and the view of row ``i`` of
    ``(seed, e, i)``: the number of workers, the batch size and where the epoch is entered change nothing.

    The workers live as long as an epoch's iterator. They leave SIGINT to the process that trains, and end when it closes the
    iterator, is done, or is no more, however it ended (this last they notice within five seconds).

    Args:
        split: the encoded images and labels.
        view: image and random bits -> what the network sees of it.
        batch_size: examples a batch; the last batch of an epoch is smaller where they do not divide the split.
        device: where batches are made.
        mean: of each channel, on the scale where 255 is 1.
        std: of each channel, above 0.
        seed: decides order and augmentation.
        shuffle: a new order each epoch; otherwise the split's own.
        workers: processes, 0 for none.
        channels_last: give images in the channels_last memory format.

    Raises:
        ValueError: an argument out of range, or an empty split.
    """

    def __init__(
        self,
        split: EncodedSplit,
        view: View,
        *,
        batch_size: int,
        device: torch.device | str,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
        shuffle: bool = False,
        workers: int = 0,
        channels_last: bool = False,
    ) -> None:
        if len(split) == 0:
            raise ValueError("`split` is empty: there is nothing to iterate over.")
        check_int("batch_size", batch_size, 1, None)
        check_int("seed", seed, 0, 2**63 - 1)
        check_int("workers", workers, 0, None)
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.workers = workers
        self._views = _Views(split, view)
        self._labels = split.labels.to(self.device)
        self._normalize = Normalize(mean, std, channels=3, device=self.device, channels_last=channels_last)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image in a batch."""
        return 3, self._views.view.size, self._views.view.size

    def __len__(self) -> int:
        """Steps in an epoch."""
        return -(-len(self._labels) // self.batch_size)

    def epoch(self, epoch: int, start_step: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, from ``start_step`` on.

        Args:
            epoch: counts from 1.
            start_step: batches to leave out at the start (none of their images is read), in [0, ``len(self)``].

        Raises:
            ValueError: ``epoch`` or ``start_step`` out of range; later, an image that cannot be read or decoded.
            ChildProcessError: a worker was lost.
        """
        check_int("epoch", epoch, 1, None)
        check_int("start_step", start_step, 0, len(self), "the steps of an epoch")
        return self._batches(epoch, start_step)

    def _batches(self, epoch: int, start_step: int) -> Generator[Batch, None, None]:
        count = len(self._labels)
        order = permutation(count, self.seed, epoch) if self.shuffle else torch.arange(count)
        bits = random_bits(self.seed, epoch, order, Stream.VIEW)
        starts = range(start_step * self.batch_size, count, self.batch_size)
        pieces = [slice(start, start + self.batch_size) for start in starts]
        source = DataLoader(
            self._views,
            batch_size=None,  # an item is a batch already
            sampler=[(order[piece].tolist(), bits[piece].tolist()) for piece in pieces],
            num_workers=self.workers,
            collate_fn=_as_it_is,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_settle,
            generator=torch.Generator(),  # it draws a number it has no use for: not from the process's own generator
        )
        order = order.to(self.device)
        with _signals_waiting():
            views = iter(source)
        try:
            for piece in pieces:
                view = _next(views)
                if isinstance(view, str):
                    raise ValueError(view)
                index = order[piece]
                images = self._normalize(view.to(self.device, non_blocking=True).permute(0, 3, 1, 2))
                yield Batch(images, self._labels.index_select(0, index), index)
        finally:
            del views  # ends the workers, also while the traceback of an error still holds this frame


class _Views(Dataset[Tensor | str]):
    """What a worker does: rows and random bits in, their views out.

    An error comes out as its words: raised in a worker it would come back buried in a traceback.
    """

    def __init__(self, split: EncodedSplit, view: View) -> None:
        self.split, self.view = split, view

    def __getitem__(self, examples: tuple[list[int], list[int]]) -> Tensor | str:
        try:
            views = [self.view(self.split.image(index), bits) for index, bits in zip(*examples, strict=True)]
        except ValueError as error:
            return str(error)
        return torch.from_numpy(np.stack(views))  # (B, S, S, 3) uint8


def _as_it_is(views: Any) -> Any:
    return views


def _next(views: Iterator[Tensor | str]) -> Tensor | str:
    try:
        return next(views)
    except (RuntimeError, OSError, EOFError) as error:  # which one depends on where in its work the worker was lost
        if str(error).startswith("Caught"):  # an error of our own in a worker
            raise
        said = str(error).strip() or type(error).__name__
        raise ChildProcessError(
            f"a worker that decodes images was lost ({said}). If it was killed for want of memory, give fewer `data.workers`, "
            "or 0. The same command goes on from the last checkpoint."
        ) from error


@contextmanager
def _signals_waiting() -> Iterator[None]:
    """Hold back signals to stop: a worker just forked would take one by this process's handler, and not stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _settle(worker: int) -> None:
    """Begin a worker: Ctrl-C reaches the whole group and is for the process that trains; SIGTERM ends a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
