"""Names of a package that are loaded when they are first used, so that importing the package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["by_name", "loader"]


def by_name(names: Mapping[str, str]) -> dict[str, str]:
    """Return the module of each name.

    Args:
        names: for each module its names, spaces between them.

    >>> by_name({"signals": "Signals Wants"})
    {'Signals': 'signals', 'Wants': 'signals'}
    """
    return {name: module for module, line in names.items() for name in line.split()}


def loader(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package whose names lie in its modules as ``home`` says.

    >>> loader("logitkd.reach", {"Wants": "signals"})("Wants").__name__
    'Wants'
    """

    def load(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return load
