"""The copy with wrong labels: how many, which, and that nothing else changes."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from datasets import Value

from image_files import SHAPES, write_parquet
from logitkd.data import DataConfig, load_images

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from noisy_labels import write_noisy, wrong_labels  # noqa: E402


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "shapes"
    folder.mkdir()
    write_parquet(folder / "train-00000-of-00002.parquet", range(7))
    write_parquet(folder / "train-00001-of-00002.parquet", range(7, 30))
    write_parquet(folder / "test.parquet", range(100, 106))
    return folder


def test_only_the_labels_asked_for_change(source, tmp_path):
    assert write_noisy(source, tmp_path / "noisy", 0.4, seed=3) == (12, 30)
    clean, noisy = (load_images(DataConfig(source=str(folder))) for folder in (source, tmp_path / "noisy"))
    assert noisy.classes == clean.classes == tuple(SHAPES)
    assert torch.equal(noisy.train.images, clean.train.images)
    assert (noisy.train.labels != clean.train.labels).sum() == 12
    assert torch.equal(noisy.train.labels, wrong_labels(clean.train.labels, 3, 0.4, 3))
    assert (tmp_path / "noisy" / "test.parquet").read_bytes() == (source / "test.parquet").read_bytes()
    for path in source.glob("train-*"):
        before, after = pq.read_table(path), pq.read_table(tmp_path / "noisy" / path.name)
        assert after.schema.equals(before.schema, check_metadata=True)
        assert after["img"].equals(before["img"])  # the encoded bytes
    assert not list(tmp_path.glob("*.partial"))


def test_the_seed_decides_and_a_larger_share_keeps_the_changes():
    labels = torch.arange(10_000) % 5
    some, more, other = (wrong_labels(labels, 5, share, seed) for share, seed in ((0.2, 0), (0.5, 0), (0.2, 1)))
    changed = some != labels
    assert changed.sum() == 2000
    assert torch.equal(more[changed], some[changed])
    assert not torch.equal(some, other)
    # Every other class is as likely: 500 of 2000 each, five standard deviations are 97.
    steps = torch.bincount((some - labels)[changed] % 5, minlength=5)
    assert steps[0] == 0
    assert (steps[1:] - 500).abs().max() < 97
    assert (torch.bincount(labels[changed], minlength=5) - 400).abs().max() < 90


def test_names_as_labels(source, tmp_path):
    for path in source.glob("*.parquet"):
        path.unlink()
    write_parquet(source / "train.parquet", range(6), labels=list("abcabc"), label_type=Value("string"))
    write_parquet(source / "test.parquet", range(3), labels=list("abc"), label_type=Value("string"))
    assert write_noisy(source, tmp_path / "noisy", 0.5, column="kind") == (3, 6)
    written = pq.read_table(tmp_path / "noisy" / "train.parquet")["kind"].to_pylist()
    assert sum(a != b for a, b in zip(written, "abcabc", strict=True)) == 3
    assert set(written) <= set("abc")


def test_the_command(source, tmp_path):
    command = [sys.executable, BENCHMARKS / "noisy_labels.py", source, tmp_path / "noisy", "--share", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'noisy'}: 3 of 30 labels of `train` are wrong (seed 0).\n"


def test_bad_input(source, tmp_path):
    with pytest.raises(FileExistsError, match="must not be there yet"):
        write_noisy(source, source)
    with pytest.raises(ValueError, match="must be a folder of parquet files"):
        write_noisy(tmp_path, tmp_path / "noisy")
    with pytest.raises(ValueError, match=r"`share` must be in \[0, 1\], got 40"):
        write_noisy(source, tmp_path / "noisy", 40)
    with pytest.raises(ValueError, match=r"no split `valid`"):
        write_noisy(source, tmp_path / "noisy", eval_split="valid")
    assert not (tmp_path / "noisy").exists()
