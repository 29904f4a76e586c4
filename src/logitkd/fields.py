"""Types of settings: a field's annotation says which values it takes, and ``runs/values.py`` reads values by it.

Nothing is converted but a whole number to a float and a list to a tuple: text is no number, and ``True`` is not 1. The
dataclasses that use these types stay ordinary ones, checked when a run is planned or begun, not when they are made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, ConfigDict, Strict

from logitkd.checks import check_choice, check_int, check_path, check_positive, check_range

__all__ = [
    "HERE",
    "ByTask",
    "Number",
    "Positive",
    "Record",
    "Seed",
    "Switch",
    "Text",
    "Usual",
    "Whole",
    "above",
    "at_least",
    "check_channels",
    "choice",
    "rule",
    "usual",
    "within",
]

T = TypeVar("T")

HERE = "<here>"  # stands for the setting's key in the message of a rule: a type does not know where it is used


class Record:
    """Base of a dataclass of settings: keys that it has not are refused."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Usual:
    """The default of a setting of which a task may have another."""

    value: Any


def usual(value: T) -> T:
    """Mark a default as one that the run's task may replace; the field is typed as the value is."""
    return Usual(value)  # type: ignore[return-value]


class ByTask(Record):
    """Base of a dataclass some of whose defaults are :func:`usual`: it knows which of them were left to the run's task."""

    left: ClassVar[frozenset[str]]  # of each instance; no field, so no part of what is compared or recorded

    def __post_init__(self) -> None:
        """Take the usual values where nothing was given."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        left = {name: value.value for name, value in found.items() if isinstance(value, Usual)}
        vars(self).update(left, left=frozenset(left))


def rule(check: Callable[..., Any], *args: Any) -> AfterValidator:
    """Return what has a value pass ``check(name, value, *args)``, a function that raises ``ValueError``."""

    def apply(value: Any) -> Any:
        check(HERE, value, *args)
        return value

    return AfterValidator(apply)


def within(low: float | None, high: float | None, why: str = "") -> AfterValidator:
    """Return the rule that a number is in ``[low, high]``; ``None`` is no bound."""
    return rule(check_range, low, high, why)


def at_least(low: int) -> AfterValidator:
    """Return the rule that a whole number is at least ``low``."""
    return rule(check_int, low)


def above(low: float, high: float) -> AfterValidator:
    """Return the rule that a number is in ``(low, high]``."""

    def check(name: str, value: float) -> None:
        check_range(name, value, None, None)
        if not low < value <= high:
            raise ValueError(f"`{name}` must be above {low} and at most {high}, got {value}.")

    return rule(check)


def choice(names: Callable[[], list[str]]) -> AfterValidator:
    """Return the rule that a text is one of those that ``names`` gives when it is asked."""
    return rule(lambda name, value: check_choice(name, value, names()))


def check_channels(name: str, values: tuple[float, ...]) -> None:
    """Raise ``ValueError`` unless there is a value for each of three channels."""
    if len(values) != 3:
        raise ValueError(f"`{name}` must have one value a channel, 3, got {list(values)}.")


Text = Annotated[str, Strict(), rule(check_path)]  # most of them name files
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), within(None, None)]  # finite
Positive = Annotated[float, Strict(), rule(check_positive)]
Switch = Annotated[bool, Strict()]
Seed = Annotated[Whole, rule(check_int, 0, 2**63 - 1)]
