import pytest
import torch

from image_files import write_mixed_folder
from logitkd.data import DataConfig, DeviceLoader, load_images, make_loader
from logitkd.data.workers import WorkerLoader, default_workers


@pytest.mark.parametrize("train", [True, False])
def test_small_images_live_on_the_device(parquet_folder, train):
    config = DataConfig(source=str(parquet_folder), crop_padding=2)
    data = load_images(config)
    loader = make_loader(data, config, train=train, batch_size=4, device="cpu", seed=7, channels_last=True)
    expected = DeviceLoader(
        data.train if train else data.eval,
        batch_size=4,
        device="cpu",
        mean=data.mean,
        std=data.std,
        seed=7,
        shuffle=train,
        crop_padding=2 if train else 0,
        flip=train,
        channels_last=True,
    )
    assert loader.shape == expected.shape == (3, 6, 5)
    for first, second in zip(loader.epoch(2), expected.epoch(2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert first.inputs.is_contiguous(memory_format=torch.channels_last)


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
def test_images_of_any_size_come_from_workers(tmp_path, given, workers):
    config = DataConfig(source=str(write_mixed_folder(tmp_path)), image_size=8, workers=given)
    loader = make_loader(load_images(config), config, train=True, batch_size=4, device="cpu", seed=5)
    assert isinstance(loader, WorkerLoader)
    assert (loader.workers, loader.seed, loader.shuffle, loader.shape) == (workers, 5, True, (3, 8, 8))


def test_evaluation_is_neither_shuffled_nor_augmented(tmp_path):
    config = DataConfig(
        source=str(write_mixed_folder(tmp_path)), image_size=8, transforms=("randaugment", "random_crop"), workers=0
    )
    loader = make_loader(load_images(config), config, train=False, batch_size=4, device="cpu", seed=5)
    assert not loader.shuffle
    assert torch.equal(next(loader.epoch(1)).inputs, next(loader.epoch(2)).inputs)
