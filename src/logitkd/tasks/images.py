"""Classification of images: one label an image, accuracy, calibration, agreement with the teacher."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from logitkd.data import Batch, Loader, load_images, make_loader
from logitkd.data.class_weights import BALANCED, class_weights
from logitkd.data.config import DataConfig
from logitkd.data.fingerprint import data_fingerprint
from logitkd.data.mixing import Mixing
from logitkd.data.unseen import Unseen
from logitkd.data.unseen_images import unseen_images
from logitkd.objective import Targets, Term
from logitkd.reach.normalization import Renormalize
from logitkd.reach.signals import Signals, checked_logits
from logitkd.tasks.task import Meter, Task

__all__ = ["ClassMeter", "ImageTask"]

EVAL_BATCH = 256  # so many large images would take more memory than training does


class ImageTask(Task):
    """Images of one label each, see :class:`Task`.

    Its settings: ``data`` (a ``DataConfig``), ``labels``, ``mixup``, ``cutmix``, ``class_weights``, ``batch_size``,
    ``channels_last`` and the seeds.
    """

    headline, title, units = "top1", "top-1", "images"

    def load(self, *, train: bool = True) -> None:
        """Read images, labels and class weights."""
        settings = self.settings
        if train:
            self.data = load_images(settings.data, seed=settings.view_seed, labels=settings.labels)
        else:
            self.data = load_images(replace(settings.data, train_per_class=None), labels="none")
        self.classes = self.data.classes
        self.train_size, self.eval_size = len(self.data.train), len(self.data.eval)
        labels = self.data.train.labels
        self.shape = self.loader(train=False, device=torch.device("cpu"), batch_size=1).shape
        self.unlabelled = int((labels < 0).sum()) if train and settings.labels == "given" else 0
        if self.unlabelled and (settings.mixup or settings.cutmix):
            raise ValueError(
                "`mixup` and `cutmix` must be 0 where labels are missing, as a label cannot be mixed with none: "
                f"{self.unlabelled:,} of {len(labels):,} training labels are missing. With `labels: none` images alone are"
                " mixed."
            )
        self.class_weights = None
        if train and settings.class_weights is not None:
            self.class_weights = class_weights(settings.class_weights, labels, self.classes)

    @property
    def split(self) -> str:
        """The name of the evaluation images."""
        return self.settings.data.eval_name

    def record(self) -> dict[str, Any]:
        """Return the fingerprint of pixels and labels, how many there are, the classes, and how images are normalised."""
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

    def implied(self) -> dict[str, Any]:
        """Return the entries that the first run folders lack."""
        return {
            "input_size": list(self.shape),
            "mean": list(self.data.mean),
            "std": list(self.data.std),
        }

    def unchanged(self, recorded: Mapping[str, Any]) -> bool:
        """Whether the files are those of the fingerprint, and the weights of the classes those of their file."""
        settings, weights = self.settings, recorded.get("class_weights")
        known = data_fingerprint(settings.data, seed=settings.view_seed, labels=settings.labels)
        if known is None or known != recorded["fingerprint"] or (weights is None) != (settings.class_weights is None):
            return False
        if weights is None or settings.class_weights == BALANCED:  # which the labels decide, so the fingerprint
            return True
        now = class_weights(settings.class_weights, torch.empty(0), recorded["classes"])
        return list(weights.values()) == now.tolist()

    def summary(self) -> str:
        """Say how many images there are, and of which classes."""
        return self.data.summary()

    def loader(self, *, train: bool, device: torch.device, batch_size: int | None = None) -> Loader:
        """Return the batches of a split."""
        settings = self.settings
        fits = train or settings.data.image_size is not None
        return make_loader(
            self.data,
            settings.data,
            train=train,
            batch_size=batch_size or (settings.batch_size if fits else EVAL_BATCH),
            device=device,
            seed=settings.view_seed,
            channels_last=settings.channels_last,
            mixing=Mixing(settings.mixup, settings.cutmix, labels=settings.labels == "given"),
        )

    def blank(self, count: int, device: torch.device) -> Tensor:
        """Return ``count`` images of zeros."""
        return torch.zeros(count, *self.shape, device=device)

    def check_output(self, output: Any, count: int, name: str) -> None:
        """Refuse what is not logits ``(count, C)``."""
        classes = len(self.classes)
        what = f"the student must return logits (N, {classes}), one row an image and one column a class, got"
        if not isinstance(output, Tensor):
            raise TypeError(f"{what} {type(output).__name__} ({name}). Wrap it in a module that returns the logits alone.")
        if tuple(output.shape) != (count, classes):
            last = output.shape[-1] if output.ndim == 2 and output.shape[0] == count else None
            fix = "Its `forward(images)` must return the logits alone."
            if last is not None:
                fix = f"It has {last} classes: let it take `num_classes`, or give data with as many classes as it has."
            raise ValueError(f"{what} {tuple(output.shape)} for {count} images ({name}). {fix}")
        checked_logits(output, f"student ({name})", classes)

    def must_take(self, network: nn.Module, failed: str) -> str:
        """Say which images a network has to take, and for which it was built, if it says."""
        built, given = _built_size(network), self.shape[1:]
        fix = "Give images of the size it was built for (`data.image_size`)"
        if built is not None and built != given:
            side = f"`--data.image_size {built[0]}`" if built[0] == built[1] else "a network for square images"
            fix = f"It was built for images of {built[0]}x{built[1]}, these are {given[0]}x{given[1]}: give {side}"
        return (
            f"take a batch of images {self.shape} and nothing else, but {failed}. {fix}, or wrap it in a module whose "
            "`forward(images)` returns the logits."
        )

    def explain(self, error: str) -> str:
        """Name the setting that gives larger images, where that would help."""
        if self.settings.data.source == "digits":
            return error
        return re.sub(r"larger images \((\d+) x \1\)", r"larger images, `--data.image_size \1`", error)

    def teacher_inputs(self, source: Any, own: Mapping[str, Any]) -> Renormalize | None:
        """Return what normalises images as in the teacher's training: as its settings say, else its source, else the data."""
        data = self.data
        mean, std = (
            tuple(given or own.get(name) or now)
            for name, given, now in (("mean", source.mean, data.mean), ("std", source.std, data.std))
        )
        same = (mean, std) == (tuple(data.mean), tuple(data.std))
        return None if same else Renormalize(data.mean, data.std, mean, std)

    @classmethod
    def as_learnt(cls, data: DataConfig, learnt: Mapping[str, Any]) -> DataConfig:
        """Return the data normalised as the run's, unless they have a mean or std of their own."""
        usual: dict[str, Any] = {
            name: tuple(learnt[name]) for name in ("mean", "std") if getattr(data, name) is None and learnt.get(name)
        }
        return replace(data, **usual)

    def recall(self, folder: Path, recorded: Mapping[str, Any]) -> None:
        """Take over classes, size and normalisation."""
        lacking = [key for key in ("classes", "input_size", "mean", "std") if key not in recorded]
        if lacking:
            raise ValueError(
                f"{folder}/config.yaml must record `data.{lacking[0]}`, which an earlier version did not: train the run again."
            )
        self.classes, self.shape = tuple(recorded["classes"]), tuple(recorded["input_size"])
        self.shown = tuple(recorded["mean"]), tuple(recorded["std"])

    def unseen(
        self, files: Sequence[str | Path], texts: Sequence[Any] | None, *, batch_size: int, device: torch.device
    ) -> Unseen:
        """Return images from files and folders of them."""
        if texts is not None:
            raise ValueError("`texts` must be left out for a run on images. Give `files`, paths of images.")
        size = None if self.settings.data.image_size is not None else (self.shape[1], self.shape[2])
        return unseen_images(files, self.settings.data, self.classes, self.shown, size, batch_size, device)

    def targets(self, batch: Batch, student: Signals) -> Targets:
        """Return the labels; every image counts."""
        return Targets(batch.labels)

    def terms(self, student: Signals, targets: Targets) -> dict[str, Term]:
        """Return the cross-entropy, weighed by class where the settings say so."""
        weights = self.class_weights
        if weights is not None and weights.device != student.logits.device:
            weights = self.class_weights = weights.to(student.logits.device)
        return {"ce": targets.cross_entropy(student.logits, weights)}

    def scores(self, student: Signals, targets: Targets) -> dict[str, Term]:
        """Return the accuracy on the labelled images, in percent; of mixed ones the larger share is right."""
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
        of two classes, 15 % of ten), or where it gives every image the same class.
        """
        assert isinstance(meter, ClassMeter)
        top1 = meter.compute()["top1"]
        chance = 100 / len(self.classes)
        given = meter.answers.unique().tolist()
        found = None
        if top1 <= min(1.5 * chance, chance + 10):
            found = f"is near chance ({chance:.2f})"
        elif len(given) == 1:
            found = f"comes of one class given to every image, `{self.classes[given[0]]}`"
        if found is not None:
            warnings.warn(
                f"the teacher's own top-1 on the evaluation split, {top1:.2f}, {found}: it has little to teach. Are these its "
                "trained weights, are its classes in the data's order, and are images normalised as in its training "
                "(`teacher.mean`, `teacher.std`)?",
                stacklevel=2,
            )
        return top1


class ClassMeter:
    """Scores logits ``(N, C)``. Numbers stay on the device until the end; accuracies are in percent, over all images alike.

    Computes ``loss`` (mean cross-entropy, nats), ``top1``, ``top5`` (absent below five classes), ``calibration_error``
    (expected, 15 bins, in [0, 1]) and, with a teacher, ``agreement`` (share of images given the teacher's class).

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


def _built_size(model: nn.Module) -> tuple[int, int] | None:
    """Return height and width of the images a network was built for, ``None`` if it does not say: most take any."""
    inner = getattr(model, "model", model)
    size = (
        getattr(getattr(inner, "config", None), "image_size", None)  # transformers
        or getattr(getattr(model, "patch_embed", None), "img_size", None)  # timm
        or getattr(model, "image_size", None)  # torchvision
    )
    if isinstance(size, int):
        return size, size
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return int(size[0]), int(size[1])
    return None
