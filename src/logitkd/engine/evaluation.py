"""evaluate(): the metrics of a network, or of a finished run's student, on an evaluation split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from logitkd.data import DeviceLoader, load_images
from logitkd.data.config import DataConfig
from logitkd.engine.accelerator import resolve_device
from logitkd.engine.config import ModelConfig
from logitkd.engine.inputs import load_network
from logitkd.engine.run_folder import read_run
from logitkd.models import parameter_count
from logitkd.reach import Teacher
from logitkd.tasks.classification import evaluate_classifier, predict

__all__ = ["evaluate"]


def evaluate(
    model: nn.Module | ModelConfig | str | Path,
    data: DataConfig | None = None,
    *,
    teacher: nn.Module | ModelConfig | str | Path | None = None,
    batch_size: int = 256,
    device: str = "auto",
) -> dict[str, Any]:
    """Return the metrics of ``model`` on the evaluation split of ``data``, in float32.

    Args:
        model: a module, a configuration of one, or a run folder (its student).
        data: what to evaluate on; by default the run folder's data.
        teacher: the network to measure the agreement with; a run folder there means that run's student.
        batch_size: images at a time; changes nothing but memory and speed.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        ``top1``, ``top5``, ``agreement`` (percent), ``loss`` (nats), ``calibration_error`` (in [0, 1]), ``images``,
        ``split`` and ``parameters``.

    Raises:
        FileNotFoundError: the path is not a run folder.
        ValueError: ``data`` is missing, a network does not fit its classes, or the folder's ``config.yaml`` is no run's.
    """
    where = resolve_device(device)
    if isinstance(model, (str, Path)):
        data = data or DataConfig(**_tuples(read_run(Path(model))["run"]["data"]))
    if data is None:
        raise ValueError("`data` must be given unless `model` is a run folder.")
    images = load_images(data)  # the seed chooses training images only
    classes = len(images.classes)
    loader = DeviceLoader(images.eval, batch_size=batch_size, device=where, mean=images.mean, std=images.std)
    network = _network(model, images.classes).to(where)
    predictions = None
    if teacher is not None:
        frozen = Teacher(_network(teacher, images.classes).to(where), num_classes=classes)
        predictions = predict(lambda batch: frozen(batch).logits, loader.epoch(1), len(images.eval), where)
    metrics = evaluate_classifier(network, loader.epoch(1), classes, where, teacher_predictions=predictions)
    return {
        **metrics,
        "images": len(images.eval),
        "split": data.eval_split,
        "parameters": parameter_count(network),
    }


def _network(model: nn.Module | ModelConfig | str | Path, classes: Sequence[str]) -> nn.Module:
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, (str, Path)):
        model = ModelConfig(read_run(Path(model))["run"]["student"]["name"], checkpoint=str(model))
    return load_network(model, classes)


def _tuples(record: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
