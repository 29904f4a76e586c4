"""From dataclasses to strict settings: keys, types and help come from signatures and docstrings (jsonargparse does both).

jsonargparse stops at the first mistake; a person with three mistakes should hear of three. So the values are read one
setting at a time, and whatever is wrong is collected: an unknown key with the nearest valid one, a value of the wrong type.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from docstring_parser import parse
from jsonargparse import ArgumentError, ArgumentParser

from logitkd import strict_yaml
from logitkd.checks import check_path, check_texts, shown, suggest

__all__ = [
    "Setting",
    "UsageError",
    "canonical",
    "convert",
    "convert_all",
    "flatten",
    "nest",
    "read_value",
    "settings_of",
    "split",
    "unknown_key",
]


NULLS = ("", "~", "null", "Null", "NULL")  # how YAML spells that there is nothing


class UsageError(ValueError):
    """What was asked for cannot be run; ``problems`` says all that is wrong with it, one message each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Setting:
    """One value that a recipe or a flag can set.

    Args:
        key: dotted: ``optim.lr`` is the recipe's key ``lr`` under ``optim`` and the flag ``--optim.lr``.
        type: its type hint.
        default: its value when nobody sets it; None where ``required``.
        help: one line from the docstring.
        section: the line of the docstring that introduces its group; empty at the top level.
    """

    key: str
    type: Any
    default: Any
    help: str
    section: str = ""
    required: bool = False


def settings_of(record: type, skip: Iterable[str] = ()) -> dict[str, Setting]:
    """Return the settings of a dataclass, those of the dataclasses in it under dotted keys.

    >>> from logitkd.data.config import DataConfig
    >>> list(settings_of(DataConfig))[:2]
    ['source', 'train_split']
    """
    found: dict[str, Setting] = {}
    hints, texts = get_type_hints(record), {p.arg_name: p.description or "" for p in parse(record.__doc__ or "").params}
    for field in dataclasses.fields(record):
        if field.name in skip:
            continue
        hint, text = hints[field.name], texts.get(field.name, "").replace("``", "").replace("\n", " ")
        inner = _record_in(hint)
        if inner is None:
            required = field.default is dataclasses.MISSING
            found[field.name] = Setting(field.name, hint, None if required else field.default, text, "", required)
            continue
        for name, setting in settings_of(inner).items():
            key = f"{field.name}.{name}"
            found[key] = dataclasses.replace(setting, key=key, section=setting.section or text)
    return found


def _record_in(hint: Any) -> type | None:
    """Return the dataclass that a type hint is, or is optionally."""
    return next((kind for kind in _kinds(hint) if isinstance(kind, type) and dataclasses.is_dataclass(kind)), None)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the one type that a hint is."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def unknown_key(key: str, known: Iterable[str], kind: str = "key", dashes: str = "") -> str:
    """Return the message for an unknown key; one that is only misplaced is shown its place.

    A section that has a ``name`` may be meant by what looks like it: ``teachr`` is near ``teacher``, which sets its name.

    >>> unknown_key("lr", ["optim.lr", "seed"])
    'unknown key `lr`. Did you mean `optim.lr`?'
    >>> unknown_key("batch-size", ["batch_size", "seed"], "option", dashes="--")
    'unknown option `--batch-size`. Did you mean `--batch_size`?'
    >>> unknown_key("teachr", ["teacher.std", "teacher.name"])
    'unknown key `teachr`. Did you mean `teacher`?'
    """
    known = [*known]
    known += [k.removesuffix(".name") for k in known if k.endswith(".name")]
    last = key.rpartition(".")[2]
    ends = [k for k in known if k.rpartition(".")[2] == last]
    hint = f" Did you mean `{'` or `'.join(ends)}`?" if ends else suggest(key, known) or suggest(last, known)
    return f"unknown {kind} `{dashes}{key}`.{hint.replace(' `', f' `{dashes}')}"


def canonical(key: str, known: Iterable[str]) -> str:
    """Return the key meant: a section that has a ``name`` may be set by it, ``optim: adamw`` is ``optim.name: adamw``.

    >>> canonical("optim", ["optim.name", "optim.lr"])
    'optim.name'
    """
    return f"{key}.name" if f"{key}.name" in known else key


def split(
    arguments: Sequence[str], known: Mapping[str, Setting], problems: list[str], free: str = ""
) -> tuple[list[str], dict[str, str]]:
    """Split a command's arguments into its positional ones and ``{key: text}`` of its flags.

    ``--key value`` and ``--key=value`` are the same; a flag of type ``bool`` may stand alone.

    Args:
        arguments: what follows the command.
        known: the settings that may be given.
        problems: receives a message for each unknown flag, missing value or flag that is given twice.
        free: keys with this prefix are passed on unread.

    Raises:
        UsageError: a positional argument can name no file, so nothing else can be said about it.
    """
    positional: list[str] = []
    flags: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--") or token == "--":
            positional.append(token)
            try:
                check_path(f"argument {len(positional)}", token)
            except ValueError as error:
                raise UsageError([str(error)]) from error
            continue
        key, equals, text = token[2:].partition("=")
        name = canonical(key, known)
        valid = name in known or bool(free and key.startswith(free))
        if not valid:
            problems.append(unknown_key(key, known, "option", "--"))
        is_switch = name in known and known[name].type is bool
        if not equals:
            follows = bool(rest) and not rest[0].startswith("--")
            if is_switch and not (follows and _reads(bool, rest[0])):
                text = "true"
            elif follows:
                text = rest.pop(0)
            elif valid:
                problems.append(f"`--{key}` needs a value.")
                continue
        if valid and name in flags:
            problems.append(f"`--{key}` is given twice, as {flags[name]!r} and {text!r}. Leave one out.")
        elif valid:
            flags[name] = text
    return positional, flags


def flatten(
    record: Mapping[Any, Any],
    known: Mapping[str, Setting],
    problems: list[str],
    prefix: str = "",
    others: Iterable[str] = (),
) -> dict[str, Any]:
    """Return nested recipe keys joined by dots, each one of ``known``; ``problems`` receives a message for every other.

    A key can be written in several ways (``optim: adamw``, ``optim: {name: adamw}``, ``optim.name: adamw``): in one at a time.

    ``others`` are keys that are read elsewhere: not found here, but proposed for a key that is close.
    """
    flat: dict[str, Any] = {}
    for name, value in record.items():
        key = canonical(f"{prefix}{name}", known)
        section = any(k.startswith(f"{prefix}{name}.") for k in known)
        if section and isinstance(value, Mapping):
            found = flatten(value, known, problems, f"{prefix}{name}.", others)
        elif key in known:
            found = {key: value}
        elif section:
            inside = ", ".join(k.rpartition(".")[2] for k in known if k.startswith(f"{prefix}{name}."))
            problems.append(f"`{prefix}{name}` must be a section with some of {inside}, got {shown(value)}.")
            continue
        else:
            problems.append(unknown_key(f"{prefix}{name}", [*known, *others]))
            continue
        twice = [key for key in found if key in flat]
        problems += [f"`{key}` is given twice, as {shown(flat[key])} and {shown(found[key])}. Leave one out." for key in twice]
        flat |= found
    return flat


def nest(record: type, values: Mapping[str, Any]) -> Any:
    """Build the dataclass ``record`` from dotted values; what is not given keeps its default.

    An optional section of which nothing is given is its default, too.
    """
    arguments: dict[str, Any] = {}
    hints = get_type_hints(record)
    for field in dataclasses.fields(record):
        inner = _record_in(hints[field.name])
        own = {k.removeprefix(f"{field.name}."): v for k, v in values.items() if k.startswith(f"{field.name}.")}
        if inner is not None and own:
            arguments[field.name] = nest(inner, own)
        elif field.name in values:
            arguments[field.name] = values[field.name]
    return record(**arguments)


def convert(setting: Setting, value: Any, written: str = "") -> Any:
    """Return ``value``, text from a flag or a value from YAML, as the setting's type.

    Raises:
        ValueError: it is none; names the setting as ``written`` (by default its key).

    >>> convert(Setting("epochs", int, 240, ""), "abc")
    Traceback (most recent call last):
        ...
    ValueError: `epochs` must be a whole number, got 'abc'.
    """
    missing = value is None and type(None) not in get_args(setting.type)
    hint = ""
    try:
        if not missing:
            parsed = _parse(setting.type, value)
            if parsed is None and isinstance(value, str) and value.strip() not in NULLS and str in _kinds(setting.type):
                parsed = value  # such as `#1`, a comment to YAML, or `&a`
            check_texts(written or setting.key, parsed)
            return parsed
    except ArgumentError as error:
        if isinstance(error.__cause__, strict_yaml.Refused):
            hint = f" Here {error.__cause__}."
    if wrong := _unknown_in_list(setting.type, value):
        raise ValueError(f"`{written or setting.key}`: {wrong}")
    if get_origin(setting.type) is Literal and isinstance(value, str):
        hint = suggest(value, get_args(setting.type))
    raise ValueError(f"`{written or setting.key}` must be {_words(setting.type)}, got {shown(value)}.{hint}")


def _unknown_in_list(kind: Any, value: Any) -> str:
    """Return the message for the first unknown key in a list of records; empty if there is none or it is no such list."""
    record = _record_in(get_args(kind)[0]) if get_origin(kind) is tuple else None
    entries = read_value(value)
    if record is None or not isinstance(entries, tuple):
        return ""
    known = [field.name for field in dataclasses.fields(record)]
    wrong = [key for entry in entries if isinstance(entry, Mapping) for key in entry if key not in known]
    if not wrong:
        return ""
    message = unknown_key(str(wrong[0]), known)
    return message if "Did you mean" in message else f"{message} There are {', '.join(known)}."


def convert_all(known: Mapping[str, Setting], values: Mapping[str, Any], prefix: str, problems: list[str]) -> dict[str, Any]:
    """Return the values in their settings' types; one that does not fit is left out, and ``problems`` receives why.

    >>> problems = []
    >>> convert_all({"epochs": Setting("epochs", int, 240, "")}, {"epochs": "9"}, "--", problems)
    {'epochs': 9}
    """
    converted = {}
    for key, value in values.items():
        try:
            converted[key] = convert(known[key], value, prefix + key.removesuffix(".name"))
        except ValueError as error:
            problems.append(str(error))
    return converted


def read_value(text: Any) -> Any:
    """Return text as the YAML value it spells, for options whose class checks its own types.

    Python's spellings of a list and of nothing are read too, as ``logitkd list METHOD`` shows defaults in them.

    >>> read_value("3"), read_value("1e-3"), read_value("[1, 2]"), read_value("best")
    (3, 0.001, (1, 2), 'best')
    >>> read_value("(1, 2)"), read_value("None"), read_value("none")
    ((1, 2), None, 'none')
    """
    if isinstance(text, str):
        bare = text.strip()
        text = "null" if bare == "None" else f"[{bare[1:-1]}]" if bare[:1] + bare[-1:] == "()" else text
    value = _parse(Any, text) if isinstance(text, str) else text
    return tuple(value) if isinstance(value, list) else value


@functools.cache
def _parser(kind: Any) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    return parser


def _parse(kind: Any, value: Any) -> Any:
    if isinstance(value, str):
        try:
            strict_yaml.load(value)  # before jsonargparse, which reads whatever it is given
        except yaml.YAMLError as error:  # it can be nothing but text
            if kind is Any or str in _kinds(kind):
                return value
            raise ArgumentError(None, str(error)) from error
    return _parser(kind).parse_object({"value": value})["value"]


def _reads(kind: Any, text: str) -> bool:
    try:
        _parse(kind, text)
    except ArgumentError:
        return False
    return True


def _words(kind: Any) -> str:
    """Say a type in words."""
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _words(part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, get_args(kind)))
    if get_origin(kind) is tuple and (record := _record_in(get_args(kind)[0])):
        keys = [field.name for field in dataclasses.fields(record)]
        return f"a list such as [{{{keys[0]}: a, {keys[1]}: b}}, {{{keys[0]}: c}}], with the keys {', '.join(keys)}"
    if get_origin(kind) is tuple:
        return "a list such as " + ("[0.5, 0.75]" if get_args(kind)[0] is float else "[a, b]")
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(kind, str(kind))
