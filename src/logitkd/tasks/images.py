"""Classification of images: augmented, mixed, normalised for each network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from logitkd.data import ImageData, Loader, load_images, make_loader
from logitkd.data.config import DataConfig
from logitkd.data.fingerprint import data_fingerprint
from logitkd.data.mixing import Mixing
from logitkd.data.unseen import Unseen
from logitkd.data.unseen_images import unseen_images
from logitkd.reach.normalization import Renormalize, renormalization
from logitkd.tasks.classification import ClassificationTask
from logitkd.tasks.task import left_as_learnt

__all__ = ["ImageTask"]

EVAL_BATCH = 256  # so many large images would take more memory than training does


class ImageTask(ClassificationTask):
    """Images of one label each, see :class:`ClassificationTask`.

    Its settings: ``data`` (a ``DataConfig``), ``labels``, ``mixup``, ``cutmix``, ``class_weights``, ``batch_size``,
    ``channels_last`` and the seeds.
    """

    units, one = "images", "an image"
    doubt = ", and are images normalised as in its training (`teacher.mean`, `teacher.std`)"

    def read(self, *, train: bool) -> ImageData:
        """Return the images and labels."""
        settings = self.settings
        if train:
            return load_images(settings.data, seed=settings.view_seed, labels=settings.labels)
        return load_images(replace(settings.data, train_per_class=None), labels="none")

    def known_fingerprint(self) -> str | None:
        """Return the fingerprint, where the files are known."""
        settings = self.settings
        return data_fingerprint(settings.data, seed=settings.view_seed, labels=settings.labels)

    def load(self, *, train: bool = True) -> None:
        """Read images, labels and class weights."""
        super().load(train=train)
        settings = self.settings
        self.shape = self.loader(train=False, device=torch.device("cpu"), batch_size=1).shape
        if self.unlabelled and (settings.mixup or settings.cutmix):
            raise ValueError(
                "`mixup` and `cutmix` must be 0 where labels are missing, as a label cannot be mixed with none: "
                f"{self.unlabelled:,} of {self.train_size:,} training labels are missing. With `labels: none` images alone are"
                " mixed."
            )

    def implied(self) -> dict[str, Any]:
        """Return how images are normalised, which the first run folders lack."""
        return {
            "input_size": list(self.shape),
            "mean": list(self.data.mean),
            "std": list(self.data.std),
        }

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
        return renormalization(self.data.mean, self.data.std, source, own)

    @classmethod
    def as_learnt(cls, data: DataConfig, learnt: Mapping[str, Any]) -> DataConfig:
        """Return the data normalised as the run's, unless they have a mean or std of their own."""
        return left_as_learnt(data, learnt, "mean", "std")

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
