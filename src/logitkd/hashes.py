"""Hashes of files and folders that are kept: what has not changed since, by path, size and time, is not read again.

They lie in the folder given by the environment variable ``LOGITKD_CACHE``, by default ``~/.cache/logitkd``; they can be removed
at any time. What cannot be written, or does not hold what was put in, is as good as none.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Snapshot", "cache_folder", "remembered", "snapshot", "write_cached"]

# A file so new may be written again with no other size and no other time: clocks of file systems tick up to two seconds apart.
JUST_NOW = 2_000_000_000  # nanoseconds


def cache_folder() -> Path:
    """Return the folder of cached files (it need not exist)."""
    return Path(os.environ.get("LOGITKD_CACHE") or Path.home() / ".cache" / "logitkd")


def write_cached(path: Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` write a file elsewhere and move it to ``path``: other processes see all of it or none.

    That it cannot be written is no error (no permission, disk full): it is computed again next time.
    """
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")  # a name of its own: several may write at a time
        os.close(handle)
        try:
            write(Path(name))
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


def remembered(kind: str, paths: Iterable[str | os.PathLike[str]], compute: Callable[[], str]) -> str:
    """Return ``compute()``, or what it returned before if no file was changed, added or removed since.

    Args:
        kind: says what is computed and everything beside the files that it depends on.
        paths: files, and folders with all that is in them.
        compute: reads them and returns a line of text.
    """
    before = snapshot(kind, paths)
    value = before.known()
    if value is None:
        value = compute()
        before.keep(value)
    return value


@dataclass(frozen=True)
class Snapshot:
    """What files were like at a moment: take it before they are read, keep with it what came of reading them.

    Args:
        kind: as in :func:`remembered`.
        paths: likewise, absolute.
        state: a digest of the name, size and time of modification of every file.
        settled: whether none was modified so lately that it may change once more without a trace.
    """

    kind: str
    paths: tuple[str, ...]
    state: str
    settled: bool

    def known(self) -> str | None:
        """Return what was kept of files in this very state, or ``None``."""
        try:
            value, seal = self._store.read_text().splitlines()
        except (OSError, ValueError):  # absent, cut off, not ours
            return None
        return value if seal == self._seal(value) else None

    def keep(self, value: str) -> None:
        """Keep ``value``, a line of text, unless files have changed meanwhile or may still do so without a trace."""
        if not self.settled or snapshot(self.kind, self.paths).state != self.state:
            return
        write_cached(self._store, lambda aside: aside.write_text(f"{value}\n{self._seal(value)}\n"))

    @property
    def _store(self) -> Path:
        return cache_folder() / "hashes" / _digest(self.kind, *self.paths)[:32]

    def _seal(self, value: str) -> str:
        """Return what binds ``value`` to the state: neither holds without the other."""
        return _digest(self.state, value)


def snapshot(kind: str, paths: Iterable[str | os.PathLike[str]]) -> Snapshot:
    """Return what the files at ``paths`` are like now; none is opened."""
    now, newest = time.time_ns(), 0
    absolute = tuple(sorted(os.path.abspath(path) for path in paths))
    digest = hashlib.sha256()
    for path in absolute:
        for name, size, modified in _files(path):
            digest.update(f"{name}\0{size}\0{modified}\0".encode(errors="surrogateescape"))
            newest = max(newest, modified)
    return Snapshot(kind, absolute, digest.hexdigest(), newest < now - JUST_NOW)


def _files(path: str, around: tuple[str, ...] = ()) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of ``path`` or of all that is in it, in order; -1 and 0 of what is no file.

    Links are followed, but not into a folder that they lie in.
    """
    try:
        about = os.stat(path)
        names = sorted(os.listdir(path)) if stat.S_ISDIR(about.st_mode) else None
    except OSError:  # a link to nothing, a folder one may not read
        yield path, -1, 0
        return
    if names is None:
        yield path, about.st_size, about.st_mtime_ns
        return
    yield path + os.sep, -1, 0  # an empty folder counts, too
    real = os.path.realpath(path)
    if real not in around:
        for name in names:
            yield from _files(os.path.join(path, name), (*around, real))


def _digest(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode(errors="surrogateescape")
        digest.update(len(content).to_bytes(8) + content)
    return digest.hexdigest()
