"""The run folder: what a run leaves behind, and the rules under which a run may go on in it.

``config.yaml`` (everything resolved), ``metrics.jsonl`` (a line an epoch), ``checkpoint/`` (to go on),
``student.safetensors`` (the plain student), ``result.json`` (last: its presence says that the run is finished).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import yaml

from logitkd.engine.checkpoint import clean_leftovers
from logitkd.engine.files import ASIDE, write_atomic, writing

__all__ = ["RunFolder"]

CONFIG, METRICS, RESULT, STUDENT, CHECKPOINT, LOCK = (
    "config.yaml",
    "metrics.jsonl",
    "result.json",
    "student.safetensors",
    "checkpoint",
    ".lock",
)


def flatten(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys joined by dots.

    >>> flatten({"optim": {"lr": 0.1}, "seed": 0})
    {'optim.lr': 0.1, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a line for each key whose value differs.

    >>> differences({"optim": {"lr": 0.1}, "seed": 0}, {"optim": {"lr": 0.2}, "seed": 0})
    ['optim.lr: 0.1 in the folder, 0.2 now']
    """
    old, new = flatten(before), flatten(now)
    return [
        f"{key}: {old.get(key, 'absent')} in the folder, {new.get(key, 'absent')} now"
        for key in sorted(old.keys() | new.keys())
        if key not in old or key not in new or old[key] != new[key]
    ]


class RunFolder:
    """An open run folder, locked against a second process; use it in a ``with`` statement.

    Args:
        path: the folder; created when it does not exist.

    Raises:
        OSError: the path is a file, cannot be written, holds other things, or is in use by another process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / CHECKPOINT
        self.metrics = path / METRICS
        self.student = path / STUDENT

    def __enter__(self) -> RunFolder:
        path = self.path
        blocked = next((p for p in [path, *path.parents] if p.exists() and not p.is_dir()), None)
        if blocked is not None:
            raise NotADirectoryError(f"`output` must be a folder, but {blocked} is a file. Give another path.")
        if path.exists() and not (path / CONFIG).exists():
            foreign = [p.name for p in path.iterdir() if p.name not in (LOCK, CHECKPOINT, CONFIG + ASIDE)]
            if foreign:
                raise FileExistsError(
                    f"`output` must be a new folder or a run's folder, but {path} holds {min(foreign)} "
                    f"and no {CONFIG}. Give another path."
                )
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / LOCK).open("a+")
        except OSError as error:
            raise type(error)(f"`output` must be a folder that can be written, got {path}: {error.strerror}.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel frees it when the process dies
        except BlockingIOError:
            self._lock.seek(0)
            owner = self._lock.read().strip() or "unknown"
            self._lock.close()
            raise BlockingIOError(
                f"the run folder {path} is in use by another process (id {owner}). Wait for it, or give another `output`."
            ) from None
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()
        for folder in (path, self.checkpoint):
            clean_leftovers(folder)
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def result(self) -> dict[str, Any] | None:
        """Return the finished run's result; ``None`` while it is unfinished."""
        path = self.path / RESULT
        return json.loads(path.read_text()) if path.exists() else None

    def config(self) -> dict[str, Any] | None:
        """Return what ``config.yaml`` holds; ``None`` in a new folder."""
        path = self.path / CONFIG
        return yaml.safe_load(path.read_text()) if path.exists() else None

    def write_config(self, record: dict[str, Any]) -> None:
        """Write ``config.yaml``."""
        text = yaml.safe_dump(json.loads(json.dumps(record)), sort_keys=False, allow_unicode=True)
        write_atomic(self.path / CONFIG, text.encode())

    def check_same(self, key: str, now: dict[str, Any], ignore: tuple[str, ...] = ()) -> None:
        """Compare block ``key`` of ``config.yaml`` with the present run's, except its entries named in ``ignore``.

        Raises:
            ValueError: they differ; every differing key is named with both values.
        """
        before = (self.config() or {}).get(key)
        if before is None:
            return
        present = json.loads(json.dumps(now))
        lines = differences(*({k: v for k, v in record.items() if k not in ignore} for record in (before, present)))
        if lines:
            raise ValueError(
                f"the run folder {self.path} belongs to another run; under `{key}`:\n  "
                + "\n  ".join(lines)
                + "\nGive another `output`, or delete the folder to start again."
            )

    def warn_versions(self, now: dict[str, Any]) -> None:
        """Warn when the run was started under other versions: the numbers may differ in their last digits."""
        before = (self.config() or {}).get("versions", now)
        lines = differences(before, now)
        if lines:
            warnings.warn(
                "this run was started under other versions, so it may not be bit-identical to an uninterrupted one: "
                + "; ".join(lines),
                stacklevel=2,
            )

    def check_space(self, needed: int) -> None:
        """Raise ``OSError`` unless ``needed`` bytes are free."""
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise OSError(
                f"the disk of `output` must have {needed / 2**20:.0f} MiB free for checkpoints, "
                f"got {free / 2**20:.0f} MiB at {self.path}. Free some space or give another path."
            )

    def truncate_metrics(self, size: int) -> None:
        """Cut ``metrics.jsonl`` back to the ``size`` bytes that the checkpoint knows of.

        Raises:
            ValueError: the file is shorter: somebody edited it.
        """
        present = self.metrics.stat().st_size if self.metrics.exists() else 0
        if present < size:
            raise ValueError(
                f"{self.metrics} must hold at least the {size} bytes that the checkpoint remembers, got {present}. "
                "It was changed by hand: delete the run folder to start again."
            )
        if present > size:
            os.truncate(self.metrics, size)

    def append_metrics(self, line: dict[str, Any]) -> int:
        """Append a line, force it to the disk, and return the file's size in bytes."""
        with writing(self.metrics), self.metrics.open("ab") as file:
            file.write((json.dumps(line) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def write_result(self, student: bytes, result: dict[str, Any]) -> None:
        """Write the student, then ``result.json``, whose presence says that all is done."""
        write_atomic(self.student, student)
        write_atomic(self.path / RESULT, (json.dumps(result, indent=2) + "\n").encode())
