"""Files that are whole or absent: written aside, forced to the disk, then renamed; and the folders they may go to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from logitkd.checks import check_path

__all__ = ["ASIDE", "check_output", "sync_folder", "write_atomic", "writing"]

ASIDE = ".new"  # added to the name of a file of ours while it is being written


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, one's share of it, the size that a file may have


def check_output(path: Path) -> None:
    """Refuse a folder to write that nothing can be written to, whatever is in it.

    Raises:
        ValueError: it is no name of a folder.
        NotADirectoryError: a file, or a link to what is not there, is in its place or in that of a folder above it.
    """
    check_path("output", path)
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            raise NotADirectoryError(
                f"`output` must be a folder, but {place} is a link to {os.readlink(place)}, which is not there. Is a disk not"
                " mounted?"
            )
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(f"`output` must be a folder, but {place} is a file. Give another path.")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say which file it was, and what to do, where writing ``path`` fails."""
    try:
        yield
    except OSError as error:
        fix = "Free some space" if error.errno in FULL else "Put that right"
        raise OSError(
            error.errno, f"{path} could not be written ({error.strerror}). {fix} and run the same command again"
        ) from error


def sync_folder(folder: Path) -> None:
    """Force a folder's entries (creations, renames) to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, content: bytes | bytearray) -> None:
    """Write ``content`` so that a crash at any moment leaves ``path`` either as it was or complete.

    Raises:
        OSError: the disk is full or the folder cannot be written; ``path`` is then as it was.
    """
    aside = path.with_name(path.name + ASIDE)
    with writing(path):
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # before the rename: else a power cut may leave the new name on no bytes
            os.replace(aside, path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
