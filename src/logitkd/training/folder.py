"""The run folder: what a run leaves behind, and the rules under which a run may go on in it.

``config.yaml`` (everything resolved), ``metrics.jsonl`` (a line an epoch), ``checkpoint/`` (to go on),
``student.safetensors`` (the plain student), ``result.json`` (last: its presence says that the run is finished).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from logitkd.files import ASIDE, check_output, write_atomic, writing
from logitkd.runs.folder import (
    CHECKPOINT,
    CONFIG,
    HASH,
    LOCK,
    METRICS,
    OWNER,
    RESULT,
    STATE,
    STUDENT,
    dotted,
    read_result,
    read_run,
)

__all__ = ["RunFolder"]


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a line for each key whose value differs.

    >>> differences({"optim": {"lr": 0.1}, "seed": 0}, {"optim": {"lr": 0.2}, "seed": 0})
    ['optim.lr: 0.1 in the folder, 0.2 now']
    """
    old, new = dotted(before), dotted(now)
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
        self.refuse_foreign()  # before the first file of ours is written or deleted
        owner = path / OWNER  # a file of its own: Windows lets nobody read a file that is locked
        self._lock = FileLock(path / LOCK, thread_local=False)
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)  # the system frees it when the process dies
        except Timeout:
            other = owner.read_text(encoding="utf-8").strip() if owner.exists() else ""
            raise BlockingIOError(
                f"the run folder {path} is in use by another process (id {other or 'unknown'}). Wait for it, or give another "
                "`output`."
            ) from None
        except OSError as error:
            raise type(error)(f"`output` must be a folder that can be written, got {path}: {error.strerror}.") from error
        try:
            write_atomic(owner, f"{os.getpid()}\n".encode())
        except BaseException:
            self._lock.release()
            raise
        for written in (path / CONFIG, path / RESULT, self.student, self.checkpoint / STATE):
            written.with_name(written.name + ASIDE).unlink(missing_ok=True)  # a killed process was writing it
        return self

    def refuse_foreign(self) -> None:
        """Raise ``FileExistsError`` where the folder holds something and is no run's, and as :func:`check_output`."""
        path = self.path
        check_output(path)
        if not path.exists():
            return
        if (path / CONFIG).exists():
            try:
                read_run(path)
            except ValueError as error:
                raise FileExistsError(
                    f"`output` must be a new folder or a run's folder, but {error} Give another path."
                ) from error
            return
        foreign = [p.name for p in path.iterdir() if p.name not in (LOCK, OWNER, OWNER + ASIDE, CHECKPOINT, CONFIG + ASIDE)]
        if self.checkpoint.exists():
            inside = self.checkpoint.iterdir() if self.checkpoint.is_dir() else [self.checkpoint]
            foreign += [f"{CHECKPOINT}/{p.name}" for p in inside if p.name not in (STATE, STATE + ASIDE)]
        if foreign:
            raise FileExistsError(
                f"`output` must be a new folder or a run's folder, but {path} holds {min(foreign)} "
                f"and no {CONFIG}. Give another path."
            )

    def __exit__(self, *error: object) -> None:
        (self.path / OWNER).unlink(missing_ok=True)
        self._lock.release()

    def result(self) -> dict[str, Any] | None:
        """Return the finished run's result; ``None`` while it is unfinished."""
        return read_result(self.path)

    def begun(self) -> bool:
        """Whether the run got anywhere: where it did not, a corrected one may take its place."""
        if any(path.exists() for path in (self.checkpoint / STATE, self.student, self.path / RESULT)):
            return True
        return self.metrics.exists() and b"\n" in self.metrics.read_bytes()

    def config(self) -> dict[str, Any] | None:
        """Return what ``config.yaml`` holds; ``None`` in a new folder."""
        return read_run(self.path) if (self.path / CONFIG).exists() else None

    def write_config(self, record: dict[str, Any]) -> None:
        """Write ``config.yaml``."""
        text = yaml.safe_dump(json.loads(json.dumps(record)), sort_keys=False, allow_unicode=True)
        write_atomic(self.path / CONFIG, text.encode())

    def write_assets(self, files: Mapping[str, bytes]) -> None:
        """Write what lies beside the student's weights, each file under its path in the folder."""
        for name, content in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path / name, content)

    def check_same(
        self, key: str, now: dict[str, Any], ignore: tuple[str, ...] = (), absent: dict[str, Any] | None = None
    ) -> None:
        """Compare block ``key`` of ``config.yaml`` with the present run's, except its entries named (dotted) in ``ignore``.

        A run that never got anywhere has nothing to be the same as. ``absent`` says what entries meant that a folder
        begun by an earlier version lacks.

        Raises:
            ValueError: they differ; every differing key is named with both values. Or the block is missing.
        """
        if not self.begun():
            return
        before = (self.config() or {}).get(key)
        if not isinstance(before, dict):
            raise ValueError(
                f"{self.path / CONFIG} must have the section `{key}` of the run that began here, and has none: it was lost or "
                "changed by hand. Give another `output`, or delete the folder to start again."
            )
        present, defaults = json.loads(json.dumps([now, absent or {}]))
        inside = tuple(f"{key}." for key in ignore)
        old, new = (
            {key: value for key, value in dotted(record).items() if key not in ignore and not key.startswith(inside)}
            for record in (before, present)
        )
        meant = {k: v for k, v in dotted(defaults).items() if k in new}
        lines = differences(meant | old, new)
        if lines:
            raise ValueError(
                f"the run folder {self.path} belongs to another run; under `{key}`:\n  "
                + "\n  ".join(lines)
                + "\nGive another `output`, or delete the folder to start again."
            )

    def warn_changes(self, now: dict[str, dict[str, Any]]) -> None:
        """Warn where what surrounds the run changed since it was started: it goes on, but may end in another student.

        Args:
            now: the present blocks ``versions`` and ``source``; one that an earlier version did not write is not compared.
        """
        for block, changed in {"versions": "under other versions", "source": "with other code of its networks"}.items():
            lines = differences((self.config() or {}).get(block, now[block]), now[block])
            if lines:
                warnings.warn(
                    f"this run was started {changed}, so it may not be bit-identical to an uninterrupted one: "
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

    def truncate_metrics(self, size: int, digest: str = "") -> None:
        """Cut ``metrics.jsonl`` back to the ``size`` bytes that the checkpoint knows of, whose sha256 is ``digest``.

        Raises:
            ValueError: the file is shorter, or these bytes are others: somebody edited it.
        """
        present = self.metrics.stat().st_size if self.metrics.exists() else 0
        if present < size:
            raise ValueError(
                f"{self.metrics} must hold at least the {size} bytes that the checkpoint remembers, got {present}. "
                "It was changed by hand: delete the run folder to start again."
            )
        if size and digest and self._metrics_digest(size) != digest:
            raise ValueError(
                f"{self.metrics} must begin with the {size} bytes that the checkpoint remembers, got others of that length. "
                "It was changed by hand: put the lines back, or delete the run folder to start again."
            )
        if present > size:
            os.truncate(self.metrics, size)

    def append_metrics(self, line: dict[str, Any]) -> tuple[int, str]:
        """Append a line, force it to the disk, and return the file's size in bytes and its sha256."""
        with writing(self.metrics), self.metrics.open("ab") as file:
            file.write((json.dumps(line) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        return size, self._metrics_digest(size)

    def _metrics_digest(self, size: int) -> str:
        return hashlib.sha256(self.metrics.read_bytes()[:size]).hexdigest()

    def write_result(self, student: bytes, result: dict[str, Any]) -> None:
        """Write the student, then ``result.json`` with its hash, whose presence says that all is done."""
        write_atomic(self.student, student)
        result = {**result, HASH: hashlib.sha256(student).hexdigest()}
        write_atomic(self.path / RESULT, (json.dumps(result, indent=2) + "\n").encode())
