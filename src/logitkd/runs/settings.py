"""Settings by key: what a dataclass can be told, one dotted key each, and what a key that it has not is told."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse

from logitkd.checks import shown, suggest
from logitkd.fields import Usual

__all__ = ["Setting", "SettingsError", "canonical", "flatten", "kinds_in", "nest", "record_in", "settings_of", "unknown_key"]


class SettingsError(ValueError):
    """What was asked for cannot be run; ``problems`` says all that is wrong with it, one message each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)

    def __reduce__(self) -> tuple[type, tuple[list[str]]]:  # whole from another process, too
        return SettingsError, (self.problems,)


@dataclass(frozen=True)
class Setting:
    """One value that a recipe or a flag can set.

    Args:
        key: dotted: ``optim.lr`` is the recipe's key ``lr`` under ``optim`` and the flag ``--optim.lr``.
        type: its type hint, without the rules.
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


def settings_of(record: type, skip: Iterable[str] = (), **sections: type) -> dict[str, Setting]:
    """Return the settings of a dataclass, those of the dataclasses in it under dotted keys.

    Args:
        record: the dataclass.
        skip: fields to leave out.
        sections: for a field, the dataclass that it holds in place of the one that it is annotated with.

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
        inner = sections.get(field.name) or record_in(hint)
        if inner is None:
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            default = None if field.default is dataclasses.MISSING else field.default
            default = default.value if isinstance(default, Usual) else default
            found[field.name] = Setting(field.name, hint, default, text, "", required)
            continue
        for name, setting in settings_of(inner).items():
            key = f"{field.name}.{name}"
            found[key] = dataclasses.replace(setting, key=key, section=setting.section or text)
    return found


def record_in(hint: Any) -> type | None:
    """Return the dataclass that a type hint is, or is optionally."""
    return next((kind for kind in kinds_in(hint) if isinstance(kind, type) and dataclasses.is_dataclass(kind)), None)


def kinds_in(hint: Any) -> tuple[Any, ...]:
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


def flatten(
    record: Mapping[Any, Any],
    known: Mapping[str, Setting],
    problems: list[str],
    prefix: str = "",
    others: Iterable[str] = (),
) -> dict[str, Any]:
    """Return nested keys joined by dots, each one of ``known``; ``problems`` receives a message for every other.

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


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as sections, what :func:`flatten` took apart.

    >>> nest({"optim.lr": 0.1, "seed": 0})
    {'optim': {'lr': 0.1}, 'seed': 0}
    """
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        inside = nested
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[last] = value
    return nested
