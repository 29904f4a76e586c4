"""Values of settings: read by their types (pydantic), and whatever is wrong with them said in our words, all at once."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from logitkd import strict_yaml
from logitkd.checks import shown, suggest
from logitkd.fields import HERE
from logitkd.runs.settings import Setting, SettingsError, kinds_in, record_in, settings_of, unknown_key

__all__ = ["adapter", "numbers", "plain", "read", "read_text", "read_value", "validate"]

T = TypeVar("T")
NULLS = ("", "~", "null", "Null", "NULL")  # how YAML spells that there is nothing
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # a number to everybody; without a point, text to YAML 1.1
STANDS_IN = "cifar_resnet8"  # for a name that must be given and is wrong, so that the rest can be checked as well


def validate(record: type[T], given: Any, prefix: str = "") -> T:
    """Return ``given``, an instance or nested keys, as ``record``, each value in its type; see :func:`read`.

    Raises:
        SettingsError: with all that is wrong.
    """
    settings, problems = read(record, given, prefix)
    if problems:
        raise SettingsError([message for messages in problems.values() for message in messages])
    return settings


def read(record: type[T], given: Any, prefix: str = "", **sections: type) -> tuple[T, dict[str, list[str]]]:
    """Return settings, and by key what is wrong with them; a wrong value is left out, as if nobody had given it.

    Args:
        record: the dataclass.
        given: an instance of it, or nested keys.
        prefix: to put before the keys in messages: ``data.``.
        sections: as in :func:`~logitkd.runs.settings.settings_of`.

    Raises:
        SettingsError: what must be given is missing or wrong, and nothing can stand in for it.
    """
    values = plain(given)
    problems: dict[str, list[str]] = {}
    while True:
        try:
            return adapter(record).validate_python(values), problems  # type: ignore[arg-type] # a class is hashable
        except ValidationError as error:
            found = error.errors(include_url=False)
        told: dict[tuple[str, ...], list[str]] = {}
        for problem in found:
            place = _place(record, problem["loc"], sections)
            lines = told.setdefault(place.path, [])
            lines += [line for line in _message(problem, place, values, record, prefix, sections) if line not in lines]
        again = [path for path in told if prefix + ".".join(path) in problems]
        for path, lines in told.items():
            problems.setdefault(prefix + ".".join(path), lines)
            _leave_out(record, values, path, sections)
        if again:
            raise SettingsError([line for lines in problems.values() for line in lines])


@functools.cache
def adapter(record: Any) -> TypeAdapter[Any]:
    """Return what reads a dataclass by its annotations."""
    return TypeAdapter(record)


def plain(value: Any) -> Any:
    """Return dataclasses, those in lists and sections too, as dictionaries of their fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


class _Place(NamedTuple):
    """Where a problem is: the path of a setting, its type, and where inside its value."""

    path: tuple[str, ...]
    kind: Any
    inside: tuple[int | str, ...]


def _place(record: Any, location: tuple[int | str, ...], sections: Mapping[str, type]) -> _Place:
    path: list[str] = []
    kind: Any = record
    for name in map(str, location):
        inner = record_in(kind)
        hints = {} if inner is None else get_type_hints(inner)
        if inner is None:
            break
        path.append(name)
        if name not in hints:  # unknown
            break
        kind = sections.get(name, hints[name]) if inner is record else hints[name]
    return _Place(tuple(path), kind, location[len(path) :])


def _message(problem: Any, place: _Place, values: Any, record: type, prefix: str, sections: Mapping[str, type]) -> list[str]:
    """Return pydantic's problem in our words, a line each."""
    key, kind, value = prefix + ".".join(place.path), place.kind, problem["input"]
    entries = record_in(get_args(kind)[0]) if get_origin(kind) is tuple else None
    known = [*settings_of(record, (), **sections)] if entries is None else [field.name for field in fields(entries)]
    match problem["type"]:
        case "unexpected_keyword_argument" if entries is None:
            return [unknown_key(key, [prefix + name for name in known])]
        case "unexpected_keyword_argument":
            message = unknown_key(str(place.inside[-1]), known)
            return [f"`{key}`: {message}" + ("" if "Did you mean" in message else f" There are {', '.join(known)}.")]
        case "missing" if entries is None:
            return [f"`{key}` must be given."]
    if entries is not None and len(place.inside) > 1 and problem["type"] != "missing":
        key += f"[{place.inside[0]}].{place.inside[1]}"
        kind = get_type_hints(entries)[str(place.inside[1])]
    else:
        for name in place.path:
            values = values[name]
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"]).replace(HERE, key).splitlines()
    if problem["type"] == "dataclass_type" and entries is None:
        inside = ", ".join(field.name for field in fields(record_in(kind) or record))
        return [f"`{key}` must be a section with some of {inside}, got {shown(value)}."]
    return [_wrong_type(key, kind, value if len(place.inside) > 1 else values)]


def _leave_out(record: type, values: dict[str, Any], path: tuple[str, ...], sections: Mapping[str, type]) -> None:
    kind: Any = record
    for name in path[:-1]:
        values = values[name]
        kind = sections.get(name) or record_in(get_type_hints(kind)[name])
    values.pop(path[-1], None)
    must = {field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING}
    if path[-1] in must:
        values[path[-1]] = STANDS_IN if record_in(get_type_hints(kind)[path[-1]]) is None else {"name": STANDS_IN}


def _wrong_type(key: str, kind: Any, value: Any, why: str = "") -> str:
    if get_origin(kind) is Literal and isinstance(value, str):
        why = suggest(value, get_args(kind))
    got = list(value) if isinstance(value, tuple) else value  # as YAML has it, wherever it comes from
    return f"`{key}` must be {_words(kind)}, got {shown(got)}.{why}"


def _words(kind: Any) -> str:
    """Say a type in words."""
    if len(kinds_in(kind)) > 1:
        return " or ".join("null" if part is type(None) else _words(part) for part in kinds_in(kind))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, get_args(kind)))
    if get_origin(kind) is tuple and (record := record_in(get_args(kind)[0])):
        keys = [field.name for field in fields(record)]
        return f"a list such as [{{{keys[0]}: a, {keys[1]}: b}}, {{{keys[0]}: c}}], with the keys {', '.join(keys)}"
    if get_origin(kind) is tuple:
        return "a list such as " + {float: "[0.5, 0.75]", int: "[240, 320]"}.get(get_args(kind)[0], "[a, b]")
    if get_origin(kind) is dict:
        return "options, {option: value}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(kind, str(kind))


def read_text(setting: Setting, text: str) -> Any:
    """Return the value that text on the command line spells: YAML, but where a setting is text it is read as it stands.

    Raises:
        ValueError: it is YAML that is not read, such as one nested thousands deep.

    >>> read_text(Setting("optim.lr", float, 0.05, ""), "1e-3")
    0.001
    """
    kinds = kinds_in(setting.type)
    if str in kinds or get_origin(setting.type) is Literal:
        return None if type(None) in kinds and text.strip() in NULLS else text
    try:
        return numbers(setting.type, strict_yaml.load(text))
    except strict_yaml.Refused as error:
        raise ValueError(_wrong_type(setting.key, setting.type, text, f" Here {error}.")) from error
    except yaml.YAMLError:  # it can be nothing but text
        return text


def numbers(kind: Any, value: Any) -> Any:
    """Return a value from YAML, what YAML 1.1 takes for text and everybody for a number (1e-3) as one where one belongs.

    >>> numbers(tuple[float, ...], ["1e-3", 2])
    [0.001, 2]
    """
    for one in kinds_in(kind):
        record = record_in(one)
        if record is not None and isinstance(value, Mapping):
            hints = get_type_hints(record)
            return {key: numbers(hints.get(key), inner) for key, inner in value.items()}
        if get_origin(one) is tuple and isinstance(value, list):
            return [numbers(get_args(one)[0], inner) for inner in value]
        if one in (int, float) and isinstance(value, str) and EXPONENT.fullmatch(value):
            return float(value)
    return value


def read_value(text: Any) -> Any:
    """Return text as the YAML value it spells, for options whose class checks its own types.

    Python's spellings of a list and of nothing are read too, as ``logitkd list METHOD`` shows defaults in them.

    >>> read_value("3"), read_value("1e-3"), read_value("[1, 2]"), read_value("best")
    (3, 0.001, (1, 2), 'best')
    >>> read_value("(1, 2)"), read_value("None"), read_value("none")
    ((1, 2), None, 'none')
    """
    value = text
    if isinstance(text, str):
        bare = text.strip()
        spelled = "null" if bare == "None" else f"[{bare[1:-1]}]" if bare[:1] + bare[-1:] == "()" else text
        try:
            value = strict_yaml.load(spelled)
        except yaml.YAMLError:
            value = text
    if isinstance(value, list):
        return tuple(numbers(float, inner) for inner in value)
    return numbers(float, value)
