"""Files that are whole or absent: written aside, forced to the disk, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ASIDE", "sync_folder", "write_atomic", "writing"]

ASIDE = ".new"  # added to the name of a file of ours while it is being written


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say which file it was, and what to do, where writing ``path`` fails."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} could not be written ({error.strerror}). Free some space and run the same command again",
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
