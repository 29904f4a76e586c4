"""Segmentation: a class for each pixel, scored by the overlap with the truth, each class for itself."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from logitkd.data import Batch, Loader
from logitkd.data.class_weights import class_weights, same_weights
from logitkd.data.mask_config import MaskConfig
from logitkd.data.mask_loader import mask_loader
from logitkd.data.masks import VOID, MaskData, load_masks, mask_fingerprint
from logitkd.data.unseen import Unseen
from logitkd.data.unseen_masks import unseen_scenes
from logitkd.objective import Targets, Term
from logitkd.reach.inputs import Given
from logitkd.reach.normalization import Renormalize, renormalization
from logitkd.reach.signals import Signals, checked_map
from logitkd.tasks.gallery import Gallery
from logitkd.tasks.mask_answers import MaskAnswers
from logitkd.tasks.mask_gallery import draw_scenes
from logitkd.tasks.overlap import SegmentationMeter, class_map
from logitkd.tasks.task import Columns, Meter, Task, left_as_learnt

__all__ = ["MaskTargets", "SegmentationTask"]

EVAL_BATCH = 4  # maps of the masks' size are large
AUX = "aux"
CLASSES = "classes.json"  # in a run folder: names and colours
LOUD = 1000.0  # standard deviations of the noise that logits answer to and probabilities do not


@dataclass(frozen=True)
class MaskTargets(Targets):
    """What is right for a batch, on the grid where maps are compared; see :class:`Targets`.

    Args:
        whole: the masks themselves, ``(N, H, W)``, a missing label -1 or below: the task's own loss is at their size.
    """

    whole: Tensor | None = None


class SegmentationTask(Task):
    """Images whose every pixel has a class, see :class:`Task`.

    Its settings: ``data`` (a ``MaskConfig``), ``labels``, ``class_weights``, ``distill.grid``, ``aux_weight``, ``batch_size``,
    ``channels_last`` and the seeds.
    """

    headline, title, units = "miou", "mIoU", "images"
    table: ClassVar[Columns] = (("mIoU", "miou", 1), ("pixel accuracy", "pixel_accuracy", 1), ("agreement", "agreement", 1))
    at_once, drawn = EVAL_BATCH, True
    cost_batches: ClassVar[tuple[int, ...]] = (1, 4)
    data: MaskData

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.grid = settings.distill.grid
        self.streams = {AUX: settings.aux_weight} if settings.aux_weight else {}
        self.network_options = {"output": "maps", "aux": settings.aux_weight > 0}

    def load(self, *, train: bool = True) -> None:
        """Read names and sizes of images, the masks' numbers, and class weights."""
        settings = self.settings
        self.data = load_masks(settings.data, labels=settings.labels if train else "none")
        self.classes, self.palette = self.data.classes, self.data.palette
        self.train_size, self.eval_size = len(self.data.train), len(self.data.eval)
        self.unlabelled = self.data.train.unlabelled if train and settings.labels == "given" else 0
        self.class_weights = None
        if train and settings.class_weights is not None:
            self.class_weights = class_weights(settings.class_weights, self.data.counts, self.classes, "pixel")
        cpu = torch.device("cpu")
        self.eval_shape = self.loader(train=False, device=cpu, batch_size=1).shape
        self.shape = self.loader(train=True, device=cpu, batch_size=1).shape if train else self.eval_shape

    @property
    def split(self) -> str:
        """The name of the evaluation images."""
        name: str = self.settings.data.eval_name
        return name

    def record(self) -> dict[str, Any]:
        """Return the fingerprint of images and masks, the classes and their colours, and how images are shown."""
        size = self.data.eval.size
        weights = {} if self.class_weights is None else dict(zip(self.classes, self.class_weights.tolist(), strict=True))
        return {
            "fingerprint": self.data.fingerprint,
            "train": self.train_size,
            "eval": self.eval_size,
            "classes": list(self.classes),
            "palette": [list(color) for color in self.palette],
            "mean": list(self.data.mean),
            "std": list(self.data.std),
            "input_size": list(self.shape),
            "size": None if size is None else list(size),
            **({"unlabelled": self.unlabelled} if self.unlabelled else {}),
            **({"class_weights": weights} if weights else {}),
        }

    def unchanged(self, recorded: Mapping[str, Any]) -> bool:
        """Whether the files are those of the fingerprint, and the weights of the classes those of their file."""
        known = mask_fingerprint(self.settings.data, self.settings.labels)
        same = known is not None and known == recorded["fingerprint"]
        return same and same_weights(self.settings.class_weights, recorded.get("class_weights"), recorded["classes"])

    def assets(self, student: nn.Module) -> dict[str, bytes]:
        """Return the classes' names and colours."""
        pairs = zip(self.classes, self.palette, strict=True)
        listed = [{"name": name, "color": list(color)} for name, color in pairs]
        return {CLASSES: (json.dumps(listed, indent=2, ensure_ascii=False) + "\n").encode()}

    def summary(self) -> str:
        """Say how many images there are, and of which classes."""
        return self.data.summary()

    def loader(self, *, train: bool, device: torch.device, batch_size: int | None = None) -> Loader:
        """Return the batches of a split."""
        settings = self.settings
        return mask_loader(
            self.data,
            settings.data,
            train=train,
            batch_size=batch_size or (settings.batch_size if train else EVAL_BATCH),
            device=device,
            seed=settings.view_seed,
            channels_last=settings.channels_last,
        )

    def blank(self, count: int, device: torch.device) -> Tensor:
        """Return ``count`` images of zeros, of the training view's size."""
        return torch.zeros(count, *self.shape, device=device)

    def cost_inputs(self, device: torch.device) -> dict[str, Callable[[int], Given]]:
        """Return images of the evaluation's size."""
        return {"": lambda count: torch.zeros(count, *self.eval_shape, device=device)}

    def check_output(self, output: Any, count: int, name: str) -> None:
        """Refuse what is not a map of logits an image, ``(count, C, h, w)``."""
        classes, who = len(self.classes), f"student ({name})"
        logits = checked_map(output, who).logits
        given = logits.shape[-1]
        if len(logits) != count:
            raise ValueError(f"the {who} must return a map of logits for each of {count} images, got {len(logits)}.")
        if given != classes:
            raise ValueError(
                f"the {who} must return a map of {classes} classes, (N, {classes}, h, w), got {given}. It has {given} classes:"
                " let it take `num_classes`, or give data with as many classes as it has."
            )

    def check_network(self, see: Callable[[Given], Any], role: str, name: str, device: torch.device) -> None:
        """Refuse a network that cannot take whole images of the evaluation, or returns probabilities.

        Raises:
            ValueError: it does.
        """
        noise = LOUD * torch.randn(1, *self.eval_shape, generator=torch.Generator().manual_seed(0)).to(device)
        try:
            found = checked_map(see(noise), role).logits
        except Exception as error:  # each library refuses in its own way
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            height, width = self.eval_shape[1:]
            raise ValueError(
                f"the {role} must take whole images of {height}x{width} pixels, as the evaluation shows them, but {name} fails"
                f" on one ({reason}). Give `data.image_size`, a size that it takes."
            ) from error
        least, most = found.min().item(), found.max().item()
        if least >= 0 and 0 < most <= 1:
            raise ValueError(
                f"the {role} must return logits, but what {name} returns stays in [0, 1] whatever it is shown, got"
                f" {least:.3g} to {most:.3g}: probabilities. Take the softmax or sigmoid out of its `forward`."
            )

    def must_take(self, network: nn.Module, failed: str) -> str:
        """Say which images a network has to take."""
        return (
            f"take a batch of images {self.shape} and nothing else, but {failed}. Give crops of a size that it takes"
            " (`data.crop_size`), or wrap it in a module whose `forward(images)` returns the map of logits."
        )

    def teacher_inputs(self, source: Any, own: Mapping[str, Any]) -> Renormalize | None:
        """Return what normalises images as in the teacher's training."""
        return renormalization(self.data.mean, self.data.std, source, own)

    @classmethod
    def as_learnt(cls, data: MaskConfig, learnt: Mapping[str, Any]) -> MaskConfig:
        """Return the data normalised as the run's, with its classes and colours, unless they have their own."""
        return left_as_learnt(data, learnt, "mean", "std", "classes", "palette")

    def recall(self, folder: Path, recorded: Mapping[str, Any]) -> None:
        """Take over classes, colours, sizes and normalisation."""
        self.classes = tuple(recorded["classes"])
        self.palette = tuple(tuple(color) for color in recorded["palette"])
        self.shape = self.eval_shape = tuple(recorded["input_size"])
        self.shown = tuple(recorded["mean"]), tuple(recorded["std"])

    def unseen(
        self, files: Sequence[str | Path], texts: Sequence[Any] | None, *, batch_size: int, device: torch.device
    ) -> Unseen:
        """Return images from files and folders of them; what stands for labels has the size to answer at."""
        if texts is not None:
            raise ValueError("`texts` must be left out for a run on images. Give `files`, paths of images.")
        return unseen_scenes(files, self.settings.data, self.shown, batch_size, device)

    def answers(self, *, top: int | None, output: str | Path | None) -> MaskAnswers:
        """Return what writes masks."""
        return MaskAnswers(self.classes, self.palette, top, output)

    def targets(self, batch: Batch, student: Signals) -> MaskTargets:
        """Return the labels on the grid of the student's logits, of each cell that of the pixel at its centre."""
        labels = _shrunk(batch.labels, student.logits.shape[1:3])
        counts = (labels != VOID).to(torch.float32)
        return MaskTargets(labels.clamp(min=-1), example_weights=counts, whole=batch.labels.clamp(min=-1))

    def terms(self, student: Signals, targets: Targets) -> dict[str, Term]:
        """Return the cross-entropy of each output, its map brought to the masks' size, weighed by class if so set."""
        assert isinstance(targets, MaskTargets)
        weights = self.class_weights
        if weights is not None and weights.device != student.logits.device:
            weights = self.class_weights = weights.to(student.logits.device)
        maps = {"": student.streams.get("own", student.logits)}
        maps |= {f"_{name}": student.streams[f"own_{name}"] for name in self.streams if f"own_{name}" in student.streams}
        return {f"ce{name}": _cross_entropy(logits, targets.whole, weights) for name, logits in maps.items()}

    def scores(self, student: Signals, targets: Targets) -> dict[str, Term]:
        """Return the share of cells that are right, on the grid where maps are compared, in percent."""
        labels = targets.labels
        assert labels is not None
        right = student.logits.argmax(dim=-1).eq(labels).sum()
        return {"pixel_accuracy": Term(100 * right, (labels >= 0).sum())}

    def meter(self, device: torch.device, teacher: Meter | None = None) -> SegmentationMeter:
        """Return a meter of overlap and pixel accuracy, and of agreement with ``teacher``, a :class:`SegmentationMeter`."""
        return SegmentationMeter(self.classes, device, teacher if isinstance(teacher, SegmentationMeter) else None)

    def gallery(self, student: Meter, teacher: Meter | None, count: int) -> Gallery:
        """Return images from that of which the student gets least right to that of most."""
        assert isinstance(student, SegmentationMeter)
        taught = teacher if isinstance(teacher, SegmentationMeter) else None
        return draw_scenes(self.data.eval, self.classes, self.palette, student, taught, count)

    def rate_teacher(self, meter: Meter) -> float:
        """Return the teacher's own mIoU, in percent; warn if one class for every pixel would do about as well."""
        assert isinstance(meter, SegmentationMeter)
        found = meter.compute()
        usual = meter.largest_share()
        if found["pixel_accuracy"] <= usual + 1:
            warnings.warn(
                f"the teacher's own pixel accuracy on the evaluation split, {found['pixel_accuracy']:.2f}, is hardly above that"
                f" of the most frequent class everywhere ({usual:.2f}): it has little to teach. Are these its trained weights,"
                " are its classes in the data's order, and are images normalised as in its training (`teacher.mean`,"
                " `teacher.std`)?",
                stacklevel=2,
            )
        return found[self.headline]


def _shrunk(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Return masks ``(N, H, W)`` on a grid: of each cell the label at its centre."""
    if tuple(labels.shape[1:]) == tuple(size):
        return labels
    return F.interpolate(labels.unsqueeze(1).float(), size=tuple(size), mode="nearest-exact").squeeze(1).long()


def _cross_entropy(logits: Tensor, labels: Tensor | None, weights: Tensor | None) -> Term:
    """Return the cross-entropy of a map ``(N, h, w, C)`` at the size of the masks ``(N, H, W)``, as sum and mass."""
    assert labels is not None
    own = class_map(logits.movedim(-1, 1), (labels.shape[1], labels.shape[2]))
    weight = None if weights is None else weights.to(own.dtype)
    total = F.cross_entropy(own, labels, weight, ignore_index=-1, reduction="sum")
    labelled = labels >= 0
    if weight is None:
        return Term(total, labelled.sum())
    return Term(total, torch.where(labelled, weight[labels.clamp(min=0)], 0.0).sum())
