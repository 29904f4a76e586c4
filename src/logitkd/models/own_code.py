"""Code that a run folder names: imported only from elsewhere, so that opening a folder runs nothing of it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from logitkd.models.build import find_own
from logitkd.models.names import read_name

__all__ = ["import_recorded", "opening"]


_trusted: set[Path] = set()  # run folders whose code this process has imported


@contextmanager
def opening(folders: Iterable[str | Path], *, trust_code: bool = False) -> Iterator[None]:
    """Keep ``folders`` out of where Python looks for modules while they are open, the current directory if it lies in one, too.

    Else a file there could take the place of any library that is imported meanwhile.

    Args:
        folders: run folders.
        trust_code: whether Python looks into them instead, after everywhere else.
    """
    before = sys.path[:]
    homes = [Path(folder).resolve() for folder in folders]
    if trust_code:
        sys.path += map(str, homes)
    else:
        sys.path[:] = [entry for entry in before if not any(_inside(entry, home) for home in homes)]
    during = sys.path[:]
    try:
        yield
    finally:
        sys.path[:] = [entry for entry in sys.path if entry not in during] + before  # what was imported may have added some


def import_recorded(name: str, folder: str | Path, *, trust_code: bool = False) -> None:
    """Import a network's ``package.module:callable`` that a run folder names, unless its code lies there.

    Args:
        name: of any network; one that is not one's own code is no matter.
        folder: the run folder.
        trust_code: whether the code may lie there.

    Raises:
        ValueError: it is importable from nowhere else, or cannot be imported; or as ``find_own``. Also where it would come
            from this folder after code of another one: Python keeps one module of a name, the other's would answer for it.
        TypeError: as ``find_own``.
    """
    if read_name(name).kind != "own":
        return
    home, module = Path(folder).resolve(), name.partition(":")[0]
    with opening([folder], trust_code=trust_code):
        others = {other for other in _trusted if other != home and _has_loaded(other)}
        outside = _found_outside(module, {home, *others})
        if trust_code and not outside and others:
            raise ValueError(
                f"model `{name}`, which the run folder {folder} names, must not be mixed up with the code of {min(others)},"
                " which this process has imported. Open one folder with code of its own at a time, each in its own process."
            )
        if not trust_code and not outside:
            raise ValueError(
                f"model `{name}`, which the run folder {folder} names, must be importable from elsewhere, but `{module}` is "
                "not: opening a run folder runs no code that lies in it. Give the command where your own module is, or install "
                "it; or, if you trust the folder's code, add `--trust_code` (in Python `trust_code=True`)."
            )
        try:
            find_own(name)
        except ImportError as error:  # it is there; something that it imports is not
            raise ValueError(f"model `{name}` cannot be imported: {error}.") from error
        finally:
            if not outside:
                _trusted.add(home)


def _has_loaded(home: Path) -> bool:
    """Whether a module that Python holds comes from ``home``."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return any(file is not None and file.startswith(f"{home}{os.sep}") for file in files)


def _found_outside(module: str, homes: Iterable[Path]) -> bool:
    """Whether ``module``, and each package that it is in, is there and lies outside ``homes``; packages are imported."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        loaded = sys.modules.get(name)
        if loaded is not None:
            file = getattr(loaded, "__file__", None)
        else:
            try:
                spec = importlib.util.find_spec(name)
            except (ImportError, ValueError):  # no package, or no name
                spec = None
            if spec is None:
                return False
            file = spec.origin if spec.has_location else None
        if file is not None and any(_inside(file, home) for home in homes):
            return False
    return True


def _inside(path: str, home: Path) -> bool:
    return Path(path or ".").resolve().is_relative_to(home)
