"""Classification of images: one label an image, accuracy, calibration, agreement with the teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from logitkd.data import Batch
from logitkd.reach import RegionModel, Signals, eval_mode
from logitkd.reach.signals import checked_logits

__all__ = ["Learner", "Stopped", "evaluate_classifier", "predict"]


class Stopped(Exception):  # noqa: N818 (not an error)
    """The evaluation was asked to stop."""


class Learner(nn.Module):
    """The student as the objective sees it: images in, :class:`~logitkd.reach.Signals` out.

    Args:
        student: the user's classifier, unedited; it stays reachable as it is.
        scales: the regions a method reads, coarse first; none for methods on whole-image logits.
        pool: path of the module that averages the student's last map, for ``scales``; found by itself if none.
        head: path of the module behind it, likewise.
    """

    def __init__(
        self,
        student: nn.Module,
        scales: tuple[int, ...] | None = None,
        *,
        pool: str | None = None,
        head: str | None = None,
    ) -> None:
        super().__init__()
        self.student = student if scales is None else RegionModel(student, scales, pool=pool, head=head)
        self.has_regions = scales is not None

    def forward(self, images: Tensor) -> Signals:
        """Return the signals of ``images`` ``(N, 3, H, W)``."""
        out = self.student(images)
        return out if self.has_regions else Signals(logits=checked_logits(out, "student"))


@torch.no_grad()
def predict(classify: Callable[[Tensor], Tensor], batches: Iterable[Batch], count: int, device: torch.device) -> Tensor:
    """Return the predicted class of each of a split's ``count`` images, ``(count,)``, in the split's order."""
    predictions = torch.zeros(count, dtype=torch.long, device=device)
    for batch in batches:
        predictions[batch.index] = classify(batch.inputs).argmax(dim=1)
    return predictions


@torch.no_grad()
def evaluate_classifier(
    model: nn.Module,
    batches: Iterable[Batch],
    num_classes: int,
    device: torch.device,
    *,
    teacher_predictions: Tensor | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Return the metrics of ``model`` over ``batches``, in evaluation mode; each module's own mode is restored.

    Numbers stay on the device until the end. Accuracies are in percent, over all images alike.

    Args:
        model: images ``(N, 3, H, W)`` to logits ``(N, num_classes)``.
        batches: of the evaluation split.
        num_classes: C.
        device: where the batches are.
        teacher_predictions: ``(split size,)`` from :func:`predict`, for ``agreement``.
        stop: asked before each batch.

    Returns:
        ``loss`` (mean cross-entropy, nats), ``top1``, ``top5`` (absent below five classes), ``calibration_error``
        (expected, 15 bins, in [0, 1]) and, with a teacher, ``agreement`` (share of images given the teacher's class).

    Raises:
        Stopped: ``stop`` said so.
    """
    ranks = {"top1": 1} | ({"top5": 5} if num_classes >= 5 else {})
    accuracies = {
        name: MulticlassAccuracy(num_classes, top_k=k, average="micro", validate_args=False).to(device)
        for name, k in ranks.items()
    }
    calibration = MulticlassCalibrationError(num_classes, n_bins=15, validate_args=False).to(device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    agreed = torch.zeros((), dtype=torch.long, device=device)
    count = 0
    with eval_mode(model):
        for batch in batches:
            if stop():
                raise Stopped
            logits = model(batch.inputs).float()
            loss += F.cross_entropy(logits, batch.labels, reduction="sum").double()
            for metric in accuracies.values():
                metric.update(logits, batch.labels)
            calibration.update(logits.softmax(dim=1), batch.labels)
            if teacher_predictions is not None:
                agreed += (logits.argmax(dim=1) == teacher_predictions[batch.index]).sum()
            count += batch.labels.shape[0]
    metrics = {"loss": loss.item() / count}
    for name, metric in accuracies.items():
        metrics[name] = 100 * round(metric.compute().item() * count) / count  # undo the rounding to float32
    metrics["calibration_error"] = calibration.compute().item()
    if teacher_predictions is not None:
        metrics["agreement"] = 100 * agreed.item() / count
    return metrics
