"""predict(): the classes that a run's student gives image files, with their probabilities."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from logitkd.checks import check_int, check_path, listed
from logitkd.data import ImageData, ImageSplit, Loader, make_loader
from logitkd.data.config import DataConfig
from logitkd.data.decode import decode_images, encoded, open_image
from logitkd.data.encoded import whole
from logitkd.models import opening
from logitkd.reach import eval_mode
from logitkd.runs.config import TrainConfig
from logitkd.runs.device import resolve_device
from logitkd.runs.folder import check_images, read_run
from logitkd.runs.networks import ModelConfig
from logitkd.tasks.images import ImageTask
from logitkd.training.network_checks import check_student
from logitkd.training.networks import load_network, recorded_student

__all__ = ["Prediction", "predict"]

FEW = 256  # images that are decoded sooner than worker processes begin


@dataclass(frozen=True)
class Prediction:
    """What the student says of one image.

    Args:
        file: its path, as it was given or found in a folder that was given.
        classes: the most probable classes, the first one first.
        probabilities: theirs, in [0, 1].
    """

    file: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def predict(
    run: str | Path,
    files: str | Path | Sequence[str | Path],
    *,
    top: int = 1,
    batch_size: int = 256,
    device: str = "auto",
    trust_code: bool = False,
) -> list[Prediction]:
    """Return what the student of a finished run says of image files, in the order given.

    Images are shown as in the run's evaluation: with ``image_size`` resized and cropped, otherwise as they are, and normalised
    by the run's own mean and std. Each is decoded twice, so that one which cannot be read is known before anything is
    predicted, and no more than a few batches are in memory.

    Args:
        run: the run folder.
        files: paths of images, and of folders: all images in one, at any depth, sorted by path.
        top: so many classes of each image.
        batch_size: images at a time; changes memory and speed only.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust_code: whether a ``package.module:callable`` that the run folder names may be imported from the folder itself; by
            default only from elsewhere.

    Returns:
        One prediction an image.

    Raises:
        FileNotFoundError: ``run`` is no run folder, or has no student yet.
        ValueError: an image cannot be read, or is not of the size that the run was trained on (all such are named); ``top``
            beyond the classes; a student that is not what the run wrote, or is built by code that lies nowhere but in its
            folder.
    """
    check_int("batch_size", batch_size, 1)
    where, folder = resolve_device(device), Path(run)
    with opening([folder], trust_code=trust_code):
        record = read_run(folder)
        check_images(record, "predict")
        config, wrote = DataConfig(**record["run"]["data"]), record.get("data", {})
        lacking = [key for key in ("classes", "input_size", "mean", "std") if key not in wrote]
        if lacking:
            raise ValueError(
                f"{folder}/config.yaml must record `data.{lacking[0]}`, which an earlier version did not: train the run again."
            )
        classes, shape = wrote["classes"], tuple(wrote["input_size"])
        check_int("top", top, 1, len(classes), "the run's classes")
        recorded = recorded_student(folder, trust_code=trust_code)
        student = load_network(recorded, classes).to(where)
        task = ImageTask(TrainConfig(ModelConfig(""), data=config))  # not loaded: the run's data may be gone
        task.classes, task.shape = tuple(classes), shape
        check_student(student, f"`{recorded.name}`", task, where)
        paths = _readable(files, shape[1:] if config.image_size is None else None)
        loader = _loader(paths, config, wrote, batch_size, where)
        return _predict(student, loader, paths, classes, top)


def _readable(files: str | Path | Sequence[str | Path], size: tuple[int, int] | None) -> list[str]:
    """Return the path of each image, those in folders too.

    Args:
        files: of images and folders.
        size: height and width that each must have; none if any will do.

    Raises:
        ValueError: there is none, or some cannot be read or have another size; each is named.
    """
    paths, problems = [], []
    for path in [files] if isinstance(files, (str, Path)) else files:
        try:
            check_path("files", path)
            paths += _inside(Path(path)) if os.path.isdir(path) else [os.fspath(path)]
        except ValueError as error:
            problems.append(str(error))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # a decoder frees the interpreter's lock
        problems += filter(None, threads.map(lambda path: _problem(path, size), paths))
    if problems:
        raise ValueError("\n".join([f"`files` must be images that can be read, got {len(problems)} that cannot:", *problems]))
    if not paths:
        raise ValueError("`files` must name at least one image, got none.")
    return paths


def _inside(folder: Path) -> list[str]:
    from logitkd.data.image_folder import images_under  # `datasets` comes with it: not for files alone

    return images_under(folder)


def _problem(path: str, size: tuple[int, int] | None) -> str | None:
    try:
        check_path("files", path)  # of a folder given: what is in it may have any name
        image = open_image(encoded({"path": path}, 0, lambda row: path), 0, lambda row: path)
    except ValueError as error:
        return str(error)
    if size in (None, (image.height, image.width)):
        return None
    return (
        f"{path} must be {size[0]}x{size[1]} pixels (height x width), the size that the run was trained on, "
        f"got {image.height}x{image.width}. A run that has `data.image_size` takes any."
    )


def _loader(paths: Sequence[str], config: DataConfig, wrote: dict[str, Any], batch_size: int, device: torch.device) -> Loader:
    """Return a loader of the images as the run's evaluation shows its own."""
    labels = torch.zeros(len(paths), dtype=torch.int64)  # nobody reads them
    column = [{"path": path} for path in paths]
    if config.image_size is None:
        split: Any = ImageSplit(decode_images(column, paths.__getitem__), labels)
    else:
        split = whole(column, labels, paths.__getitem__)
    images = ImageData(split, split, tuple(wrote["classes"]), tuple(wrote["mean"]), tuple(wrote["std"]))
    workers = 0 if len(paths) <= FEW else config.workers
    return make_loader(images, replace(config, workers=workers), train=False, batch_size=batch_size, device=device)


@torch.no_grad()
def _predict(student: nn.Module, loader: Loader, paths: Sequence[str], classes: Sequence[str], top: int) -> list[Prediction]:
    found: list[Prediction] = []
    with eval_mode(student), closing(loader.epoch(1)) as batches:
        for batch in batches:
            logits = student(batch.inputs).double()
            # Logits are sorted, not probabilities, which may be equal, 1 or 0, where logits are not.
            order = logits.argsort(dim=1, descending=True, stable=True)[:, :top]
            shares: Tensor = logits.softmax(dim=1).gather(1, order)
            if shares.isnan().any():
                bad = [paths[index] for index in batch.index[shares.isnan().any(dim=1)].tolist()]
                raise ValueError(f"the student's logits must be numbers, got NaN or infinity for {listed(bad, 3)}.")
            rows: Iterable[Any] = zip(batch.index.tolist(), order.tolist(), shares.tolist(), strict=True)
            found += [
                Prediction(paths[index], tuple(classes[number] for number in numbers), tuple(probabilities))
                for index, numbers, probabilities in rows
            ]
    return found
