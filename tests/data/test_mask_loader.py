from dataclasses import replace

import numpy as np
import pytest
import torch

from logitkd.data import UNLABELLED, VOID, MaskConfig, load_masks
from logitkd.data.mask_loader import mask_loader
from logitkd.data.mask_views import TrainingView
from logitkd.data.rng import Stream, permutation, random_bits
from mask_files import HEIGHT, WIDTH, colours, numbers, png, write_masked_parquet, write_scenes

IMAGENET = [torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
AUGMENTED = {"scale": (0.5, 2.0), "color_jitter": 0.3, "crop_size": (10, 14)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_scenes(tmp_path_factory.mktemp("scenes"), train=7))


@pytest.fixture
def make(folder):
    """Return a function that makes a loader of the folder: ``make(train=False, batch_size=3, workers=1)``."""

    def make(*, train=True, batch_size=3, seed=0, part=(0, 1), channels_last=False, **options):
        config = MaskConfig(**{"source": folder, "workers": 0, **AUGMENTED, **options})
        options = {"batch_size": batch_size, "seed": seed, "part": part, "channels_last": channels_last}
        return mask_loader(load_masks(config), config, train=train, device="cpu", **options)

    return make


def gather(batches):
    """All batches as one, in row order."""
    images, labels, index = (torch.cat(parts) for parts in zip(*batches, strict=True))
    rows = index.argsort()
    return images[rows], labels[rows], index[rows]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def normalized(pixels):
    mean, std = IMAGENET
    return (torch.from_numpy(pixels.copy()).permute(2, 0, 1) / torch.tensor(255.0) - mean) / std


def test_training_batches_are_views_by_seed_epoch_and_row(make, folder):
    """By hand: decode, view, normalise."""
    loader = make(seed=3)
    config = MaskConfig(folder, **AUGMENTED)
    split, view = load_masks(config).train, TrainingView(config, (10, 14), (0.485, 0.456, 0.406))
    bits = random_bits(3, 2, torch.arange(7), Stream.VIEW)
    images, labels, index = gather(loader.epoch(2))
    assert torch.equal(index, torch.arange(7))
    for row in range(7):
        pixels, classes = view(split.image(row), split.mask(row), int(bits[row]))
        assert torch.equal(images[row], normalized(pixels))
        assert labels[row].tolist() == classes.tolist()
    assert torch.equal(torch.cat([batch.index for batch in loader.epoch(2)]), permutation(7, 3, 2))
    assert (images.dtype, labels.dtype, index.dtype) == (torch.float32, torch.int64, torch.int64)
    assert (loader.shape, images.shape, labels.shape) == ((3, 10, 14), (7, 3, 10, 14), (7, 10, 14))


@pytest.mark.parametrize("train", [True, False])
def test_neither_workers_batch_size_nor_memory_format_change_a_view(make, train):
    expected = gather(make(train=train).epoch(3))
    for options in ({"workers": 2}, {"batch_size": 1}, {"batch_size": 100}, {"channels_last": True}):
        assert same(expected, gather(make(train=train, **options).epoch(3))), options
    assert next(make(channels_last=True).epoch(1)).inputs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("change", [{"epoch": 2}, {"seed": 1}], ids=str)
def test_epoch_and_seed_change_order_and_views(make, change):
    first, second = list(make().epoch(1)), list(make(seed=change.get("seed", 0)).epoch(change.get("epoch", 1)))
    assert not torch.equal(torch.cat([b.index for b in first]), torch.cat([b.index for b in second]))
    assert not torch.equal(gather(first)[1], gather(second)[1])


def test_start_step_gives_the_tail_and_ranks_their_slices(make):
    whole = list(make().epoch(4))
    assert all(same(*pair) for pair in zip(whole[1:], make().epoch(4, 1), strict=True))
    parts = [make(part=(rank, 3)).epoch(4) for rank in range(3)]
    slices = list(zip(*parts, strict=True))
    assert [len(batch.index) for batch in slices[-1]] == [0, 0, 1]  # the views of no image are some, too
    assert all(same(batch, map(torch.cat, zip(*each, strict=True))) for batch, each in zip(whole, slices, strict=True))


def test_evaluation_shows_whole_images_and_masks_of_their_own_size(make):
    plain, resized = (make(train=False, **options) for options in ({}, {"image_size": (8, 6)}))
    assert (plain.shape, resized.shape) == ((3, HEIGHT, WIDTH), (3, 8, 6))
    images, labels, index = gather(plain.epoch(1))
    others, masks, _ = gather(resized.epoch(1))
    assert torch.equal(torch.cat([batch.index for batch in plain.epoch(1)]), torch.arange(3))
    assert others.shape == (3, 3, 8, 6)
    assert torch.equal(masks, labels)
    for row in index.tolist():
        mask = numbers(100 + row).astype(np.int64)
        assert torch.equal(images[row], normalized(colours(numbers(100 + row))))
        assert np.array_equal(labels[row].numpy(), np.where(mask == 255, VOID, mask))


def test_images_of_several_sizes(tmp_path):
    masks = [numbers(row, 9 + row, 20 - row) for row in range(4)]
    for split in ("train", "val"):
        write_masked_parquet(tmp_path / f"{split}.parquet", masks)
    config = MaskConfig(str(tmp_path), workers=0)
    data = load_masks(config)
    assert data.train.size is None
    assert data.summary() == "4 training and 4 evaluation images with masks of 3 classes: 0, 1, 2"
    options = {"batch_size": 4, "device": "cpu"}
    batches = list(mask_loader(data, config, train=False, **options).epoch(1))
    assert [tuple(batch.inputs.shape[2:]) for batch in batches] == [mask.shape for mask in masks]
    assert [tuple(batch.labels.shape) for batch in batches] == [(1, *mask.shape) for mask in masks]
    with pytest.raises(
        ValueError, match=r"^`data.crop_size` must be given where .* 9 to 12 x 17 to 20 pixels\. .* \[12, 20\], or"
    ):
        mask_loader(data, config, train=True, **options)
    both = {"crop_size": (5, 30), "image_size": (8, 8)}
    for given, size in (({"crop_size": (5, 30)}, (5, 30)), ({"image_size": (8, 8)}, (8, 8)), (both, (5, 30))):
        (batch,) = mask_loader(data, replace(config, **given), train=True, **options).epoch(1)
        assert (batch.inputs.shape[2:], batch.labels.shape[1:]) == (size, size)
    batches = list(mask_loader(data, replace(config, image_size=(8, 8)), train=False, **options).epoch(1))
    assert [(tuple(batch.inputs.shape), tuple(batch.labels.shape[1:])) for batch in batches] == [
        ((1, 3, 8, 8), mask.shape) for mask in masks
    ]


def test_what_has_no_label(tmp_path):
    void = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    write_masked_parquet(tmp_path / "train.parquet", [numbers(0), None, void])
    write_masked_parquet(tmp_path / "val.parquet", [numbers(1)])
    config = MaskConfig(str(tmp_path), workers=0, crop_size=(20, 30), scale=(1, 1))
    data = load_masks(config)
    batches = {int(batch.index): batch for batch in mask_loader(data, config, train=True, batch_size=1, device="cpu").epoch(1)}
    found = {row: set(batch.labels.unique().tolist()) for row, batch in batches.items()}
    assert found == {0: {VOID, 0, 1, 2}, 1: {VOID, UNLABELLED}, 2: {VOID}}
    assert int((batches[1].labels == UNLABELLED).sum()) == HEIGHT * WIDTH
    data = load_masks(config, labels="none")
    (batch,) = mask_loader(data, config, train=True, batch_size=3, device="cpu").epoch(1)
    assert batch.labels.unique().tolist() == [UNLABELLED, VOID]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_is_named(tmp_path, workers):
    write_scenes(tmp_path)
    images = [colours(numbers(0)), png(colours(numbers(1)))[:-40], colours(numbers(2))]
    config = MaskConfig(str(tmp_path), workers=workers)
    write_masked_parquet(tmp_path / "train.parquet", [numbers(row) for row in range(3)], images)
    loader = mask_loader(load_masks(config), config, train=True, batch_size=1, device="cpu")
    with pytest.raises(ValueError, match=r"^cannot decode the image in .*train.parquet, row 1: "):
        list(loader.epoch(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_batches_equal_cpu_batches(folder):
    config = MaskConfig(folder, workers=1)
    loaders = [mask_loader(load_masks(config), config, train=True, batch_size=3, device=device) for device in ("cpu", "cuda")]
    for first, second in zip(*(loader.epoch(1) for loader in loaders), strict=True):
        assert all(torch.equal(a, b.cpu()) for a, b in zip(first, second, strict=True))
