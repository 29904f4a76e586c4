"""The shipped recipes: one YAML file for each teacher-student pair, holding the hyper-parameters of every method for it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from logitkd import strict_yaml
from logitkd.checks import suggest

__all__ = ["command", "find", "names", "read", "shares_data"]

FOLDER = Path(__file__).parent
SUFFIXES = (".yaml", ".yml")


def names() -> list[str]:
    """Return the names of all shipped recipes, ``cifar100/resnet32x4-resnet8x4`` and so on."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def find(recipe: str) -> Path:
    """Return the file of a shipped recipe's name, or the path of one's own.

    Raises:
        FileNotFoundError: there is no such recipe; names the nearest.
    """
    if recipe in names():
        return FOLDER / f"{recipe}.yaml"
    path = Path(recipe)
    if path.suffix in SUFFIXES and path.is_file():
        return path
    if path.suffix in SUFFIXES:
        raise FileNotFoundError(f"there is no recipe file {recipe}.{suggest(str(path.with_suffix('')), names())}")
    raise FileNotFoundError(
        f"unknown recipe `{recipe}`.{suggest(recipe, names())} `logitkd list recipes` shows those there are; one of your own"
        " is a path ending in .yaml."
    )


def read(path: Path) -> dict[Any, Any]:
    """Return what a recipe file holds.

    Raises:
        ValueError: it is no YAML mapping, or one that :mod:`logitkd.strict_yaml` refuses.
    """
    try:
        found = strict_yaml.load(path.read_text(encoding="utf-8"))
    except strict_yaml.Refused as error:
        raise ValueError(f"{path}: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold `key: value` lines, got {type(found).__name__}.")
    return found


@functools.cache  # what is shipped does not change
def shares_data(name: str) -> bool:
    """Whether a shipped recipe lies in a folder with another on the same data, whose teachers are then teachers of both."""
    folder = f"{Path(name).parent.as_posix()}/"
    mine = read(find(name)).get("data")
    others = (other for other in names() if other != name and other.startswith(folder))
    return any(read(find(other)).get("data") == mine for other in others)


def command(path: Path) -> str:
    """Return the command in a recipe's first comment line; empty where it has none."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
