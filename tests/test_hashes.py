"""Hashes that are kept: read again whenever something changed, and never where nothing did."""

import os
import subprocess
import sys
import threading
import time

import pytest

from logitkd.hashes import cache_folder, remembered, snapshot


@pytest.fixture(autouse=True)
def store(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LOGITKD_CACHE", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path):
    """Two files and an empty folder, all a minute old."""
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a" / "one.png").write_text("one")
    (root / "two.txt").write_text("two")
    age(root)
    return root


def age(folder, seconds=60):
    """Let all files be of one moment so many seconds ago."""
    then = time.time_ns() - int(seconds * 1e9)
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(0, then))


class Reader:
    """Hashes by reading; counts how often."""

    def __init__(self, *paths):
        self.paths, self.times = paths, 0

    def __call__(self):
        self.times += 1
        files = [file for path in self.paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
        return "|".join(file.read_text() for file in files if file.is_file())


def ask(*paths, kind="kind"):
    """Return what is remembered of ``paths``, and how often they were read for it."""
    reader = Reader(*paths)
    return remembered(kind, paths, reader), reader.times


def test_what_has_not_changed_is_read_once(folder):
    assert ask(folder) == ("one|two", 1)
    assert ask(folder) == ("one|two", 0)


def rewrite(folder):
    (folder / "two.txt").write_text("2")
    age(folder)  # to the old time within a second


def grow(folder):
    before = os.stat(folder / "two.txt")
    (folder / "two.txt").write_text("two more")
    os.utime(folder / "two.txt", ns=(before.st_atime_ns, before.st_mtime_ns))


def touch_by_a_nanosecond(folder):
    before = os.stat(folder / "two.txt")
    os.utime(folder / "two.txt", ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def add(folder):
    (folder / "a" / "three.png").write_text("three")
    age(folder)


def rename(folder):
    (folder / "a" / "one.png").rename(folder / "a" / "uno.png")


@pytest.mark.parametrize(
    "change",
    [
        rewrite,
        grow,
        touch_by_a_nanosecond,
        add,
        rename,
        lambda folder: (folder / "two.txt").unlink(),
        lambda folder: (folder / "empty").rmdir(),
        lambda folder: (folder / "other").mkdir(),
        lambda folder: (folder / "link").symlink_to("nothing"),
    ],
    ids=["rewrite", "grow", "touch", "add", "rename", "remove", "remove folder", "add folder", "add dangling link"],
)
def test_every_change_is_seen(folder, change):
    ask(folder)
    change(folder)
    assert ask(folder)[1] == 1


def test_a_file_behind_a_link_counts(folder, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (folder / "link").symlink_to(tmp_path / "real")
    (folder / "circle").symlink_to(folder)
    age(tmp_path)
    reads = [ask(folder)[1] for _ in range(2)]
    (tmp_path / "real" / "file").write_text("xx")
    assert [*reads, ask(folder)[1]] == [1, 0, 1]


@pytest.mark.parametrize("seconds", [0, 1.9, -3600])
def test_files_modified_just_now_are_not_trusted(folder, seconds):
    """They may be written again in the same tick of the clock."""
    age(folder, seconds)
    assert [ask(folder)[1] for _ in range(2)] == [1, 1]
    age(folder, 3)
    assert [ask(folder)[1] for _ in range(2)] == [1, 0]


def test_what_was_computed_while_files_were_others_is_not_kept(folder):
    """Even if they are as before afterwards."""
    path = folder / "two.txt"
    before = os.stat(path)

    def compute():
        path.write_text("ten")
        age(folder, 30)
        return "of others"

    assert remembered("kind", [folder], compute) == "of others"
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(folder / "a" / "one.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ask(folder) == ("one|two", 1)


def test_kinds_and_paths_do_not_meet(folder):
    ask(folder)
    assert ask(folder, kind="other")[1] == 1
    assert ask(folder / "two.txt") == ("two", 1)
    assert ask(folder / "two.txt", folder / "a")[1] == 1
    assert ask(folder / "a", folder / "two.txt")[1] == 0  # the order of the paths says nothing
    assert ask(folder)[1] == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-10],
        lambda text: "x" + text[1:],
        lambda text: text + "more\n",
        lambda text: text.replace("\n", ""),
    ],
    ids=["empty", "cut", "flipped", "longer", "joined"],
)
def test_a_damaged_store_is_as_good_as_none(folder, store, damage):
    ask(folder)
    (file,) = (store / "hashes").iterdir()
    file.write_text(damage(file.read_text()))
    assert [ask(folder) for _ in range(2)] == [("one|two", 1), ("one|two", 0)]


def test_a_store_of_bytes_is_as_good_as_none(folder, store):
    ask(folder)
    (file,) = (store / "hashes").iterdir()
    file.write_bytes(b"\xff\xfe\n\xff\n")
    assert ask(folder) == ("one|two", 1)


def test_a_store_that_cannot_be_written_is_no_error(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LOGITKD_CACHE", str(tmp_path / "file"))
    assert [ask(folder) for _ in range(2)] == [("one|two", 1)] * 2


def test_nothing_half_written_stays(folder, store):
    ask(folder)
    (file,) = (store / "hashes").iterdir()
    file.unlink()
    (file / "x").mkdir(parents=True)  # the final name is a folder: the rename fails after the writing
    assert ask(folder) == ("one|two", 1)
    assert list((store / "hashes").iterdir()) == [file]


def test_writers_at_one_time_leave_a_whole_store(folder, store):
    threads = [threading.Thread(target=lambda: [snapshot("kind", [folder]).keep("value") for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list((store / "hashes").iterdir())) == 1
    assert snapshot("kind", [folder]).known() == "value"


def test_the_folder_by_default(monkeypatch):
    monkeypatch.delenv("LOGITKD_CACHE")
    assert cache_folder().parts[-2:] == (".cache", "logitkd")


def test_it_loads_no_torch():
    code = (
        "import sys, logitkd.hashes, logitkd.data.fingerprint; assert not {'torch', 'datasets', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
