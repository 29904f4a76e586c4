"""Views of images of any size: decoded and augmented by worker processes, normalised on the training device."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from logitkd.checks import check_int
from logitkd.data.batch import Request

__all__ = ["Views", "WorkerFetcher", "default_workers"]

STOPPING = {signal.SIGINT, signal.SIGTERM}


def default_workers() -> int:
    """Return how many workers to use where nobody says: the cores this process may use but one, at least 1, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores - 1))


class Views(Protocol):
    """What a worker makes: the views of a split's examples."""

    @property
    def empty(self) -> tuple[np.ndarray, ...]:
        """The views of no examples, an array a part: ``(0, H, W, 3)`` uint8 images first, ``(0, ...)`` others."""

    def __len__(self) -> int:
        """Examples there are."""

    def __call__(self, index: int, bits: int) -> tuple[np.ndarray, ...]:
        """Return the view of example ``index`` that ``bits`` decide, an array a part; raise ``ValueError`` with its place."""


class WorkerFetcher:
    """Fetches from a split of encoded images: each is read, decoded and transformed when its batch is near.

    How many workers there are changes no view. They live as long as the iterator of a :meth:`fetch`. They leave SIGINT to the
    process that trains, and end when it closes the iterator, is done, or is no more, however it ended (this last they notice
    within five seconds).

    Args:
        views: of the split.
        finish: the parts of a batch of views, as tensors on ``device`` -> what is fetched, see
            :class:`~logitkd.data.batch.Fetcher`.
        device: where views are finished.
        workers: processes, 0 for none; by default as many as :func:`default_workers` says.

    Raises:
        ValueError: ``workers`` is out of range.
    """

    device = torch.device("cpu")  # of requests: processes read them

    def __init__(
        self, views: Views, finish: Callable[..., Any], *, device: torch.device | str, workers: int | None = None
    ) -> None:
        self.workers = default_workers() if workers is None else workers
        check_int("workers", self.workers, 0, None)
        self._views = views
        self._finish = finish
        self._onto = torch.device(device)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of a view."""
        _, height, width, channels = self._views.empty[0].shape
        return channels, height, width

    def __len__(self) -> int:
        """Images there are."""
        return len(self._views)

    def fetch(self, requests: Iterable[Request]) -> Generator[Any, None, None]:
        """Yield the views of each request, finished; several requests are being worked on at a time.

        Raises:
            ValueError: an image that cannot be read or decoded.
            ChildProcessError: a worker was lost.
        """
        source = DataLoader(
            _Work(self._views),
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
                parts = _next(views)
                if isinstance(parts, str):
                    raise ValueError(parts)
                yield self._finish(*(part.to(self._onto, non_blocking=True) for part in parts))
        finally:
            del views  # ends the workers, also while the traceback of an error still holds this frame


class _Work(Dataset[Any]):
    """What a worker does: rows and random bits in, their views out, a tensor ``(B, ...)`` a part.

    An error comes out as its words: raised in a worker it would come back buried in a traceback.
    """

    def __init__(self, views: Views) -> None:
        self.views = views

    def __getitem__(self, examples: tuple[list[int], list[int]]) -> tuple[Tensor, ...] | str:
        try:
            views = [self.views(index, bits) for index, bits in zip(*examples, strict=True)]
        except ValueError as error:
            return str(error)
        parts = map(np.stack, zip(*views, strict=True)) if views else self.views.empty
        return tuple(map(torch.from_numpy, parts))


def _as_it_is(views: Any) -> Any:
    return views


def _next(views: Iterator[Any]) -> tuple[Tensor, ...] | str:
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
