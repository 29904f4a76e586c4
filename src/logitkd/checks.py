"""Argument checks: the one home of error wording.

Every message names the value, the rule, what came and, where one is likely, the fix::

    `top_k` must be in [1, 99] (num_classes - 1), got 100.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["check_choice", "check_positive", "check_range", "suggest", "unknown"]


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


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``allowed``."""
    allowed = list(allowed)
    if value not in allowed:
        hint = suggest(value, [a for a in allowed if isinstance(a, str)]) if isinstance(value, str) else ""
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, allowed))}, got {value!r}.{hint}")


def check_range(name: str, value: float, low: float | None, high: float | None, why: str = "") -> None:
    """Raise ``ValueError`` unless ``low <= value <= high`` (``None``: no bound); ``why`` explains the bounds.

    A bool, a string or a NaN is a ``TypeError`` or ``ValueError`` too: silently reading ``True`` as 1 hides mistakes.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {value!r} ({type(value).__name__}).")
    above = low is None or value >= low
    below = high is None or value <= high
    if not (above and below):
        rule = f"in [{'-inf' if low is None else low}, {'inf' if high is None else high}]"
        raise ValueError(f"`{name}` must be {rule}{f' ({why})' if why else ''}, got {value}.")


def check_positive(name: str, value: float) -> None:
    """Raise unless ``value`` is a finite number above zero."""
    check_range(name, value, None, None)
    if not 0 < value < float("inf"):
        raise ValueError(f"`{name}` must be a finite number above 0, got {value}.")
