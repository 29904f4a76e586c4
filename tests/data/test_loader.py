"""Batches of any source: which examples, in which order, which slice, mixed with which; nothing but the seed decides them."""

import pytest
import torch

from image_files import write_mixed_folder
from logitkd.data import DataConfig, Loader, Mixing, load_images, make_loader
from logitkd.data.batch import Shown
from logitkd.data.memory import MemoryFetcher
from logitkd.data.mixing import Mixer
from logitkd.data.rng import Stream, partners, random_bits
from logitkd.data.workers import WorkerFetcher, default_workers

MIXINGS = {"plain": None, "mixup": Mixing(mixup=0.4), "cutmix": Mixing(cutmix=1.0), "both": Mixing(mixup=0.4, cutmix=1.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_mixed_folder(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(params=["memory", "workers"])
def make(request, parquet_folder, folder):
    """Return a function that makes a loader of either kind: ``make(mixing=None, batch_size=4, workers=1)``."""

    def make(*, workers=0, **options):
        config = DataConfig(source=str(parquet_folder), crop_padding=2)
        if request.param == "workers":
            config = DataConfig(source=str(folder), image_size=12, workers=workers)
        return make_loader(
            load_images(config), config, **{"train": True, "batch_size": 4, "device": "cpu", "seed": 7, **options}
        )

    return make


def gather(batches):
    """All batches as one, in row order."""
    inputs, labels, index = (torch.cat(parts) for parts in zip(*batches, strict=True))
    rows = index.argsort()
    return inputs[rows], labels[rows], index[rows]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("mixing", MIXINGS.values(), ids=list(MIXINGS))
def test_batch_size_workers_and_where_an_epoch_is_entered_change_no_view(make, mixing):
    whole = list(make(mixing=mixing).epoch(3))
    expected = gather(whole)
    for options in ({"batch_size": 1}, {"batch_size": 7}, {"batch_size": 100}, {"workers": 1}, {"channels_last": True}):
        found = gather(make(mixing=mixing, **options).epoch(3))
        assert torch.equal(found[2], expected[2])
        torch.testing.assert_close(found[:2], expected[:2], rtol=0, atol=0), options
    tail = list(make(mixing=mixing).epoch(3, start_step=1))
    assert len(tail) == len(whole) - 1
    assert all(same(*pair) for pair in zip(whole[1:], tail, strict=True))
    assert not torch.equal(gather(make(mixing=mixing).epoch(4))[0], expected[0])
    assert not torch.equal(gather(make(mixing=mixing, seed=8).epoch(3))[0], expected[0])


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "both"])
def test_an_image_is_mixed_with_its_partners_own_view_of_the_epoch(make, kind):
    mixing = MIXINGS[kind]
    plain, labels, index = gather(make().epoch(2))
    partner = partners(len(index), 7, 2)
    mixer = Mixer(mixup=mixing.mixup, cutmix=mixing.cutmix, num_classes=3)
    bits = random_bits(7, 2, index, Stream.MIXING)
    inputs, shares = mixer(plain, plain[partner], labels, labels[partner], bits)
    found = gather(make(mixing=mixing).epoch(2))
    torch.testing.assert_close(found[0], inputs, rtol=0, atol=0)
    torch.testing.assert_close(found[1], shares, rtol=0, atol=0)
    assert found[1].shape == (len(index), 3)
    assert not torch.equal(found[0], plain)


def test_mixing_changes_neither_the_order_nor_evaluation(make):
    plain, mixed = make(), make(mixing=MIXINGS["both"])
    assert all(torch.equal(a.index, b.index) for a, b in zip(plain.epoch(2), mixed.epoch(2), strict=True))
    evaluation = make(train=False, mixing=MIXINGS["both"])
    assert all(same(*pair) for pair in zip(evaluation.epoch(1), make(train=False).epoch(1), strict=True))


def test_images_alone_are_mixed_without_labels(make):
    given, none = (gather(make(mixing=Mixing(mixup=0.4, labels=labels)).epoch(1)) for labels in (True, False))
    assert torch.equal(given[0], none[0])
    assert torch.equal(none[1], gather(make().epoch(1))[1])


def test_missing_labels_are_not_mixed(make):
    loader = make()
    mixer = Mixing(mixup=1.0).mixer(3, "cpu")
    labels = torch.full((len(loader.fetcher),), -1)
    with pytest.raises(ValueError, match=r"`labels` must all be there to be mixed.*Mix the images alone"):
        Loader(loader.fetcher, labels, batch_size=4, device="cpu", mixer=mixer)


@pytest.mark.parametrize("mixing", [None, MIXINGS["both"]], ids=["plain", "both"])
@pytest.mark.parametrize(("batch_size", "count"), [(4, 2), (5, 3), (7, 4), (11, 11), (100, 2)], ids=str)
def test_the_slices_of_all_ranks_in_their_order_are_the_batch(make, batch_size, count, mixing):
    options = {"batch_size": batch_size, "mixing": mixing}
    whole = make(**options)
    parts = [make(**options, part=(rank, count)) for rank in range(count)]
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *slices in zip(whole.epoch(2, 1), *(part.epoch(2, 1) for part in parts), strict=True):
        sizes = [len(piece.index) for piece in slices]
        assert max(sizes) - min(sizes) <= 1
        assert same(batch, [torch.cat(parts) for parts in zip(*slices, strict=True)])


class Vectors:
    """A fetcher of plain vectors, as a task of its own may bring one."""

    def __init__(self, values):
        self.values, self.shape, self.device = values, tuple(values.shape[1:]), values.device

    def __len__(self):
        return len(self.values)

    def fetch(self, requests):
        for rows, bits in requests:
            yield self.values[rows] + (bits & 1).unsqueeze(1) * 100


def test_a_fetcher_of_ones_own():
    values = torch.arange(22.0).view(11, 2)
    loader = Loader(Vectors(values), torch.arange(11), batch_size=4, device="cpu", seed=3, shuffle=True)
    assert (len(loader), loader.shape) == (3, (2,))
    inputs, labels, index = gather(loader.epoch(1))
    assert torch.equal(index, torch.arange(11))
    assert torch.equal(labels, index)
    shift = (random_bits(3, 1, index, Stream.VIEW) & 1).unsqueeze(1) * 100
    assert torch.equal(inputs, values + shift)
    assert shift.unique().tolist() == [0, 100]


def test_a_fetcher_may_bring_the_labels():
    class Places(Vectors):
        def fetch(self, requests):
            for rows, _ in requests:
                yield Shown(self.values[rows], self.values[rows].long() + 100)

    loader = Loader(Places(torch.arange(22.0).view(11, 2)), torch.zeros(11).long(), batch_size=4, device="cpu", shuffle=True)
    inputs, labels, index = gather(loader.epoch(1))
    assert torch.equal(index, torch.arange(11))
    assert torch.equal(inputs.long(), torch.arange(22).view(11, 2))
    assert torch.equal(labels, torch.arange(100, 122).view(11, 2))


def test_a_fetcher_is_closed_with_its_epoch():
    closed = []

    class Watched(Vectors):
        def fetch(self, requests):
            try:
                yield from super().fetch(requests)
            finally:
                closed.append(True)

    batches = Loader(Watched(torch.zeros(4, 1)), torch.zeros(4).long(), batch_size=1, device="cpu").epoch(1)
    next(batches)
    batches.close()
    assert closed == [True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": (2, 2)}, r"`part\[0\]` must be in \[0, 1\] \(`part\[1\]` - 1\), got 2"),
        ({"part": (0, 0)}, r"`part\[1\]` must be in \[1, 4\] .*got 0"),
        ({"part": (0, 5)}, r"`part\[1\]` must be in \[1, 4\] \(`batch_size`: each process takes a share .*got 5"),
        ({"batch_size": 0}, "`batch_size` must be .*1, got 0"),
        ({"seed": -1}, r"`seed` must be in \[0, "),
        ({"labels": torch.zeros(3).long()}, "`labels` must be one a row of the fetcher, 11, got 3"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(options, message):
    good = {"labels": torch.zeros(11).long(), "batch_size": 4, "device": "cpu"}
    with pytest.raises(ValueError, match=message):
        Loader(Vectors(torch.zeros(11, 2)), **{**good, **options})


@pytest.mark.parametrize("train", [True, False])
def test_small_images_live_on_the_device(parquet_folder, train):
    config = DataConfig(source=str(parquet_folder), crop_padding=2)
    loader = make_loader(load_images(config), config, train=train, batch_size=4, device="cpu", seed=7, channels_last=True)
    assert isinstance(loader.fetcher, MemoryFetcher)
    assert (loader.seed, loader.shuffle, loader.shape) == (7, train, (3, 6, 5))
    assert (loader.fetcher.crop_padding, loader.fetcher.flip) == ((2, True) if train else (0, False))
    assert next(loader.epoch(1)).inputs.is_contiguous(memory_format=torch.channels_last)


def test_no_flip_means_no_flip(parquet_folder):
    config = DataConfig(source=str(parquet_folder), crop_padding=0, flip=False)
    data = load_images(config)
    images = {
        train: torch.cat(
            [b.inputs[b.index.argsort()] for b in make_loader(data, config, train=train, batch_size=99, device="cpu").epoch(1)]
        )
        for train in (True, False)
    }
    plain = (data.train.images / 255 - torch.tensor(data.mean).view(3, 1, 1)) / torch.tensor(data.std).view(3, 1, 1)
    torch.testing.assert_close(images[True], plain)
    assert len(images[False]) == 6


@pytest.mark.parametrize(("given", "workers"), [(0, 0), (2, 2), (None, default_workers())])
def test_images_of_any_size_come_from_workers(folder, given, workers):
    config = DataConfig(source=str(folder), image_size=8, workers=given)
    loader = make_loader(load_images(config), config, train=True, batch_size=4, device="cpu", seed=5)
    assert isinstance(loader.fetcher, WorkerFetcher)
    assert (loader.fetcher.workers, loader.seed, loader.shuffle, loader.shape) == (workers, 5, True, (3, 8, 8))


def test_evaluation_is_neither_shuffled_nor_augmented(folder):
    config = DataConfig(source=str(folder), image_size=8, transforms=("randaugment", "random_crop"), workers=0)
    loader = make_loader(load_images(config), config, train=False, batch_size=4, device="cpu", seed=5)
    assert not loader.shuffle
    assert torch.equal(next(loader.epoch(1)).inputs, next(loader.epoch(2)).inputs)


class Places:
    """Fetches each row's own number."""

    device, shape = torch.device("cpu"), ()

    def __len__(self):
        return 50

    def fetch(self, requests):
        for rows, _ in requests:
            yield rows


def by_length(**options):
    lengths = torch.arange(50) % 7 + 1
    given = {"batch_size": 8, "device": "cpu", "seed": 3, "shuffle": True, "lengths": lengths, **options}
    return Loader(Places(), lengths, **given)


def test_batches_by_length_hold_every_row_once_and_are_the_same_wherever_an_epoch_is_entered():
    whole = list(by_length().epoch(2))
    assert sorted(torch.cat([batch.index for batch in whole]).tolist()) == list(range(50))
    assert all(torch.equal(batch.inputs, batch.index) for batch in whole)
    for first, second in zip(whole[3:], by_length().epoch(2, start_step=3), strict=True):
        assert same(first, second)
    assert max(int(batch.labels.max() - batch.labels.min()) for batch in whole[:-1]) <= 2


def test_slices_of_batches_by_length_are_those_batches():
    parts = [list(by_length(part=(rank, 3)).epoch(1)) for rank in range(3)]
    for step, batch in enumerate(by_length().epoch(1)):
        assert torch.equal(torch.cat([part[step].index for part in parts]), batch.index)


def test_without_a_new_order_the_longest_come_first():
    labels = torch.cat([batch.labels for batch in by_length(shuffle=False).epoch(1)])
    assert labels.tolist() == sorted(labels.tolist(), reverse=True)
