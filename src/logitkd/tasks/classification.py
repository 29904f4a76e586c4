"""Classification, whatever an example is: one label each, accuracy, calibration, agreement with the teacher."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from logitkd.data import Batch
from logitkd.data.class_weights import class_weights, same_weights
from logitkd.objective import Targets, Term
from logitkd.reach.signals import Signals, checked_logits
from logitkd.tasks.answers import ClassAnswers
from logitkd.tasks.task import Meter, Task

__all__ = ["ClassMeter", "ClassificationTask"]


class ClassificationTask(Task):
    """Examples of one label each, see :class:`Task`.

    Its settings: ``data``, ``labels``, ``class_weights``, ``batch_size`` and the seeds. What :meth:`read` returns is in
    ``data``: both splits (``train``, ``eval``) with their ``labels``, and the ``classes``.

    Attributes:
        one: what a person calls an example, with its article.
        doubt: what else may be wrong with a teacher that is no better than chance, the end of a question.
    """

    headline, title = "top1", "top-1"
    table = (("top-1", "top1", 1), ("top-5", "top5", 1), ("agreement", "agreement", 1), ("ECE", "calibration_error", 100))
    one: ClassVar[str] = "an example"
    doubt: ClassVar[str] = ""
    data: Any

    @abstractmethod
    def read(self, *, train: bool) -> Any:
        """Return the data."""

    @abstractmethod
    def known_fingerprint(self) -> str | None:
        """Return the fingerprint that the data would have, where it is known without reading them."""

    def load(self, *, train: bool = True) -> None:
        """Read examples, labels and class weights."""
        settings = self.settings
        self.data = self.read(train=train)
        self.classes = self.data.classes
        self.train_size, self.eval_size = len(self.data.train), len(self.data.eval)
        labels = self.data.train.labels
        self.unlabelled = int((labels < 0).sum()) if train and settings.labels == "given" else 0
        self.class_weights = None
        if train and settings.class_weights is not None:
            counts = torch.bincount(labels[labels >= 0], minlength=len(self.classes))
            self.class_weights = class_weights(settings.class_weights, counts, self.classes, self.units.removesuffix("s"))

    @property
    def split(self) -> str:
        """The name of the evaluation examples."""
        return self.settings.data.eval_name

    def record(self) -> dict[str, Any]:
        """Return the fingerprint of examples and labels, how many there are, and the classes."""
        labels: dict[str, Any] = {"unlabelled": self.unlabelled} if self.unlabelled else {}
        if self.class_weights is not None:
            labels["class_weights"] = dict(zip(self.classes, self.class_weights.tolist(), strict=True))
        return {
            "fingerprint": self.data.fingerprint,
            "train": self.train_size,
            "eval": self.eval_size,
            "classes": list(self.classes),
            **self.implied(),
            **labels,
        }

    def unchanged(self, recorded: Mapping[str, Any]) -> bool:
        """Whether the files are those of the fingerprint, and the weights of the classes those of their file."""
        known = self.known_fingerprint()
        same = known is not None and known == recorded["fingerprint"]
        return same and same_weights(self.settings.class_weights, recorded.get("class_weights"), recorded["classes"])

    def summary(self) -> str:
        """Say how many examples there are, and of which classes."""
        return self.data.summary()

    def check_output(self, output: Any, count: int, name: str) -> None:
        """Refuse what is not logits ``(count, C)``."""
        classes = len(self.classes)
        what = f"the student must return logits (N, {classes}), one row {self.one} and one column a class, got"
        if not isinstance(output, Tensor):
            raise TypeError(f"{what} {type(output).__name__} ({name}). Wrap it in a module that returns the logits alone.")
        if tuple(output.shape) != (count, classes):
            last = output.shape[-1] if output.ndim == 2 and output.shape[0] == count else None
            fix = "Its `forward` must return the logits alone."
            if last is not None:
                fix = f"It has {last} classes: let it take `num_classes`, or give data with as many classes as it has."
            raise ValueError(f"{what} {tuple(output.shape)} for {count} {self.units} ({name}). {fix}")
        checked_logits(output, f"student ({name})", classes)

    def answers(self, *, top: int | None, output: str | Path | None) -> ClassAnswers:
        """Return what names the most probable classes."""
        return ClassAnswers(self.classes, top, output, self.units)

    def targets(self, batch: Batch, student: Signals) -> Targets:
        """Return the labels; every example counts."""
        return Targets(batch.labels)

    def terms(self, student: Signals, targets: Targets) -> dict[str, Term]:
        """Return the cross-entropy, weighed by class where the settings say so."""
        weights = self.class_weights
        if weights is not None and weights.device != student.logits.device:
            weights = self.class_weights = weights.to(student.logits.device)
        return {"ce": targets.cross_entropy(student.logits, weights)}

    def scores(self, student: Signals, targets: Targets) -> dict[str, Term]:
        """Return the accuracy on the labelled examples, in percent; of mixed ones the larger share is right."""
        labels: Any = targets.labels
        if labels.is_floating_point():
            labels = labels.argmax(dim=1)
        right = (student.logits.argmax(dim=1) == labels).sum()
        return {"top1": Term(100 * right, (labels >= 0).sum())}

    def meter(self, device: torch.device, teacher: Meter | None = None) -> ClassMeter:
        """Return a meter of accuracy and calibration, and of agreement with ``teacher``, a :class:`ClassMeter`."""
        answers = teacher.answers if isinstance(teacher, ClassMeter) else None
        return ClassMeter(len(self.classes), self.eval_size, device, answers)

    def rate_teacher(self, meter: Meter) -> float:
        """Return the teacher's own top-1 on the evaluation split, in percent; warn if it can hardly teach.

        It can hardly where it is right at most half as often again as by chance, ``1 / C``, and within ten points of it (60 %
        of two classes, 15 % of ten), or where it gives every example the same class.
        """
        assert isinstance(meter, ClassMeter)
        top1 = meter.compute()["top1"]
        chance = 100 / len(self.classes)
        given = meter.answers.unique().tolist()
        found = None
        if top1 <= min(1.5 * chance, chance + 10):
            found = f"is near chance ({chance:.2f})"
        elif len(given) == 1:
            found = f"comes of one class given to all {self.units}, `{self.classes[given[0]]}`"
        if found is not None:
            warnings.warn(
                f"the teacher's own top-1 on the evaluation split, {top1:.2f}, {found}: it has little to teach. Are these its "
                f"trained weights, are its classes in the data's order{self.doubt}?",
                stacklevel=2,
            )
        return top1


class ClassMeter:
    """Scores logits ``(N, C)``. Numbers stay on the device until the end; accuracies are in percent, over all examples alike.

    Computes ``loss`` (mean cross-entropy, nats), ``top1``, ``top5`` (absent below five classes), ``calibration_error``
    (expected, 15 bins, in [0, 1]) and, with a teacher, ``agreement`` (share of examples given the teacher's class).

    Args:
        num_classes: C.
        size: examples of the split.
        device: where the batches are.
        teacher: ``(size,)``, the class that the teacher gives each example.
    """

    def __init__(self, num_classes: int, size: int, device: torch.device, teacher: Tensor | None = None) -> None:
        from torchmetrics.classification import (  # a second: not for every command
            MulticlassAccuracy,
            MulticlassCalibrationError,
        )

        ranks = {"top1": 1} | ({"top5": 5} if num_classes >= 5 else {})
        self._accuracies = {
            name: MulticlassAccuracy(num_classes, top_k=k, average="micro", validate_args=False).to(device)
            for name, k in ranks.items()
        }
        self._calibration = MulticlassCalibrationError(num_classes, n_bins=15, validate_args=False).to(device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._agreed = torch.zeros((), dtype=torch.long, device=device)
        self._teacher, self._count = teacher, 0
        self.answers = torch.zeros(size, dtype=torch.long, device=device)

    def update(self, output: Tensor, batch: Batch) -> None:
        """Add the logits of a batch."""
        logits = output.float()
        self._loss += F.cross_entropy(logits, batch.labels, reduction="sum").double()
        for metric in self._accuracies.values():
            metric.update(logits, batch.labels)
        self._calibration.update(logits.softmax(dim=1), batch.labels)
        self.answers[batch.index] = logits.argmax(dim=1)
        if self._teacher is not None:
            self._agreed += (logits.argmax(dim=1) == self._teacher[batch.index]).sum()
        self._count += batch.labels.shape[0]

    def compute(self) -> dict[str, float]:
        """Return the metrics over all batches."""
        metrics = {"loss": self._loss.item() / self._count}
        for name, metric in self._accuracies.items():
            metrics[name] = 100 * round(metric.compute().item() * self._count) / self._count  # undo rounding to float32
        metrics["calibration_error"] = self._calibration.compute().item()
        if self._teacher is not None:
            metrics["agreement"] = 100 * self._agreed.item() / self._count
        return metrics
