"""Fingerprints of data that are known already: without reading anything, and only where they are still true."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from image_files import SIX, write_image_folder, write_mixed_folder
from logitkd.data import DataConfig, load_images
from logitkd.data.fingerprint import SHAPING, data_fingerprint
from logitkd.data.images import ImageSplit, channel_statistics


def age(folder):
    for path in folder.rglob("*"):
        os.utime(path, ns=(0, time.time_ns() - 60 * 10**9))


@pytest.fixture(params=["parquet", "images", "any size", "any size in parquet"])
def config(request, parquet_folder, tmp_path):
    root = parquet_folder
    if request.param == "images":
        root = write_image_folder(tmp_path / "images", SIX)
    elif request.param == "any size":
        root = write_mixed_folder(tmp_path / "mixed")
    age(root)
    return DataConfig(str(root), image_size=8 if "any size" in request.param else None)


@pytest.fixture
def no_reading(monkeypatch):
    """Return a function after which no data can be read."""

    def refuse(*args, **options):
        raise AssertionError("read although it is known")

    def begin():
        monkeypatch.setattr("logitkd.data.images.ImageSplit.update", refuse)
        monkeypatch.setattr("logitkd.data.encoded.EncodedSplit.update", refuse)

    return begin


def test_a_known_fingerprint_is_the_same_and_read_from_nothing(config, no_reading):
    assert data_fingerprint(config) is None
    first = load_images(config)
    assert data_fingerprint(config) is None  # nobody has asked for it yet
    fingerprint = first.fingerprint
    no_reading()
    assert data_fingerprint(config) == load_images(config).fingerprint == fingerprint


def test_every_setting_that_matters_is_told_apart(parquet_folder):
    config = DataConfig(str(parquet_folder))
    age(parquet_folder)
    variants = [
        (config, 0, "given"),
        (config, 0, "none"),
        (replace(config, image_size=8), 0, "given"),
        (replace(config, eval_split="train"), 0, "given"),
        (replace(config, train_split="test"), 0, "given"),
        (replace(config, eval_split="valid", eval_fraction=0.3), 0, "given"),
        (replace(config, eval_split="valid", eval_fraction=0.5), 0, "given"),
        (replace(config, train_per_class=2), 0, "given"),
        (replace(config, train_per_class=2), 1, "given"),
        (replace(config, train_per_class=3), 0, "given"),
        (replace(config, label_column="kind"), 0, "given"),
        (replace(config, image_column="img"), 0, "given"),
    ]
    found = []
    for data, seed, labels in variants:
        assert data_fingerprint(data, seed=seed, labels=labels) is None, (data, seed, labels)
        found.append(load_images(data, seed, labels=labels).fingerprint)
    known = [data_fingerprint(data, seed=seed, labels=labels) for data, seed, labels in variants]
    assert known == found
    assert len(set(found)) == len(found) - 2  # naming the columns there are changes nothing


def test_what_cannot_matter_is_not_told_apart(parquet_folder):
    config = DataConfig(str(parquet_folder))
    age(parquet_folder)
    fingerprint = load_images(config).fingerprint
    others = replace(config, crop_padding=0, flip=False, workers=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert data_fingerprint(others, seed=5) == load_images(others, seed=5).fingerprint == fingerprint
    assert all(hasattr(config, name) for name in SHAPING)


def test_changed_data_are_not_known(config):
    before = load_images(config).fingerprint
    files = sorted(path for path in Path(config.source).rglob("*") if path.is_file())
    if files[0].suffix == ".parquet":
        pq.write_table(pq.read_table(files[0]).slice(1), files[0])
    else:
        files[0].unlink()
    assert data_fingerprint(config) is None
    assert load_images(config).fingerprint != before


def test_data_that_changed_after_they_were_loaded_are_not_mistaken(parquet_folder):
    config = DataConfig(str(parquet_folder))
    age(parquet_folder)
    data = load_images(config)
    path = parquet_folder / "test.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    age(parquet_folder)
    before = data.fingerprint  # of what was loaded
    assert data_fingerprint(config) is None
    assert load_images(config).fingerprint != before


def test_data_that_change_while_they_are_loaded_are_not_mistaken(parquet_folder, monkeypatch):
    config = DataConfig(str(parquet_folder))
    age(parquet_folder)

    def change(images):
        path = parquet_folder / "test.parquet"
        pq.write_table(pq.read_table(path).slice(1), path)
        age(parquet_folder)
        return channel_statistics(images)

    with monkeypatch.context() as patch:
        patch.setattr("logitkd.data.source.channel_statistics", change)  # all files are read by then
        before = load_images(config).fingerprint
    assert data_fingerprint(config) is None
    assert load_images(config).fingerprint != before


def test_data_made_from_others_have_a_fingerprint_of_their_own(parquet_folder):
    config = DataConfig(str(parquet_folder))
    age(parquet_folder)
    data = load_images(config)
    other = replace(data, train=ImageSplit(data.train.images[1:], data.train.labels[1:]))
    assert other.fingerprint != data.fingerprint
    assert data_fingerprint(config) == data.fingerprint


def test_the_digits_are_known_too():
    assert data_fingerprint(DataConfig()) is None
    fingerprint = load_images(DataConfig()).fingerprint
    assert data_fingerprint(DataConfig()) == fingerprint
    assert data_fingerprint(DataConfig(train_per_class=5)) is None


def test_the_hub_is_never_known_and_nothing_is_an_error(tmp_path):
    assert data_fingerprint(DataConfig("some-owner/no-such-set")) is None
    with pytest.raises(FileNotFoundError, match=r"`data\.source` must be"):
        data_fingerprint(DataConfig(str(tmp_path / "gone")))
