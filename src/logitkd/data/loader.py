"""Batches: which examples, in which order, by which random bits, mixed with which; fetchers know how examples are kept."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

import torch
from torch import Tensor

from logitkd.checks import check_int
from logitkd.data.batch import Batch, Fetcher, Normalize, Request, Shown
from logitkd.data.config import DataConfig
from logitkd.data.images import ImageData, ImageSplit
from logitkd.data.memory import MemoryFetcher
from logitkd.data.mixing import Mixer, Mixing
from logitkd.data.rng import Stream, by_length, partners, permutation, random_bits

__all__ = ["Loader", "make_loader"]


class Loader:
    """Iterates over a split: batches on the device, made of what a fetcher fetches.

    In epoch ``e`` the order is a pure function of ``(seed, e)``; the view of row ``i``, its partner in mixing, and how the two
    are mixed are pure functions of ``(seed, e, i)``. Batch size, device, fetcher, processes, and where the epoch is entered
    change nothing. In pseudo-code::

        for i in order(seed, e):
            view = fetch(i, bits(seed, e, i))
            if mixer:
                j = partner(seed, e, i)                        # a permutation without fixed points, not from the batch
                view = mix(view, fetch(j, bits(seed, e, j)))   # the partner as it is seen itself in this epoch

    A partner brings its own view of the epoch, so mixed views are made of the epoch's plain ones, and ``(seed, e, i)`` says
    which: whoever replays a teacher's logits knows what they are of, and whoever keeps an epoch's plain views needs no others.

    Args:
        fetcher: rows and random bits -> views.
        labels: ``(N,)`` int64, as many as the fetcher has rows; not read where it brings labels (:class:`~logitkd.data.batch.
            Shown`), which nothing mixes.
        batch_size: examples a batch, over all processes; the last batch of an epoch is smaller where they do not divide the
            split (so a batch size beyond the split gives one batch of everything).
        device: where batches are.
        seed: decides order, views and mixing.
        shuffle: a new order each epoch; otherwise the split's own.
        mixer: mixes each view with its partner's.
        lengths: ``(N,)`` int64, how long each example is: batches are of similar length, as each is filled up to its longest.
            The batch size then decides which examples come together, and without ``shuffle`` the longest come first.
        part: ``(rank, count)``: give the ``rank``-th of ``count`` slices of each batch. The slices of all ranks in their order
            are the batch; their sizes differ by one at most, so one of a last batch may have no examples.

    Raises:
        ValueError: an argument out of range, or an empty split.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        labels: Tensor,
        *,
        batch_size: int,
        device: torch.device | str,
        seed: int = 0,
        shuffle: bool = False,
        mixer: Mixer | None = None,
        lengths: Tensor | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        if len(labels) != len(fetcher):
            raise ValueError(f"`labels` must be one a row of the fetcher, {len(fetcher)}, got {len(labels)}.")
        if len(labels) == 0:
            raise ValueError("`labels` must be of at least one example, got none: there is nothing to iterate over.")
        check_int("batch_size", batch_size, 1, None)
        check_int("seed", seed, 0, 2**63 - 1)
        if mixer is not None and mixer.num_classes is not None and bool((labels < 0).any()):
            raise ValueError("`labels` must all be there to be mixed, got some that are missing. Mix the images alone.")
        check_int("part[1]", part[1], 1, batch_size, "`batch_size`: each process takes a share of every batch")
        check_int("part[0]", part[0], 0, part[1] - 1, "`part[1]` - 1")
        self.fetcher = fetcher
        self.device = torch.device(device)
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.mixer, self.part = mixer, part
        self._labels = labels.to(self.device)
        self._lengths = lengths

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example's input: channels, height and width of an image."""
        return self.fetcher.shape

    def __len__(self) -> int:
        """Steps in an epoch."""
        return -(-len(self._labels) // self.batch_size)

    def epoch(self, epoch: int, start_step: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, from ``start_step`` on.

        Args:
            epoch: counts from 1.
            start_step: batches to leave out at the start (none of their examples is fetched), in [0, ``len(self)``].

        Raises:
            ValueError: ``epoch`` or ``start_step`` out of range; later, whatever the fetcher raises.
        """
        check_int("epoch", epoch, 1, None)
        check_int("start_step", start_step, 0, len(self), "the steps of an epoch")
        return self._batches(epoch, start_step)

    def _batches(self, epoch: int, start_step: int) -> Generator[Batch, None, None]:
        count, device, mixer = len(self._labels), self.fetcher.device, self.mixer
        order = self._order(count, epoch, device)
        rows, order_here = order, order.to(self.device)
        if mixer is not None:
            partner = partners(count, self.seed, epoch, device)[order]
            rows, partner_here = torch.stack([order, partner]), partner.to(self.device)
            shares = random_bits(self.seed, epoch, order_here, Stream.MIXING)
        # Hashing the whole epoch at once costs as much as hashing a few batches: small kernels are all overhead.
        bits = random_bits(self.seed, epoch, rows, Stream.VIEW)
        pieces = [self._piece(step) for step in range(start_step, len(self))]
        # With a mixer a request is of a batch's examples and then of their partners.
        requests = (Request(rows[..., piece].flatten(), bits[..., piece].flatten()) for piece in pieces)
        with closing(self.fetcher.fetch(requests)) as fetched:
            for piece, inputs in zip(pieces, fetched, strict=True):
                index = order_here[piece]
                if isinstance(inputs, Shown):
                    yield Batch(inputs.inputs, inputs.labels, index)
                    continue
                labels = self._labels.index_select(0, index)
                if mixer is not None:
                    theirs = self._labels.index_select(0, partner_here[piece])
                    own, other = inputs[: len(index)], inputs[len(index) :]
                    inputs, labels = mixer(own, other, labels, theirs, shares[piece])
                yield Batch(inputs, labels, index)

    def _order(self, count: int, epoch: int, device: torch.device) -> Tensor:
        """Return the rows of an epoch in their order."""
        lengths = None if self._lengths is None else self._lengths.to(device)
        if self.shuffle:
            order = permutation(count, self.seed, epoch, device)
            return order if lengths is None else by_length(order, lengths, self.batch_size, self.seed, epoch)
        if lengths is None:
            return torch.arange(count, device=device)
        return torch.argsort(lengths, descending=True, stable=True)

    def _piece(self, step: int) -> slice:
        """Return which of an epoch's examples this part takes at ``step``."""
        start = step * self.batch_size
        size = min(self.batch_size, len(self._labels) - start)
        rank, count = self.part
        return slice(start + size * rank // count, start + size * (rank + 1) // count)


def make_loader(
    data: ImageData,
    config: DataConfig,
    *,
    train: bool,
    batch_size: int,
    device: torch.device | str,
    seed: int = 0,
    channels_last: bool = False,
    mixing: Mixing | None = None,
    part: tuple[int, int] = (0, 1),
) -> Loader:
    """Return the loader of a split: augmented, mixed and in a new order each epoch to train on, else as it is.

    Args:
        data: what ``load_images(config)`` returned.
        config: says how training images are augmented.
        train: the training split, not the evaluation's.
        batch_size: examples a batch, over all processes.
        device: where batches are made.
        seed: decides order, augmentation and mixing; a run's ``data_seed``.
        channels_last: give images in the channels_last memory format.
        mixing: how training images are mixed with one another; by default they are not.
        part: ``(rank, count)``: which of ``count`` slices of each batch to give.

    Raises:
        ValueError: an argument out of range.
    """
    split = data.train if train else data.eval
    device = torch.device(device)
    normalize = Normalize(data.mean, data.std, channels=3, device=device, channels_last=channels_last)
    fetcher: Fetcher
    if isinstance(split, ImageSplit):
        padding, flip = (config.crop_padding, config.flip) if train else (0, False)
        fetcher = MemoryFetcher(split.images, normalize, device=device, crop_padding=padding, flip=flip)
    else:
        from logitkd.data.views import EncodedViews, evaluation_view, training_view  # torchvision: not for small images
        from logitkd.data.workers import WorkerFetcher

        view = training_view(config) if train else evaluation_view(config)
        fetcher = WorkerFetcher(
            EncodedViews(split, view),
            lambda pixels: normalize(pixels.permute(0, 3, 1, 2)),
            device=device,
            workers=config.workers,
        )
    return Loader(
        fetcher,
        split.labels,
        batch_size=batch_size,
        device=device,
        seed=seed,
        shuffle=train,
        mixer=mixing.mixer(len(data.classes), device) if train and mixing is not None else None,
        part=part,
    )
