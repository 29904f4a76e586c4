"""Checks of plain values: the home of error wording. It loads no torch; those of tensors are in ``tensor_checks.py``.

Every message names the value, the rule, what came and, where one is likely, the fix::

    `top_k` must be in [1, 99] (num_classes - 1), got 100.
"""

from __future__ import annotations

import difflib
import os
import reprlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

__all__ = [
    "check_choice",
    "check_int",
    "check_path",
    "check_positive",
    "check_range",
    "check_temperature",
    "collector",
    "listed",
    "shown",
    "suggest",
    "unknown",
]

_LARGEST = sys.float_info.max


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean `x`?`` for the closest of ``known``, or an empty string.

    >>> suggest("gdk", ["kd", "gdkd", "dist"])
    ' Did you mean `gdkd`?'
    >>> suggest("zzz", ["kd", "gdkd"])
    ''
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean `{close[0]}`?" if close else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name: what it is, what it is close to, all there is.

    >>> unknown("method", "gdk", ["kd", "gdkd"])
    'unknown method `gdk`. Did you mean `gdkd`? Known: gdkd, kd.'
    """
    known = sorted(known)
    return f"unknown {kind} `{name}`.{suggest(name, known)} Known: {', '.join(known) or 'none'}."


def listed(names: Iterable[object], most: int = 8) -> str:
    """Join the first few names.

    >>> listed(["a", "b", "c"], most=2)
    'a, b, ... (1 more)'
    >>> listed([])
    'none'
    """
    every = list(map(str, names))
    more = f", ... ({len(every) - most} more)" if len(every) > most else ""
    return (", ".join(every[:most]) or "none") + more


_brief = reprlib.Repr()  # does not look at what it does not show
_brief.maxlevel, _brief.maxstring, _brief.maxother, _brief.maxlong = 3, 200, 200, 60
_brief.maxlist, _brief.maxtuple, _brief.maxdict = 20, 20, 20


def shown(value: object, most: int = 200) -> str:
    """Return ``repr(value)`` for a message: cut where it is long, and never expanded beyond what is shown.

    >>> shown([1, "a", None])
    "[1, 'a', None]"
    >>> shown(list(range(1000)))
    '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, ...]'
    """
    text = _brief.repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``allowed``."""
    allowed = list(allowed)
    if value not in allowed:
        hint = suggest(value, [a for a in allowed if isinstance(a, str)]) if isinstance(value, str) else ""
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, allowed))}, got {shown(value)}.{hint}")


def check_range(name: str, value: float, low: float | None, high: float | None, why: str = "") -> None:
    """Raise ``ValueError`` unless ``value`` is finite and ``low <= value <= high``.

    ``None`` is no bound; ``why`` explains the bounds. A bool or a string is a ``TypeError``: reading ``True`` as 1 hides
    mistakes.

    >>> check_range("top_k", 100, 1, 99, "num_classes - 1")
    Traceback (most recent call last):
        ...
    ValueError: `top_k` must be in [1, 99] (num_classes - 1), got 100.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {shown(value)} ({type(value).__name__}).")
    inside = (low is None or value >= low) and (high is None or value <= high)
    if not (abs(value) <= _LARGEST and inside):  # math.isfinite fails on a huge int
        if low is None and high is None:
            rule = "finite"
        elif high is None:
            rule = f"at least {low}"
        else:
            rule = f"in [{'-inf' if low is None else low}, {high}]"
        got = value if isinstance(value, float) else shown(value)
        raise ValueError(f"`{name}` must be {rule}{f' ({why})' if why else ''}, got {got}.")


def check_int(name: str, value: int, low: int | None = None, high: int | None = None, why: str = "") -> None:
    """Raise unless ``value`` is an integer in ``[low, high]``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer, got {shown(value)} ({type(value).__name__}).")
    check_range(name, value, low, high, why)


def check_positive(name: str, value: float) -> None:
    """Raise unless ``value`` is a finite number above zero."""
    check_range(name, value, None, None)
    if value <= 0:
        raise ValueError(f"`{name}` must be above 0, got {value}.")


def check_path(name: str, value: str | os.PathLike[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is UTF-8 text, each part of it short enough for the name of a file.

    Linux takes any bytes for a name, but safetensors, parquet and a run's own record of itself hold text.

    >>> check_path("output", "runs/" + 300 * "a")
    Traceback (most recent call last):
        ...
    ValueError: `output` must have at most 255 bytes between two slashes, got 300 in 'aaaaaaaaaaaaaaaaaaaa...'. Shorten it.
    """
    text = os.fspath(value)
    try:
        longest, part = max((len(part.encode()), part) for part in text.split("/"))
    except UnicodeEncodeError:
        longest = -1
    if longest < 0 or "\0" in text:
        raise ValueError(f"`{name}` must be UTF-8 text without null bytes, got {text!a}. Rename what it names.")
    if longest > 255:
        raise ValueError(
            f"`{name}` must have at most 255 bytes between two slashes, got {longest} in '{part[:20]}...'. Shorten it."
        )


def check_temperature(name: str, value: float) -> None:
    """Raise unless ``value`` is a temperature at which float32 still has four digits of a loss and its gradient.

    Softened logits differ by ``1 / temperature``, so each factor of ten costs a digit; at 1e30 nothing is left but NaN, and at
    1e-30 ``temperature ** 2`` is 0.

    >>> check_temperature("temperature", 1e30)
    Traceback (most recent call last):
        ...
    ValueError: `temperature` must be in [0.01, 1000] (beyond, float32 has too few digits), got 1e+30.
    """
    check_positive(name, value)
    check_range(name, value, 0.01, 1000, "beyond, float32 has too few digits")


def collector(problems: list[str]) -> Callable[..., None]:
    """Return a function that calls a check with its arguments, and adds what it refuses to ``problems``.

    >>> problems = []
    >>> check = collector(problems)
    >>> check(check_int, "epochs", 3, 1)
    >>> check(check_int, "epochs", 0, 1)
    >>> problems
    ['`epochs` must be at least 1, got 0.']
    """

    def check(function: Callable[..., object], *args: Any) -> None:
        try:
            function(*args)
        except (TypeError, ValueError) as error:
            problems.append(str(error))

    return check
