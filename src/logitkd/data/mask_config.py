"""What images and masks a run uses: one typed record, read by the recipes and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from logitkd.checks import listed, shown
from logitkd.data.config import LARGEST, Mean, Name, Share, Std, statistics_problems
from logitkd.data.mask_folder import check_mask_source
from logitkd.data.splits import eval_name
from logitkd.fields import Number, Record, Switch, Text, Whole, at_least, rule, within

if TYPE_CHECKING:
    from logitkd.runs.config import TrainConfig

__all__ = ["MaskConfig"]

MOST = 65535  # the largest number in an image of 16 bits a pixel
WIDEST = 16.0  # times: beyond, an image of a megapixel is 0.8 GB


def _check_size(name: str, size: tuple[int, ...]) -> None:
    if len(size) != 2 or not all(1 <= side <= LARGEST for side in size):
        raise ValueError(
            f"`{name}` must be a height and a width in pixels, both in [1, {LARGEST}], such as [240, 320], got {list(size)}."
        )


def _check_scale(name: str, scale: tuple[float, ...]) -> None:
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= WIDEST:
        raise ValueError(
            f"`{name}` must be the smallest and the largest scale, both above 0 and at most {WIDEST:g}, such as [0.5, 2.0], got"
            f" {list(scale)}. [1, 1] scales nothing."
        )


def _check_classes(name: str, classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        raise ValueError(f"`{name}` must name at least 2 classes, got {list(classes)}: there is nothing to tell apart.")
    wrong = [one for one in classes if not one.strip() or classes.count(one) > 1]
    if wrong:
        raise ValueError(f"`{name}` must be different names, none of them empty, got {listed(map(repr, wrong), 5)}.")


def _check_palette(name: str, palette: tuple[tuple[int, ...], ...]) -> None:
    wrong = [list(color) for color in palette if len(color) != 3 or not all(0 <= part <= 255 for part in color)]
    if wrong or not palette:
        raise ValueError(
            f"`{name}` must be a color for each class, each [red, green, blue] in [0, 255], got {shown(wrong or [])}."
        )


Size = Annotated[tuple[Whole, ...], rule(_check_size)]


@dataclass(frozen=True)
class MaskConfig(Record):
    """Where images and their masks come from and how the training view is augmented.

    A mask is an image of class numbers: one channel, a number a pixel.

    Args:
        source: a local folder of parquet files with a column of images and one of masks; a local folder of
            ``images/SPLIT/NAME.jpg`` and ``masks/SPLIT/NAME.png``, or of ``SPLIT/images/NAME.jpg`` and ``SPLIT/masks/NAME.png``
            (with ``eval_fraction`` also ``images/NAME.jpg`` and ``masks/NAME.png``); or a hub id.
        train_split: name of the split to train on.
        eval_split: name of the split every reported score is measured on.
        eval_fraction: the last share of the training images to evaluate on instead, where there is no ``eval_split``; never at
            random, as neighbouring frames of a video are nearly the same.
        image_column: column that holds the images; by default the only one of images beside the masks.
        mask_column: column that holds the masks; by default the only one of images that is called like one.
        classes: the name of each class, in the order of their numbers; by default the numbers themselves.
        palette: the color of each class, ``[red, green, blue]``; by default that of the masks, where they have one.
        ignore_index: the number in masks that marks pixels without a class, which count nowhere; none if there is no such.
        image_size: height and width that images, and in training their masks, are first brought to; by default they keep
            theirs. Scores are measured at the masks' own size.
        crop_size: height and width of the training view; by default ``image_size``, or the size of the training images.
        scale: smallest and largest factor by which the training view is scaled at random before the crop.
        flip: mirror half of the training images left to right.
        color_jitter: how far brightness, contrast and saturation of training images vary, each by a factor in
            ``[1 - color_jitter, 1 + color_jitter]``.
        workers: processes that decode and augment, 0 for none; by default the processor's cores but one, at most 8. Changes
            speed only.
        mean: of each channel, subtracted from the input (255 is 1); by default ImageNet's.
        std: of each channel, the input is divided by; by default likewise.
    """

    source: Text = ""
    train_split: Name = "train"
    eval_split: Name = "val"
    eval_fraction: Share | None = None
    image_column: Text | None = None
    mask_column: Text | None = None
    classes: Annotated[tuple[Text, ...], rule(_check_classes)] | None = None
    palette: Annotated[tuple[tuple[Whole, ...], ...], rule(_check_palette)] | None = None
    ignore_index: Annotated[Whole, within(0, MOST)] | None = 255
    image_size: Size | None = None
    crop_size: Size | None = None
    scale: Annotated[tuple[Number, ...], rule(_check_scale)] = (0.5, 2.0)
    flip: Switch = True
    color_jitter: Annotated[Number, within(0, 1)] = 0.0
    workers: Annotated[Whole, at_least(0)] | None = None
    mean: Mean | None = None
    std: Std | None = None

    train_per_class: ClassVar[None] = None  # an image is of many classes

    @property
    def eval_name(self) -> str:
        """What the evaluation images are called in results.

        >>> MaskConfig().eval_name, MaskConfig(eval_fraction=0.1).eval_name
        ('val', '0.1 of train')
        """
        return eval_name(self)

    output: ClassVar[str] = "maps"  # what networks return
    # What its task reads of the run's settings beside these.
    run_settings: ClassVar[tuple[str, ...]] = (
        "labels",
        "class_weights",
        "channels_last",
        "mean",
        "std",
        "aux_weight",
        "distill.grid",
    )
    # As networks for segmentation are usually trained; see ``runs.config.run_defaults``.
    run_defaults: ClassVar[Mapping[str, Any]] = {
        "optim.lr": 0.01,
        "optim.weight_decay": 5e-4,
        "schedule.name": "poly",
        "epochs": 100,
        "batch_size": 8,
    }
    method_defaults: ClassVar[Mapping[str, Any]] = {"warmup_epochs": 0}  # backbones come pretrained

    def problems(self, run: TrainConfig | None = None) -> list[str]:
        """Return what is wrong with values that are each good alone, or name no source, a message each; no data is read.

        Args:
            run: the settings of the run that trains on the data; in an evaluation none.
        """
        if self.source == "":
            return ["`data.source` must be given: a folder of images and masks or a hub id `owner/name`."]
        problems = statistics_problems(self.mean, self.std)
        if self.classes is not None and self.palette is not None and len(self.palette) != len(self.classes):
            problems.append(
                f"`data.palette` must have a color for each of the {len(self.classes)} classes of `data.classes`, got"
                f" {len(self.palette)}."
            )
        if run is not None:
            try:
                check_mask_source(self, run.labels == "given")
            except (OSError, ValueError) as error:
                problems.append(str(error))
        return problems
