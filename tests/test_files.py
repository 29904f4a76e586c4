import resource
from pathlib import Path

import pytest

from logitkd.files import check_output, write_atomic


def test_replaces_whole(tmp_path):
    path = tmp_path / "a"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    write_atomic(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(OSError, match=r"too large.*Free some space"):
            write_atomic(path, b"x" * 2**17)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_folders_that_nothing_can_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    for path, message in (
        (tmp_path / "file" / "run", r"a folder, but .*/file is a file"),
        (tmp_path / "link" / "run", r"a folder, but .*/link is a link to gone, which is not there"),
        (tmp_path / "loop", "is a link to loop, which is not there"),
    ):
        with pytest.raises(NotADirectoryError, match=message):
            check_output(path)
    with pytest.raises(ValueError, match="`output` must have at most 255 bytes between two slashes, got 300"):
        check_output(tmp_path / ("a" * 300))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("real")
    for path in (tmp_path, tmp_path / "link" / "new", tmp_path / ("a" * 255), Path("new/in/new")):
        check_output(path)
