"""How well maps of classes overlap with the truth: intersection over union, each class over all images at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from logitkd.data import Batch
from logitkd.data.masks import VOID
from logitkd.logits import widen
from logitkd.reach.signals import checked_map

__all__ = ["SegmentationMeter", "class_map"]


class SegmentationMeter:
    """Scores maps of logits at the masks' size; what is added up are numbers of pixels, so nothing is rounded.

    Computes ``miou`` (mean over the classes that occur in truth or answers of intersection / union, each over all images at
    once), ``pixel_accuracy``, with a teacher ``agreement`` (share of labelled pixels given the teacher's class), ``loss`` (mean
    cross-entropy, nats), and ``iou/NAME`` of each class; all but the loss in percent.

    Args:
        classes: the name of each class.
        device: where the batches are.
        teacher: that has seen the teacher's answers to the same images.
    """

    def __init__(self, classes: Sequence[str], device: torch.device, teacher: SegmentationMeter | None = None) -> None:
        from torchmetrics.classification import MulticlassConfusionMatrix  # a second: not for every command

        self.classes = classes
        self._matrix = MulticlassConfusionMatrix(len(classes), ignore_index=VOID, validate_args=False).to(device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._agreed = torch.zeros((), dtype=torch.int64, device=device)
        self._teacher = teacher
        self.answers: dict[int, Tensor] = {}  # of each image, on the host: only a teacher's are asked for

    def update(self, output: Any, batch: Batch) -> None:
        """Add what a network returned for a batch."""
        labels = batch.labels.clamp(min=VOID)
        logits = class_map(output, (labels.shape[1], labels.shape[2]))
        answers = logits.argmax(dim=1)
        self._loss += F.cross_entropy(logits, labels, ignore_index=VOID, reduction="sum").double()
        self._matrix.update(answers, labels)
        small = answers.to(torch.uint8 if len(self.classes) <= 256 else torch.int32)
        for row, index in enumerate(batch.index.tolist()):
            if self._teacher is None:
                self.answers[index] = small[row].cpu()
            else:
                theirs = self._teacher.answers[index].to(answers.device)
                self._agreed += ((small[row] == theirs) & (labels[row] != VOID)).sum()

    def largest_share(self) -> float:
        """Return the share of the labelled pixels that have the most frequent class, in percent."""
        truth = self._matrix.confmat.sum(dim=1)
        return 100 * truth.max().item() / max(truth.sum().item(), 1)

    def compute(self) -> dict[str, float]:
        """Return the metrics over all batches."""
        matrix = self._matrix.confmat.double()  # truth x answer
        right, pixels = matrix.diagonal(), matrix.sum().item()
        overlaps = (100 * right / (matrix.sum(0) + matrix.sum(1) - right)).tolist()  # NaN where a class occurs nowhere
        there = {name: value for name, value in zip(self.classes, overlaps, strict=True) if not math.isnan(value)}
        metrics = {
            "loss": self._loss.item() / max(pixels, 1),
            "miou": sum(there.values()) / max(len(there), 1),
            "pixel_accuracy": 100 * right.sum().item() / max(pixels, 1),
        }
        if self._teacher is not None:
            metrics["agreement"] = 100 * self._agreed.item() / max(pixels, 1)
        return metrics | {f"iou/{name}": value for name, value in there.items()}


def class_map(output: Any, size: tuple[int, int] | None = None) -> Tensor:
    """Return what a network returned as one float32 map of logits, ``(N, C, H, W)``.

    Args:
        output: a map ``(N, C, h, w)`` or a mapping with one, see ``checked_map``.
        size: H and W that it is resized to, bilinearly; by default it keeps its own.
    """
    logits = widen(checked_map(output, "network").logits.movedim(-1, 1))
    if size is None or logits.shape[2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
