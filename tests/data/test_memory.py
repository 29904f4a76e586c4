"""Views of small images: what torchvision makes of them, bit by bit, on every device; and the loader's batches of them."""

import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.functional import normalize, to_tensor

from logitkd.data import ImageSplit, Loader, Mixing
from logitkd.data.batch import Normalize
from logitkd.data.memory import MemoryFetcher
from logitkd.data.rng import Stream, random_below, random_bits

MEAN, STD = (0.51, 0.48, 0.44), (0.27, 0.26, 0.28)


def make_split(count=20, height=6, width=5):
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)
    return ImageSplit(images, torch.arange(count) % 4)


def make_loader(
    split=None, *, mean=MEAN, std=STD, device="cpu", channels_last=False, crop_padding=0, flip=False, batch_size=8, **options
):
    split = make_split() if split is None else split
    normalize = Normalize(mean, std, channels=3, device=torch.device(device), channels_last=channels_last)
    fetcher = MemoryFetcher(split.images, normalize, device=device, crop_padding=crop_padding, flip=flip)
    return Loader(fetcher, split.labels, batch_size=batch_size, device=device, **options)


TRAINING = {"shuffle": True, "crop_padding": 2, "flip": True}


def gather(batches):
    """All batches of an epoch as one, in row order."""
    images, labels, index = (torch.cat(parts) for parts in zip(*batches, strict=True))
    rows = index.argsort()
    return images[rows], labels[rows], index[rows]


def by_pillow(image, padding, top, left, flip):
    """One training view as torchvision's RandomCrop, RandomHorizontalFlip, ToTensor, Normalize make it."""
    _, height, width = image.shape
    picture = ImageOps.expand(Image.fromarray(image.permute(1, 2, 0).numpy()), padding, fill=0)
    picture = picture.crop((left, top, left + width, top + height))
    if flip:
        picture = ImageOps.mirror(picture)
    return normalize(to_tensor(picture), MEAN, STD)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("height", "width", "padding"), [(32, 32, 4), (8, 8, 1), (7, 5, 2), (1, 9, 1), (6, 6, 0)], ids=str)
def test_views_equal_pillow_and_torchvision_bit_by_bit(height, width, padding, channels_last):
    split = make_split(30, height, width)
    loader = make_loader(split, seed=5, shuffle=True, crop_padding=padding, flip=True, channels_last=channels_last)
    bits = random_bits(5, 3, torch.arange(30), Stream.VIEW)
    tops, lefts = (random_below(bits, 2 * padding + 1, word=word).tolist() for word in (0, 1))
    flips = random_below(bits, 2, word=2).tolist()
    images, labels, index = gather(loader.epoch(3))
    assert torch.equal(index, torch.arange(30))
    assert torch.equal(labels, split.labels)
    assert len(set(flips)) == 2
    for row in range(30):
        expected = by_pillow(split.images[row], padding, tops[row], lefts[row], flips[row])
        assert torch.equal(images[row], expected), f"row {row}"


def test_every_crop_position_occurs():
    split = ImageSplit(torch.arange(1, 17, dtype=torch.uint8).view(1, 1, 4, 4).expand(400, 3, 4, 4), torch.zeros(400).long())
    images, _, _ = gather(make_loader(split, crop_padding=1, mean=(0, 0, 0), std=(1, 1, 1)).epoch(1))
    views, counts = torch.unique(images, dim=0, return_counts=True)
    assert len(views) == 9
    assert counts.min() > 20


def test_evaluation_is_the_split_in_its_own_order():
    split = make_split()
    batches = list(make_loader(split).epoch(1))
    assert torch.equal(torch.cat([batch.index for batch in batches]), torch.arange(20))
    expected = torch.stack([by_pillow(image, 0, 0, 0, False) for image in split.images])
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), expected)


def test_types_sizes_and_last_partial_batch():
    loader = make_loader()
    batches = list(loader.epoch(1))
    assert len(loader) == len(batches) == 3
    assert [len(batch.labels) for batch in batches] == [8, 8, 4]
    assert batches[0].inputs.dtype == torch.float32
    assert batches[0].labels.dtype == batches[0].index.dtype == torch.int64
    assert len(make_loader(batch_size=10)) == len(list(make_loader(batch_size=10).epoch(1))) == 2


def test_a_batch_beyond_the_split_is_one_batch_of_everything():
    loader = make_loader(batch_size=64, **TRAINING)
    (batch,) = loader.epoch(1)
    assert len(loader) == 1
    assert batch.index.sort().values.tolist() == list(range(20))


@pytest.mark.parametrize("start_step", [0, 1, 2, 3])
def test_start_step_gives_exactly_the_tail(start_step):
    loader = make_loader(seed=1, **TRAINING)
    whole = list(loader.epoch(4))
    tail = list(make_loader(seed=1, **TRAINING).epoch(4, start_step))  # as another process would resume
    assert len(tail) == len(whole) - start_step
    for expected, batch in zip(whole[start_step:], tail, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, batch, strict=True))


def test_views_do_not_depend_on_the_batch_size_or_the_memory_format():
    expected = gather(make_loader(**TRAINING).epoch(2))
    for options in ({"batch_size": 3}, {"batch_size": 100}, {"channels_last": True}, {"shuffle": False}):
        result = gather(make_loader(**{**TRAINING, **options}).epoch(2))
        assert all(torch.equal(a, b) for a, b in zip(expected, result, strict=True)), options


def test_order_does_not_depend_on_the_batch_size():
    orders = [torch.cat([batch.index for batch in make_loader(batch_size=size, **TRAINING).epoch(2)]) for size in (1, 7, 20)]
    assert torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], orders[2])


@pytest.mark.parametrize("change", [{"epoch": 2}, {"seed": 1}], ids=str)
def test_epoch_and_seed_change_order_and_views(change):
    epoch = change.get("epoch", 1)
    first = list(make_loader(**TRAINING).epoch(1))
    second = list(make_loader(seed=change.get("seed", 0), **TRAINING).epoch(epoch))
    assert not torch.equal(torch.cat([b.index for b in first]), torch.cat([b.index for b in second]))
    assert not torch.equal(gather(first)[0], gather(second)[0])


@pytest.mark.parametrize("augmented", [{}, TRAINING], ids=["eval", "train"])
def test_channels_last_is_the_memory_format(augmented):
    batch = next(make_loader(channels_last=True, **augmented).epoch(1))
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
    assert next(make_loader(**augmented).epoch(1)).inputs.is_contiguous()


def test_images_on_the_cpu_are_shared_and_left_alone():
    split = make_split()
    before = split.images.clone()
    loader = make_loader(split, **TRAINING)
    assert loader.fetcher._images.data_ptr() == split.images.data_ptr()
    list(loader.epoch(1))
    assert torch.equal(split.images, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be .*1, got 0"),
        ({"seed": -1}, r"`seed` must be in \[0, "),
        ({"crop_padding": -1}, r"`crop_padding` must be in \[0, 5\] .*got -1"),
        ({"crop_padding": 6}, r"`crop_padding` must be in \[0, 5\] .*got 6"),
        ({"mean": (0.5,)}, r"`mean` must have one value a channel \(3\), got \(0.5,\)"),
        ({"std": (0.5, 0.0, 0.5)}, "`std` must be .*above 0, got 0.0"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_loader(**options)


def test_bad_epochs_and_steps_are_refused_at_the_call():
    loader = make_loader()
    with pytest.raises(ValueError, match=r"`epoch` must be .*1, got 0"):
        loader.epoch(0)
    with pytest.raises(ValueError, match=r"`start_step` must be in \[0, 3\] \(the steps of an epoch\), got 4"):
        loader.epoch(1, 4)


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match=r"`labels` must be of at least one example"):
        make_loader(ImageSplit(torch.zeros(0, 3, 4, 4, dtype=torch.uint8), torch.zeros(0).long()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("channels_last", [False, True])
def test_gpu_batches_equal_cpu_batches_without_synchronising(channels_last):
    options = {"seed": 2, "channels_last": channels_last, **TRAINING}
    expected = list(make_loader(**options).epoch(3))
    loader = make_loader(device="cuda", **options)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = list(loader.epoch(3))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for first, second in zip(expected, batches, strict=True):
        assert all(torch.equal(a, b.cpu()) for a, b in zip(first, second, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_batches_are_mixed_without_synchronising():
    loaders = [
        make_loader(device=device, mixer=Mixing(mixup=0.4, cutmix=1.0).mixer(4, device), **TRAINING)
        for device in ("cpu", "cuda")
    ]
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = list(loaders[1].epoch(3))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for first, second in zip(loaders[0].epoch(3), batches, strict=True):
        torch.testing.assert_close(tuple(first), tuple(tensor.cpu() for tensor in second))
