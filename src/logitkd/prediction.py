"""predict(): what a run's student says of images or texts of a person's own: classes and probabilities, or masks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from logitkd import tasks
from logitkd.checks import check_int
from logitkd.data.unseen import Unseen
from logitkd.models import opening
from logitkd.reach.inputs import call, eval_mode
from logitkd.runs.config import TrainConfig
from logitkd.runs.device import resolve_device
from logitkd.runs.folder import read_run
from logitkd.runs.values import validate
from logitkd.tasks.answers import Answer, Answers, Prediction
from logitkd.tasks.mask_answers import MaskPrediction
from logitkd.training.network_checks import check_student
from logitkd.training.networks import load_network, recorded_student

__all__ = ["MaskPrediction", "Prediction", "predict"]


def predict(
    run: str | Path,
    files: str | Path | Sequence[str | Path] = (),
    *,
    texts: Sequence[str] | Sequence[tuple[str, str]] | None = None,
    top: int | None = None,
    output: str | Path | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    trust_code: bool = False,
) -> list[Any]:
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
        top: so many classes of each, where an image or text has one; by default the most probable alone.
        output: of a run on masks, the folder that they are written to: PNGs of class numbers with the run's palette, of the
            image's own size and named like it, those of a folder's images in the same folders as there. They appear together
            when all are done; none takes the place of a file.
        batch_size: examples at a time; changes memory and speed only. By default 256, of a run on masks 4.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust_code: whether a ``package.module:callable`` that the run folder names may be imported from the folder itself; by
            default only from elsewhere.

    Returns:
        One :class:`Prediction` an image or text, of a run on masks one :class:`MaskPrediction` an image.

    Raises:
        FileNotFoundError: ``run`` is no run folder, or has no student yet.
        FileExistsError: a mask is there already.
        ValueError: a file cannot be read, an image is not of the size that the run was trained on, a text is empty (all such
            are named); ``top`` beyond the classes; no ``output`` where masks are written, or one where nothing is; two images
            whose masks would have one name; a student that is not what the run wrote, or is built by code that lies nowhere but
            in its folder; a run of a task that reads no files.
    """
    if batch_size is not None:
        check_int("batch_size", batch_size, 1)
    where, folder = resolve_device(device), Path(run)
    with opening([folder], trust_code=trust_code):
        record = read_run(folder)
        kind = record["run"].get("task", TrainConfig.task)
        recorded = recorded_student(folder, trust_code=trust_code)
        data: Any = validate(tasks.settings_of(kind), record["run"]["data"], "data.")
        task = tasks.get(kind)(TrainConfig(recorded, task=kind, data=data))
        task.recall(folder, record.get("data", {}))
        answers = task.answers(top=top, output=output)
        student = load_network(recorded, task.classes, **task.network_options).to(where)
        check_student(student, f"`{recorded.name}`", task, where)
        paths = [files] if isinstance(files, (str, Path)) else files
        examples = task.unseen(paths, texts, batch_size=batch_size or task.at_once, device=where)
        with answers.begin(paths, examples):
            return _predict(student, examples, answers)


@torch.no_grad()
def _predict(student: nn.Module, examples: Unseen, answers: Answers) -> list[Answer]:
    found: dict[int, Answer] = {}
    with eval_mode(student), closing(examples.loader.epoch(1)) as batches:
        for batch in batches:
            of_batch = answers.of(call(student, batch.inputs), batch)
            found.update(zip(batch.index.tolist(), of_batch, strict=True))
    return [found[index] for index in sorted(found)]  # batches may come in another order
