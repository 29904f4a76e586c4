"""What a run leaves in numbers: a line an epoch and, at its end, the result."""

from __future__ import annotations

from typing import Any

from logitkd.runs.config import TrainConfig
from logitkd.training.checkpoint import Progress
from logitkd.training.epoch_log import StepLog

__all__ = ["epoch_line", "flat_line", "result_record"]


def epoch_line(
    config: TrainConfig, progress: Progress, lr: float, metrics: dict[str, float], eval_seconds: float
) -> dict[str, Any]:
    """Return the line of ``metrics.jsonl`` for the epoch that ``progress`` stands at the end of.

    Args:
        config: the run's.
        progress: with the epoch's sums and seconds, and the best epoch so far, this one included.
        lr: the epoch's learning rate.
        metrics: what the evaluation found.
        eval_seconds: how long it took.
    """
    means = StepLog(1, progress.sums).means()
    return {
        "epoch": progress.epoch,
        "lr": lr,
        "loss": means.pop("loss"),
        "train": {"top1": means.pop("top1")} if "top1" in means else {},
        "terms": means,
        "split": config.data.eval_name,
        "eval": metrics,
        "best": progress.best,
        "seconds": progress.epoch_seconds,
        "eval_seconds": eval_seconds,
        "images_per_second": progress.sums["count"] / progress.epoch_seconds,
    }


def result_record(
    config: TrainConfig, progress: Progress, parameters: int, teacher_top1: float | None = None
) -> dict[str, Any]:
    """Return ``result.json`` of a run whose last epoch is over.

    Args:
        config: the run's.
        progress: with the last epoch's line.
        parameters: how many the student has.
        teacher_top1: the teacher's own on the evaluation split, in percent; left out where there is no teacher.
    """
    last = progress.last
    return {
        "top1": last["eval"]["top1"],
        "split": config.data.eval_name,
        "epoch": config.epochs,
        "metrics": last["eval"],
        "train": last["train"],
        **({} if teacher_top1 is None else {"teacher_top1": teacher_top1}),
        "best": progress.best,
        "seconds": progress.seconds,
        "parameters": parameters,
        "method": config.method,
        "seed": config.seed,
    }


def flat_line(line: dict[str, Any]) -> dict[str, float]:
    """Return an epoch's line as trackers take it, a name a number.

    >>> line = {"lr": 0.1, "loss": 2.5, "train": {}, "terms": {"ce": 2.0}, "eval": {"top1": 9.0}, "images_per_second": 50.0}
    >>> flat_line(line)
    {'lr': 0.1, 'train/loss': 2.5, 'train/ce': 2.0, 'eval/top1': 9.0, 'images_per_second': 50.0}
    """
    numbers = {"lr": line["lr"], "train/loss": line["loss"]} | {f"train/{name}": value for name, value in line["train"].items()}
    numbers |= {f"train/{name}": value for name, value in line["terms"].items()}
    numbers |= {f"eval/{name}": value for name, value in line["eval"].items()}
    return numbers | {"images_per_second": line["images_per_second"]}
