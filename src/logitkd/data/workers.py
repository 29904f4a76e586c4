"""Views of images of any size: decoded and augmented by worker processes, normalised on the training device."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from logitkd.checks import check_int
from logitkd.data.batch import Normalize, Request
from logitkd.data.encoded import EncodedSplit
from logitkd.data.views import View

__all__ = ["WorkerFetcher", "default_workers"]

STOPPING = {signal.SIGINT, signal.SIGTERM}


def default_workers() -> int:
    """Return how many workers to use where nobody says: the cores this process may use but one, at least 1, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores - 1))


class WorkerFetcher:
    """Fetches from a split of encoded images: each is read, decoded and transformed when its batch is near.

    How many workers there are changes no view. They live as long as the iterator of a :meth:`fetch`. They leave SIGINT to the
    process that trains, and end when it closes the iterator, is done, or is no more, however it ended (this last they notice
    within five seconds).

    Args:
        split: the encoded images.
        view: image and random bits -> what the network sees of it.
        normalize: from pixels to the networks' input.
        device: where views are normalised.
        workers: processes, 0 for none.

    Raises:
        ValueError: ``workers`` is out of range.
    """

    device = torch.device("cpu")  # of requests: processes read them

    def __init__(
        self, split: EncodedSplit, view: View, normalize: Normalize, *, device: torch.device | str, workers: int = 0
    ) -> None:
        check_int("workers", workers, 0, None)
        self.workers = workers
        self._views = _Views(split, view)
        self._normalize = normalize
        self._onto = torch.device(device)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of a view."""
        return 3, self._views.view.size, self._views.view.size

    def __len__(self) -> int:
        """Images there are."""
        return len(self._views.split)

    def fetch(self, requests: Iterable[Request]) -> Generator[Tensor, None, None]:
        """Yield the views of each request, ``(B, 3, S, S)`` float32; several requests are being worked on at a time.

        Raises:
            ValueError: an image that cannot be read or decoded.
            ChildProcessError: a worker was lost.
        """
        source = DataLoader(
            self._views,
            batch_size=None,  # an item is a request already
            sampler=[(rows.tolist(), bits.tolist()) for rows, bits in requests],
            num_workers=self.workers,
            collate_fn=_as_it_is,
            pin_memory=self._onto.type == "cuda",
            worker_init_fn=_settle,
            generator=torch.Generator(),  # it draws a number it has no use for: not from the process's own generator
        )
        with _signals_waiting():
            views = iter(source)
        try:
            for _ in range(len(source)):
                view = _next(views)
                if isinstance(view, str):
                    raise ValueError(view)
                yield self._normalize(view.to(self._onto, non_blocking=True).permute(0, 3, 1, 2))
        finally:
            del views  # ends the workers, also while the traceback of an error still holds this frame


class _Views(Dataset[Tensor | str]):
    """What a worker does: rows and random bits in, their views out, ``(B, S, S, 3)`` uint8.

    An error comes out as its words: raised in a worker it would come back buried in a traceback.
    """

    def __init__(self, split: EncodedSplit, view: View) -> None:
        self.split, self.view = split, view

    def __getitem__(self, examples: tuple[list[int], list[int]]) -> Tensor | str:
        try:
            views = [self.view(self.split.image(index), bits) for index, bits in zip(*examples, strict=True)]
        except ValueError as error:
            return str(error)
        size = self.view.size
        return torch.from_numpy(np.stack(views) if views else np.empty((0, size, size, 3), np.uint8))


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
