"""Small sources on disk, and a slice of the real CIFAR-100 where it is found."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from image_files import write_parquet


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LOGITKD_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def parquet_folder(tmp_path):
    """Twelve training images in two files, six test images in one."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    write_parquet(folder / "train-00000-of-00002.parquet", range(7))
    write_parquet(folder / "train-00001-of-00002.parquet", range(7, 12))
    write_parquet(folder / "test.parquet", range(100, 106))
    return folder


@pytest.fixture(scope="session")
def cifar100_slice(tmp_path_factory):
    """The first 600 rows of each CIFAR-100 file, as they are, in a folder of their own."""
    root = Path(os.environ.get("LOGITKD_DATA") or Path(__file__).parents[3] / "shared" / "data") / "cifar100"
    if not root.is_dir():
        pytest.skip("needs CIFAR-100: set LOGITKD_DATA to the folder that has cifar100/")
    folder = tmp_path_factory.mktemp("cifar100")
    for path in sorted(root.glob("*.parquet")):
        pq.write_table(pq.read_table(path).slice(0, 600), folder / path.name)
    return folder
