import math

import pytest
import torch

from logitkd.data.rng import Stream, _mix_int, by_length, first_per_class, partners, permutation, random_below, random_bits

MASK = 2**64 - 1


def reference_bits(seed, epoch, index, stream):
    """The definition, in Python's unbounded integers."""

    def mix(x):
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        return x ^ (x >> 31)

    key = 0
    for part in (seed, epoch, stream):
        key = mix((key + 0x9E3779B97F4A7C15 + part) & MASK)
    bits = mix((key + index * 0x9E3779B97F4A7C15) & MASK)
    return bits - 2**64 if bits >= 2**63 else bits


def chi_square_z(counts: torch.Tensor) -> float:
    """How many standard deviations the chi-square of counts lies from what equal probabilities give."""
    expected = counts.sum() / counts.numel()
    freedom = counts.numel() - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


def joint(first: torch.Tensor, second: torch.Tensor, bound: int) -> torch.Tensor:
    return torch.bincount(first * bound + second, minlength=bound * bound).double()


def test_mixing_is_splitmix64():
    # The first numbers of the published generator started at 1234567.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [_mix_int((1234567 + k * 0x9E3779B97F4A7C15) & MASK) for k in range(1, 6)] == published


@pytest.mark.parametrize(("seed", "epoch", "stream"), [(0, 1, Stream.VIEW), (2**63 - 1, 240, Stream.ORDER), (7, 0, 3)])
def test_tensor_arithmetic_equals_python_integers(seed, epoch, stream):
    index = torch.tensor([0, 1, 2, 999, 49_999, 2**31, 2**40 + 3])
    expected = [reference_bits(seed, epoch, int(i), int(stream)) for i in index]
    assert random_bits(seed, epoch, index, stream).tolist() == expected


def test_golden_numbers_never_change():
    # Every stored result was made with these. If this test fails, mend the code, not the numbers.
    assert random_bits(0, 1, torch.arange(3), Stream.VIEW).tolist() == [
        7640767988864648793,
        -8330785335625157719,
        6856777441267181547,
    ]
    assert permutation(10, 3, 2).tolist() == [7, 9, 8, 6, 1, 0, 5, 4, 3, 2]
    assert by_length(torch.arange(8), torch.arange(8) % 4, 2, 3, 2).tolist() == [1, 5, 3, 7, 0, 4, 2, 6]
    assert [int(stream) for stream in Stream] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_each_index_is_on_its_own():
    index = torch.randperm(1000)
    bits = random_bits(5, 3, index, Stream.VIEW)
    pieces = [random_bits(5, 3, piece, Stream.VIEW) for piece in index.split(7)]
    assert torch.equal(torch.cat(pieces), bits)
    assert torch.equal(random_bits(5, 3, torch.arange(1000), Stream.VIEW)[index], bits)


def test_every_bit_is_fair():
    bits = random_bits(11, 4, torch.arange(100_000), Stream.VIEW)
    share = torch.stack([(bits >> k) & 1 for k in range(64)]).double().mean(1)
    assert ((share - 0.5).abs() < 5 * 0.5 / math.sqrt(100_000)).all()


@pytest.mark.parametrize("word", [0, 1, 2])
@pytest.mark.parametrize("bound", [2, 9, 100])
def test_values_are_uniform(word, bound):
    values = random_below(random_bits(1, 1, torch.arange(100_000), Stream.VIEW), bound, word=word)
    assert values.min() == 0
    assert values.max() == bound - 1
    assert abs(chi_square_z(torch.bincount(values, minlength=bound).double())) < 5


def test_words_of_one_hash_are_independent():
    bits = random_bits(1, 1, torch.arange(100_000), Stream.VIEW)
    words = [random_below(bits, 9, word=word) for word in range(3)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert abs(chi_square_z(joint(words[first], words[second], 9))) < 5


@pytest.mark.parametrize(
    ("other_seed", "other_epoch", "shift", "other_stream"),
    [
        (0, 2, 0, Stream.VIEW),
        (1, 1, 0, Stream.VIEW),
        (0, 1, 1, Stream.VIEW),
        (0, 1, 0, Stream.ORDER),
        (1, 0, 0, Stream.VIEW),
        (1, 2, 1, Stream.VIEW),
    ],
    ids=["next epoch", "next seed", "next index", "other stream", "seed and epoch swapped", "all neighbours"],
)
def test_neighbours_are_independent(other_seed, other_epoch, shift, other_stream):
    index = torch.arange(100_000)
    here = random_below(random_bits(0, 1, index, Stream.VIEW), 9, word=0)
    there = random_below(random_bits(other_seed, other_epoch, index + shift, other_stream), 9, word=0)
    assert abs(chi_square_z(joint(here, there, 9))) < 5


def test_permutations_are_all_equally_likely():
    orders = torch.stack([permutation(4, 0, epoch) for epoch in range(1, 4801)])
    assert torch.equal(orders.sort(1).values, torch.arange(4).expand(4800, 4))
    _, counts = torch.unique(orders, dim=0, return_counts=True)
    assert len(counts) == 24
    assert abs(chi_square_z(counts.double())) < 5


def test_permutation_depends_on_seed_and_epoch_only():
    assert torch.equal(permutation(1000, 1, 1), permutation(1000, 1, 1))
    assert not torch.equal(permutation(1000, 1, 1), permutation(1000, 1, 2))
    assert not torch.equal(permutation(1000, 1, 1), permutation(1000, 2, 1))


def test_first_per_class_takes_the_smallest_hashes():
    labels = torch.randint(0, 4, (200,), generator=torch.Generator().manual_seed(0))
    chosen = first_per_class(labels, 5, 9, Stream.BUDGET)
    bits = random_bits(9, 0, torch.arange(200), Stream.BUDGET).tolist()
    for label in range(4):
        rows = [row for row in range(200) if labels[row] == label]
        expected = sorted(sorted(rows, key=lambda row: bits[row])[:5])
        assert [row for row in rows if chosen[row]] == expected


def test_a_larger_budget_keeps_the_smaller_one():
    labels = torch.arange(300) % 3
    small, large = (first_per_class(labels, count, 2, Stream.BUDGET) for count in (10, 20))
    assert small.sum() == 30
    assert large.sum() == 60
    assert (large | ~small).all()
    assert not torch.equal(small, first_per_class(labels, 10, 3, Stream.BUDGET))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same_bits():
    index = torch.arange(10_000)
    assert torch.equal(random_bits(3, 7, index.cuda(), Stream.VIEW).cpu(), random_bits(3, 7, index, Stream.VIEW))
    assert torch.equal(permutation(10_000, 3, 7, "cuda").cpu(), permutation(10_000, 3, 7))


@pytest.mark.parametrize("count", [1, 2, 3, 50, 1000])
def test_partners_are_one_circle_through_all_rows(count):
    """So nobody is their own partner, and everybody is somebody's."""
    partner = partners(count, 4, 9).tolist()
    row, seen = 0, set()
    while row not in seen:
        seen.add(row)
        row = partner[row]
    assert (row, len(seen)) == (0, count)


def test_partners_change_with_seed_and_epoch_and_are_not_the_order():
    first = partners(1000, 4, 9)
    assert torch.equal(first, partners(1000, 4, 9))
    for other in (partners(1000, 5, 9), partners(1000, 4, 10)):
        assert (first == other).sum() < 20
    order = permutation(1000, 4, 9)
    before = torch.empty_like(order).scatter_(0, order, order.roll(1))
    assert (first == before).sum() < 20


LENGTHS = torch.randint(1, 60, (5000,), generator=torch.Generator().manual_seed(0))


def in_batches(epoch=1, seed=0, batch_size=16):
    return by_length(permutation(5000, seed, epoch), LENGTHS, batch_size, seed, epoch)


def test_an_order_by_length_has_every_row_once_and_another_order_each_epoch():
    order = in_batches()
    assert torch.equal(order.sort().values, torch.arange(5000))
    assert torch.equal(order, in_batches())
    assert not torch.equal(order, in_batches(epoch=2))
    assert not torch.equal(order, in_batches(seed=1))


def test_batches_of_similar_length_have_little_filling_and_no_order_among_them():
    batches = LENGTHS[in_batches()[:4992]].view(312, 16)
    filling = 1 - LENGTHS.sum() / 5000 / batches.amax(1).float().mean()
    at_random = LENGTHS[permutation(5000, 0, 1)[:4992]].view(312, 16).amax(1).float().mean()
    assert filling < 0.05 < 1 - LENGTHS.sum() / 5000 / at_random
    longest = batches.amax(1).float()
    assert abs(torch.corrcoef(torch.stack([longest, torch.arange(312.0)]))[0, 1]) < 0.2
    assert (longest[1:] - longest[:-1]).abs().mean() > 10


def test_a_last_batch_that_is_not_full_stays_the_last():
    order = permutation(5000, 0, 1)
    assert torch.equal(in_batches()[4992:], order[4992:])
    assert torch.equal(by_length(order[:3], LENGTHS, 16, 0, 1), order[:3])
