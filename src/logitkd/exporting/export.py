"""export(): from a finished run to the plain student as others load it, each file checked against the student."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitkd.exporting.card import CARD, card, describe
from logitkd.exporting.formats import FORMATS, check_formats
from logitkd.exporting.kind import CONFIG
from logitkd.exporting.kinds import kind_of
from logitkd.exporting.parity import Parity, compare
from logitkd.files import check_output, sync_folder, writing
from logitkd.models import opening
from logitkd.runs.folder import read_result, read_run
from logitkd.training.networks import load_network, recorded_student

__all__ = ["ExportResult", "export"]

OURS = {CARD, CONFIG, *(form.file for form in FORMATS.values()), FORMATS["onnx"].file + ".data"}


@dataclass(frozen=True)
class ExportResult:
    """What an export came to.

    Args:
        folder: where the files are.
        parity: a line a format.
        checked_on: the examples the files were compared on, in words.
    """

    folder: Path
    parity: tuple[Parity, ...]
    checked_on: str


def export(
    run: str | Path,
    output: str | Path | None = None,
    *,
    formats: Sequence[str] = tuple(FORMATS),
    trust_code: bool = False,
) -> ExportResult:
    """Write the plain student of a finished run, with a model card, to a folder of its own.

    Every file is read back and must agree with the student at several batch sizes, on evaluation examples of the run where
    its data can be read, else on random ones. The folder appears whole, in place of an earlier export, or not at all.

    Args:
        run: the folder of a finished run.
        output: the export folder; by default ``export`` in the run folder.
        formats: some of ``safetensors``, ``onnx`` and ``torch_export``.
        trust_code: whether a ``package.module:callable`` that the run folder names may be imported from the folder itself;
            by default only from elsewhere.

    Returns:
        Where the files are and how well they agree.

    Raises:
        FileNotFoundError: ``run`` is no run folder.
        FileExistsError: ``output`` holds something else than an export.
        ParityError: a file does not agree with the student; nothing is left behind.
        ValueError: the run is unfinished, a format is unknown, not installed or cannot express the student, or neither the
            run folder nor its data say what the student takes; the student is not what the run wrote, or is built by code
            that lies nowhere but in the run folder.
    """
    with opening([run], trust_code=trust_code):
        return _export(run, output, formats, trust_code)


def _export(run: str | Path, output: str | Path | None, formats: Sequence[str], trust_code: bool) -> ExportResult:
    folder, formats = Path(run), tuple(dict.fromkeys(formats))
    check_formats(formats)
    record, result = read_run(folder), read_result(folder)
    if result is None:
        raise ValueError(
            f"a run must be finished to be exported, and {folder} has no result.json yet. Give the `logitkd train` command "
            "that began it again: it goes on where it stopped."
        )
    kind = kind_of(record)
    target = folder / "export" if output is None else Path(output)
    _refuse_foreign(target)
    recorded, classes = recorded_student(folder, trust_code=trust_code), record["data"]["classes"]
    name = recorded.name
    student = kind.trained(load_network(recorded, classes, **kind.options).eval(), name)
    whole = kind.whole(student)
    given = kind.fitting(whole, kind.read_input(record, folder))
    beside = kind.files(given)
    with _aside(target) as aside:
        parity = []
        for form in formats:
            file = FORMATS[form].file
            network = kind.plain(student) if FORMATS[form].plain else whole
            try:
                with writing(target / file):
                    FORMATS[form].write(network, given.trace, aside / file)
            except OSError:
                raise  # a full disk is not the student's fault
            except Exception as error:  # the tracer runs the user's code on symbols: it fails in any way
                raise ValueError(_untraceable(form, name, kind.free, error)) from error
            exported = FORMATS[form].read(aside / file, lambda path: kind.rebuild(student, name, path, classes))
            parity.append(compare(whole, exported, given.batches, file))
        facts = describe(kind, student, record, result, given, parity)
        facts["logitkd"]["beside"] = sorted(beside)
        said = {CONFIG: json.dumps(facts, indent=2, ensure_ascii=False) + "\n", CARD: card(kind, facts)}
        for file, content in {**beside, **{file: text.encode() for file, text in said.items()}}.items():
            with writing(target / file):
                (aside / file).write_bytes(content)
        kind.check(aside, student, name, given, formats)
    return ExportResult(target, tuple(parity), given.words)


def _untraceable(form: str, name: str, free: str, error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    others = ",".join(other for other in FORMATS if not FORMATS[other].needs and other != form)
    return (
        f"the student `{name}` cannot be exported as `{form}` for {free}: {type(error).__name__}: "
        f"{' '.join(lines[:2])}\nLeave the format out, e.g. `--format {others.partition(',')[0]}`."
    )


def _refuse_foreign(target: Path) -> None:
    """Raise unless ``target`` is free or an export that holds nothing else."""
    check_output(target)
    if not target.exists():
        return
    earlier = _earlier(target)
    ours = OURS if earlier is None else OURS | set(map(str, earlier.get("beside", ())))
    foreign = sorted(path.name for path in target.iterdir() if path.name not in ours)
    if not foreign and any(target.iterdir()) and earlier is None:
        foreign = sorted(path.name for path in target.iterdir())
    if foreign:
        raise FileExistsError(
            f"`output` must be a new folder or an earlier export, but {target} holds {foreign[0]}, which no export wrote. "
            "Give another path."
        )


def _earlier(target: Path) -> dict[str, Any] | None:
    """Return what the ``config.json`` of an earlier export says under our name, ``None`` where there was none."""
    try:
        said = json.loads((target / CONFIG).read_text(encoding="utf-8"))["logitkd"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``target`` when the block ends well, and is gone when it does not.

    Where ``target`` is a link, the folder it leads to is replaced, and the link stays.
    """
    target = target.resolve()
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=".export.", dir=target.parent)
    with temporary as holder:
        aside, old = Path(holder) / "new", Path(holder) / "old"
        with writing(target):
            aside.mkdir()
        yield aside
        with writing(target):
            for path in aside.iterdir():
                with path.open("rb") as file:
                    os.fsync(file.fileno())  # before the rename: else a power cut may leave the new name on no bytes
            if target.exists():
                os.replace(target, old)
            try:
                os.replace(aside, target)
            except OSError:
                if old.exists():
                    os.replace(old, target)
                raise
    sync_folder(target.parent)
