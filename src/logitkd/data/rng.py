"""Random numbers as a function of (seed, epoch, index, stream): nothing to advance, save or restore.

A stream of random numbers must be replayed from its start to reach example `i` of epoch `e`; a function is asked for it
directly. So resuming, another batch size or another number of workers changes nothing.

The function is splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), keyed.
It is integer arithmetic only, so every device gives the same bits.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

__all__ = ["Stream", "by_length", "first_per_class", "partners", "permutation", "random_below", "random_bits"]

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
WINDOW = 64  # batches among which examples of similar length are looked for


class Stream(IntEnum):
    """What the numbers are for: two uses never share numbers. The values are part of every result; never renumber."""

    ORDER = 1
    VIEW = 2
    BUDGET = 3
    SPLIT = 4
    NOISE = 5
    MIXING = 6
    PARTNER = 7
    BATCH = 8


def _signed(value: int) -> int:
    """Return the int64 with the same 64 bits as ``value``."""
    return value - 2**64 if value >= 2**63 else value


def _mix_int(x: int) -> int:
    """splitmix64's finaliser on one Python int: a bijection of 64 bits, each input bit flips half of the output's."""
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        x = ((x ^ (x >> shift)) * multiplier) & _MASK
    return x


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's ``>>`` on int64 copies the sign bit in from the left, which the mask removes."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def random_bits(seed: int, epoch: int, index: Tensor, stream: Stream) -> Tensor:
    """Return 64 random bits for each index, as int64 (so half of them are negative).

    Args:
        seed: the run's seed, any non-negative int below 2**63.
        epoch: the pass over the data, from 1; 0 for what is drawn once a run.
        index: ``(N,)`` int64 example numbers, on any device.
        stream: what the bits are for.

    Returns:
        ``(N,)`` int64 on the device of ``index``; element ``k`` depends on ``index[k]`` alone, not on its neighbours.

    >>> rows = torch.tensor([0, 1, 2])
    >>> random_bits(0, 1, rows, Stream.VIEW)[1:] == random_bits(0, 1, rows[1:], Stream.VIEW)
    tensor([True, True])
    """
    key = 0
    for part in (seed, epoch, int(stream)):
        key = _mix_int((key + _GOLDEN + part) & _MASK)
    x = index * _signed(_GOLDEN) + _signed(key)  # int64 products wrap modulo 2**64 on every device
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        x = (x ^ _shift_right(x, shift)) * _signed(multiplier)
    return x ^ _shift_right(x, _SHIFTS[2])


def random_below(bits: Tensor, bound: int, *, word: int) -> Tensor:
    """Return integers in ``[0, bound)`` from a third of ``bits``: word 0, 1 or 2 are its low, middle and high 21 bits.

    Three independent draws come from one hash. The bound is reached by a multiplication and a shift; each value's
    probability is off by at most ``2**-21``.

    Args:
        bits: ``(N,)`` int64 of ``random_bits``.
        bound: in [1, 2**20].
        word: which 21 bits to use, in [0, 2].

    >>> random_below(torch.tensor([0, 2**20, 2**21 - 1]), 10, word=0).tolist()
    [0, 5, 9]
    """
    piece = _shift_right(bits, 21 * word) & (2**21 - 1)
    return (piece * bound) >> 21


def permutation(count: int, seed: int, epoch: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the order of an epoch: ``(count,)`` int64, every row once, a pure function of (count, seed, epoch)."""
    return _queue(count, seed, epoch, Stream.ORDER, device)


def by_length(order: Tensor, lengths: Tensor, batch_size: int, seed: int, epoch: int) -> Tensor:
    """Return an order of an epoch whose batches hold examples of similar length: a pure function of the arguments.

    Of the examples of 64 batches in a row those of similar length come together; then the batches are shuffled. A last batch
    that is not full stays the last.

    Args:
        order: ``(count,)`` int64, as :func:`permutation` gives it.
        lengths: ``(count,)`` int64, of each row.
        batch_size: examples a batch.
        seed: as the order's.
        epoch: likewise.

    >>> by_length(torch.tensor([3, 0, 2, 1]), torch.tensor([9, 2, 2, 9]), 2, 0, 1).tolist()
    [3, 0, 2, 1]
    """
    batches = len(order) // batch_size
    full, rest = order[: batches * batch_size], order[batches * batch_size :]
    window = torch.arange(len(full), device=order.device) // (WINDOW * batch_size)
    full = full[torch.argsort(window * (int(lengths.max()) + 1) + lengths[full], stable=True)]
    shuffled = torch.argsort(random_bits(seed, epoch, torch.arange(batches, device=order.device), Stream.BATCH), stable=True)
    return torch.cat([full.view(batches, batch_size)[shuffled].flatten(), rest])


def partners(count: int, seed: int, epoch: int, device: torch.device | str = "cpu") -> Tensor:
    """Return each row's partner in an epoch: ``(count,)`` int64, every row once, a pure function of (count, seed, epoch).

    The rows are put in a circle, in a random order that has nothing to do with the order of the epoch; each one's partner is
    the one before it. So no row is its own partner where there are two or more.

    >>> partners(2, 0, 1).tolist()
    [1, 0]
    """
    circle = _queue(count, seed, epoch, Stream.PARTNER, device)
    return torch.empty_like(circle).scatter_(0, circle, circle.roll(1))


def _queue(count: int, seed: int, epoch: int, stream: Stream, device: torch.device | str) -> Tensor:
    rows = torch.arange(count, device=device)
    # A stable sort leaves nothing to chance even where two 64-bit numbers agree.
    return torch.argsort(random_bits(seed, epoch, rows, stream), stable=True)


def first_per_class(labels: Tensor, count: int | Tensor, seed: int, stream: Stream) -> Tensor:
    """Choose ``count`` rows of each class: a ``(N,)`` bool mask, a pure function of (labels, count, seed, stream).

    A row's place in the queue of its class is its hash, so a larger ``count`` keeps every row that a smaller one keeps.

    Args:
        labels: ``(N,)`` int64.
        count: rows of each class, one number for all or ``(C,)`` int64; classes with fewer keep all they have.
        seed: decides which rows.
        stream: what they are chosen for.

    >>> first_per_class(torch.tensor([0, 0, 1, 1, 1, 0]), 1, 0, Stream.BUDGET).sum().item()
    2
    """
    rows = torch.arange(len(labels))
    queue = torch.argsort(random_bits(seed, 0, rows, stream), stable=True)
    queue = queue[torch.argsort(labels[queue], stable=True)]  # by class, by hash within a class
    sizes = torch.bincount(labels)
    starts = torch.cumsum(sizes, 0) - sizes
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    wanted = count[labels[queue]] if isinstance(count, Tensor) else count
    chosen[queue[rows - starts[labels[queue]] < wanted]] = True
    return chosen
