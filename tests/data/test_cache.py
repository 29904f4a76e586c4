import pytest
import torch
from safetensors.torch import save_file

from logitkd.data.cache import cached
from logitkd.hashes import cache_folder


def tensor():
    return torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2)


def refuse():
    raise AssertionError("made again although it is in the cache")


def stored():
    (path,) = (cache_folder() / "images").iterdir()
    return path


def test_made_once_then_loaded():
    assert torch.equal(cached("key", tensor), tensor())
    assert torch.equal(cached("key", refuse), tensor())
    assert stored().name == "key.safetensors"


def test_another_key_is_made():
    cached("key", tensor)
    assert torch.equal(cached("other", lambda: tensor() + 1), tensor() + 1)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_file_is_made_again_and_replaced(damage):
    cached("key", tensor)
    path = stored()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-5])
    elif damage == "flip":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        save_file({"something": torch.zeros(3)}, path)
    assert torch.equal(cached("key", tensor), tensor())
    assert torch.equal(cached("key", refuse), tensor())


def test_an_unwritable_folder_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LOGITKD_CACHE", str(tmp_path / "file"))
    assert torch.equal(cached("key", tensor), tensor())


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    # The final name is a folder: the rename fails after the writing.
    monkeypatch.setenv("LOGITKD_CACHE", str(tmp_path))
    (tmp_path / "images" / "key.safetensors" / "x").mkdir(parents=True)
    assert torch.equal(cached("key", tensor), tensor())
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["key.safetensors"]
