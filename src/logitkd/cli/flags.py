"""From a command's arguments to values by key: split, and text read as YAML; what the values mean is not decided here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from logitkd.checks import check_path
from logitkd.runs.settings import Setting, SettingsError, canonical, settings_of, unknown_key
from logitkd.runs.values import read_text, read_value

__all__ = ["Setting", "UsageError", "read_flags", "settings_of", "split"]

UsageError = SettingsError


def read_flags(
    arguments: Sequence[str], known: Mapping[str, Setting], problems: list[str], free: str = ""
) -> tuple[list[str], dict[str, Any]]:
    """Return positional arguments, and the value that each flag's text spells; as :func:`split`."""
    positional, flags = split(arguments, known, problems, free)
    values: dict[str, Any] = {}
    for key, text in flags.items():
        try:
            values[key] = read_text(known[key], text) if key in known else read_value(text)
        except ValueError as error:
            problems.append(str(error))
    return positional, values


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
        SettingsError: a positional argument can name no file, so nothing else can be said about it.
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
                raise SettingsError([str(error)]) from error
            continue
        key, equals, text = token[2:].partition("=")
        name = canonical(key, known)
        valid = name in known or bool(free and key.startswith(free))
        if not valid:
            problems.append(unknown_key(key, known, "option", "--"))
        is_switch = name in known and known[name].type is bool
        if not equals:
            follows = bool(rest) and not rest[0].startswith("--")
            if is_switch and not (follows and isinstance(read_value(rest[0]), bool)):
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
