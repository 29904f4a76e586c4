"""The files of a run folder by name, and reading back what a run left; the open, locked folder is ``training/folder.py``."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import yaml

from logitkd import strict_yaml
from logitkd.checks import check_path

__all__ = [
    "CHECKPOINT",
    "CONFIG",
    "HASH",
    "LOCK",
    "METRICS",
    "OWNER",
    "RESULT",
    "STATE",
    "STUDENT",
    "check_student_file",
    "dotted",
    "read_result",
    "read_run",
    "run_data",
    "run_folder_of",
]

CONFIG, METRICS, RESULT, STUDENT = "config.yaml", "metrics.jsonl", "result.json", "student.safetensors"
CHECKPOINT, STATE = "checkpoint", "state.safetensors"  # a folder, and the file in it
LOCK, OWNER = ".lock", ".owner"  # held while a process trains in the folder, and that process's id

# What a config.yaml must have to be a run's: enough to tell it from any other program's, and what its readers rely on.
SECTIONS = {
    "run": dict,
    "run.student": dict,
    "run.student.name": str,
    "run.data": dict,
    "method": dict,
    "versions.logitkd": str,
}
HASH = "student_sha256"  # in result.json: of student.safetensors


def dotted(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys joined by dots.

    >>> dotted({"optim": {"lr": 0.1}, "seed": 0})
    {'optim.lr': 0.1, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict) and value:
            flat |= dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_run(folder: Path) -> dict[str, Any]:
    """Return what ``config.yaml`` of a run folder says; its blocks ``run``, ``method`` and ``versions`` are there.

    Raises:
        FileNotFoundError: there is no ``config.yaml``.
        ValueError: it was not written by a run.
    """
    check_path("run folder", folder)
    path = folder / CONFIG
    if not path.exists():
        raise FileNotFoundError(f"a run folder holds a {CONFIG}, but there is no {path}. Give another folder.")
    try:
        record = strict_yaml.load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path} must be what a run wrote, but it cannot be read: {error}.") from error
    for key, kind in SECTIONS.items():
        found = record
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if not isinstance(found, kind):
            raise ValueError(f"{path} must be what a run wrote, but it has no `{key}`.")
    return record


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the result of the finished run in ``folder``; ``None`` where there is none.

    Raises:
        ValueError: ``result.json`` is damaged.
    """
    path = folder / RESULT
    if not path.exists():
        return None
    keys = {"metrics", "best", "seconds", "parameters"}
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}). Delete it and run the same command again.") from error
    if not isinstance(result, dict) or not keys <= result.keys():
        raise ValueError(
            f"{path} is damaged: it must hold {', '.join(sorted(keys))}. Delete it and run the same command again."
        )
    return result


def check_student_file(folder: Path) -> None:
    """Check that ``student.safetensors`` of a run folder is what the run wrote, by the hash in ``result.json``.

    Warns where there is no hash: the run is older than it, or its ``result.json`` is gone.

    Raises:
        ValueError: it is another file, or damaged.
    """
    path, known = folder / STUDENT, (read_result(folder) or {}).get(HASH)
    if not path.is_file():  # which its reader says
        return
    if known is None:
        warnings.warn(
            f"{folder} holds no hash of its student (an earlier version wrote it, or {RESULT} is gone): whether {path.name} is "
            "still what the run wrote could not be checked.",
            stacklevel=2,
        )
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != known:
        raise ValueError(
            f"{path} is not what the run wrote: its sha256 is {found[:16]}..., {RESULT} says {str(known)[:16]}... It was "
            "damaged or replaced. Put a sound copy in its place; or, where the run was trained, delete it and give the "
            "`logitkd train` command again, which writes it from the run's checkpoint."
        )


def run_folder_of(checkpoint: str | None) -> Path | None:
    """Return the run folder that a checkpoint is, or is a file in; ``None`` for any other."""
    path = Path(checkpoint or "")
    folder = path if path.is_dir() else path.parent
    return folder if checkpoint and (folder / CONFIG).is_file() else None


def run_data(checkpoint: str | None) -> dict[str, Any] | None:
    """Return the block ``data`` of the run that wrote a checkpoint, a run folder or its student; ``None`` for any other."""
    folder = run_folder_of(checkpoint)
    return None if folder is None else read_run(folder).get("data", {})
