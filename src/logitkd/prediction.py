"""predict(): the classes that a run's student gives images or texts of a person's own, with their probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from logitkd import tasks
from logitkd.checks import check_int, listed
from logitkd.data.unseen import Unseen
from logitkd.models import opening
from logitkd.reach.inputs import call, eval_mode
from logitkd.runs.config import TrainConfig
from logitkd.runs.device import resolve_device
from logitkd.runs.folder import read_run
from logitkd.runs.values import validate
from logitkd.training.network_checks import check_student
from logitkd.training.networks import load_network, recorded_student

__all__ = ["Prediction", "predict"]


@dataclass(frozen=True)
class Prediction:
    """What the student says of one image or text.

    Args:
        file: its path, as it was given or found in a folder that was given; ``-`` for standard input, ``texts`` for texts
            that were given.
        classes: the most probable classes, the first one first.
        probabilities: theirs, in [0, 1].
        row: where there are several in a file, which one it is, counted from 0.
    """

    file: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    row: int | None = None


def predict(
    run: str | Path,
    files: str | Path | Sequence[str | Path] = (),
    *,
    texts: Sequence[str] | Sequence[tuple[str, str]] | None = None,
    top: int = 1,
    batch_size: int = 256,
    device: str = "auto",
    trust_code: bool = False,
) -> list[Prediction]:
    """Return what the student of a finished run says of files, in the order given.

    They are shown as in the run's evaluation. Images: with ``image_size`` resized and cropped, otherwise as they are, and
    normalised by the run's own mean and std; each is decoded twice, so that one which cannot be read is known before anything
    is predicted, and no more than a few batches are in memory. Texts: read by the student's tokenizer, and cut to the run's
    ``max_length``.

    Args:
        run: the run folder.
        files: of a run on images, paths of images and of folders: all images in one, at any depth, sorted by path. Of a run on
            text, paths of texts (``.txt``), of tables that have the run's columns of text (``.csv``, ``.tsv``, ``.jsonl``,
            ``.parquet``), and ``-`` for standard input, a text a line. Pairs of texts are in tables, or with a tab between
            them in lines.
        texts: of a run on text, the texts themselves in place of files; of pairs, tuples of two.
        top: so many classes of each.
        batch_size: examples at a time; changes memory and speed only.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust_code: whether a ``package.module:callable`` that the run folder names may be imported from the folder itself; by
            default only from elsewhere.

    Returns:
        One prediction an image or text.

    Raises:
        FileNotFoundError: ``run`` is no run folder, or has no student yet.
        ValueError: a file cannot be read, an image is not of the size that the run was trained on, a text is empty (all such
            are named); ``top`` beyond the classes; a student that is not what the run wrote, or is built by code that lies
            nowhere but in its folder; a run of a task that reads no files.
    """
    check_int("batch_size", batch_size, 1)
    where, folder = resolve_device(device), Path(run)
    with opening([folder], trust_code=trust_code):
        record = read_run(folder)
        kind = record["run"].get("task", TrainConfig.task)
        recorded = recorded_student(folder, trust_code=trust_code)
        data: Any = validate(tasks.settings_of(kind), record["run"]["data"], "data.")
        task = tasks.get(kind)(TrainConfig(recorded, task=kind, data=data))
        task.recall(folder, record.get("data", {}))
        check_int("top", top, 1, len(task.classes), "the run's classes")
        student = load_network(recorded, task.classes, **task.network_options).to(where)
        check_student(student, f"`{recorded.name}`", task, where)
        paths = [files] if isinstance(files, (str, Path)) else files
        examples = task.unseen(paths, texts, batch_size=batch_size, device=where)
        return _predict(student, examples, task.classes, top)


@torch.no_grad()
def _predict(student: nn.Module, examples: Unseen, classes: Sequence[str], top: int) -> list[Prediction]:
    found: dict[int, Prediction] = {}
    with eval_mode(student), closing(examples.loader.epoch(1)) as batches:
        for batch in batches:
            logits = call(student, batch.inputs).double()
            # Logits are sorted, not probabilities, which may be equal, 1 or 0, where logits are not.
            order = logits.argsort(dim=1, descending=True, stable=True)[:, :top]
            shares: Tensor = logits.softmax(dim=1).gather(1, order)
            if shares.isnan().any():
                bad = [_named(*examples.places[index]) for index in batch.index[shares.isnan().any(dim=1)].tolist()]
                raise ValueError(f"the student's logits must be numbers, got NaN or infinity for {listed(bad, 3)}.")
            rows: Iterable[Any] = zip(batch.index.tolist(), order.tolist(), shares.tolist(), strict=True)
            for index, numbers, probabilities in rows:
                file, row = examples.places[index]
                found[index] = Prediction(file, tuple(classes[number] for number in numbers), tuple(probabilities), row)
    return [found[index] for index in sorted(found)]  # batches may come in another order


def _named(file: str, row: int | None) -> str:
    return file if row is None else f"{file} row {row}"
