"""What data a run uses: one typed record, read by the recipes and the command line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from logitkd.checks import check_choice, check_positive, collector
from logitkd.data.splits import IMAGES, eval_name, source_problems
from logitkd.fields import Number, Record, Switch, Text, Whole, above, at_least, check_channels, rule, within

if TYPE_CHECKING:
    from logitkd.runs.config import TrainConfig

__all__ = ["CROPS", "LARGEST", "TRANSFORMS", "DataConfig", "Mean", "Name", "Share", "Std", "statistics_problems"]

CROPS = ("center_crop", "random_crop", "random_resized_crop")  # each ends in image_size x image_size pixels
TRANSFORMS = (
    *CROPS,
    "resize",
    "flip",
    "vertical_flip",
    "color_jitter",
    "autoaugment",
    "randaugment",
    "trivialaugment",
)


LARGEST = 8192  # pixels of the shorter side of what an image is resized to: one of 8192 x 8192 takes 0.8 GB as numbers


def _check_name(name: str, value: str) -> None:
    if not value:
        raise ValueError(f"`{name}` must be a name, got {value!r}.")


def _check_held_out(name: str, value: float) -> None:
    if value == 1:
        raise ValueError(f"`{name}` must be below 1, got {value}: nothing would be left to train on.")


Name = Annotated[Text, rule(_check_name)]
Share = Annotated[Number, above(0, 1), rule(_check_held_out)]
_SHADE = within(0, 1, "255 is 1")
Mean = Annotated[tuple[Annotated[Number, _SHADE], ...], rule(check_channels)]
Std = Annotated[tuple[Annotated[Number, _SHADE, rule(check_positive)], ...], rule(check_channels)]


@dataclass(frozen=True)
class DataConfig(Record):
    """Where labelled images come from and how the training view is augmented.

    Args:
        source: ``digits`` (embedded, no download), a local folder of parquet files, a local image folder
            (``train/CLASS/*.png``, ``test/CLASS/*.png``; with ``eval_fraction`` also ``CLASS/*.png``), or a hub id such as
            ``uoft-cs/cifar100``.
        train_split: name of the split to train on.
        eval_split: name of the split every reported accuracy is measured on.
        eval_fraction: the share of each class's training images to evaluate on instead, where there is no ``eval_split``; the
            same images whatever the run's ``seed``.
        image_column: column that holds the images; by default the only image column.
        label_column: column that holds the class; by default the only class column. A column of plain integers
            (0, 1, ...) or of names has to be named here.
        train_per_class: keep only this many training images of each class, chosen by the run's ``data_seed``; a larger
            number keeps those that a smaller one keeps.
        crop_padding: pixels of zero padding on each side before a random crop of the original size; 0 turns it off.
        flip: mirror half of the training images left to right.
        image_size: height and width that images of any size are brought to, by ``workers``; by default images must all have
            one, small size and live on the device, augmented by ``crop_padding`` and ``flip``.
        transforms: with ``image_size``, what makes the training view, in this order: one of ``random_resized_crop``,
            ``random_crop``, ``center_crop``, and any of ``resize`` (as for evaluation; before the crop), ``flip``,
            ``vertical_flip``, ``color_jitter``, ``randaugment``, ``trivialaugment``, ``autoaugment``.
        crop_ratio: with ``image_size``, the evaluation's view is the central ``image_size`` pixels of the image whose shorter
            side was made ``image_size / crop_ratio``.
        interpolation: with ``image_size``, how images are resized, ``bilinear`` or ``bicubic``.
        workers: with ``image_size``, processes that decode and augment, 0 for none; by default the processor's cores but one,
            at most 8. Changes speed only.
        mean: of each channel, subtracted from the input (255 is 1); by default the training split's, with ``image_size``
            ImageNet's.
        std: of each channel, the input is divided by; by default likewise.
    """

    source: Name = "digits"
    train_split: Name = "train"
    eval_split: Name = "test"
    eval_fraction: Share | None = None
    image_column: Text | None = None
    label_column: Text | None = None
    train_per_class: Annotated[Whole, at_least(1)] | None = None
    crop_padding: Annotated[Whole, at_least(0)] = 4
    flip: Switch = True
    image_size: Annotated[Whole, within(1, LARGEST)] | None = None
    transforms: tuple[Text, ...] = ("random_resized_crop", "flip")
    crop_ratio: Annotated[Number, above(0, 1)] = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    workers: Annotated[Whole, at_least(0)] | None = None
    mean: Mean | None = None
    std: Std | None = None

    @property
    def eval_name(self) -> str:
        """What the evaluation images are called in results.

        >>> DataConfig().eval_name, DataConfig(eval_fraction=0.1).eval_name
        ('test', '0.1 of train')
        """
        return eval_name(self)

    output: ClassVar[str] = "classes"  # what networks return: a row of logits an example
    # What its task reads of the run's settings beside these.
    run_settings: ClassVar[tuple[str, ...]] = (
        "labels",
        "mixup",
        "cutmix",
        "class_weights",
        "channels_last",
        "mean",
        "std",
        "pool",
        "head",
    )

    def problems(self, run: TrainConfig | None = None) -> list[str]:
        """Return what is wrong with values that are each good alone, or name no source, a message each; no data is read.

        Args:
            run: the settings of the run that trains on the data; in an evaluation none, and then what only shapes the training
                view does not matter.
        """
        problems: list[str] = []
        if self.image_size is not None and self.image_size > self.crop_ratio * LARGEST:
            problems.append(
                f"`data.crop_ratio` must be at least {self.image_size / LARGEST:.4g}, as images are resized to"
                f" `data.image_size` divided by it, at most {LARGEST} pixels, got {self.crop_ratio:g}. The usual is 0.875."
            )
        problems += statistics_problems(self.mean, self.std)
        if self.image_size is not None and self.source == "digits":
            problems.append(
                f"`data.image_size` must be left out where `data.source` is `digits`, which are all 8x8, got {self.image_size}."
            )
        if run is None:
            return problems
        problems += _check_transforms(self.transforms) + _check_belonging(self)
        return problems + source_problems(self, run.labels, IMAGES)


def statistics_problems(mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> list[str]:
    """Return what is wrong with the mean and the std that images are normalised by, if one of them is given alone."""
    if (mean is None) == (std is None):
        return []
    given, other = ("mean", "std") if std is None else ("std", "mean")
    return [f"`data.mean` and `data.std` must be given together, got `data.{given}` alone. Add `data.{other}`."]


# What only images of one, small size have, and what only images of any size.
SMALL_ONLY: tuple[str, ...] = ("crop_padding", "flip")
ANY_SIZE_ONLY: tuple[str, ...] = ("transforms", "crop_ratio", "interpolation", "workers")


def _check_transforms(names: tuple[str, ...]) -> list[str]:
    problems: list[str] = []
    for name in names:
        collector(problems)(check_choice, "data.transforms", name, TRANSFORMS)
    got = f"got [{', '.join(map(str, names))}]"
    crops = [place for place, name in enumerate(names) if name in CROPS]
    if len(crops) != 1:
        problems.append(f"`data.transforms` must have exactly one of {', '.join(CROPS)}, {got}.")
    elif "resize" in names[crops[0] :]:
        problems.append(f"`data.transforms` must have `resize` before the crop, which decides the size, {got}.")
    if len(set(names)) < len(names):
        problems.append(f"`data.transforms` must have each transform once, {got}.")
    return problems


def _check_belonging(config: DataConfig) -> list[str]:
    """Refuse what would have no effect: images of one, small size and images of any size are augmented by different parts."""
    defaults = {field.name: field.default for field in fields(DataConfig)}
    wrong, why = SMALL_ONLY, "does not go with `data.image_size`. What is done to images of any size is in `data.transforms`"
    if config.image_size is None:
        wrong, why = ANY_SIZE_ONLY, "goes with `data.image_size`, which is not given"
    return [
        f"`data.{name}` must be left out, got {getattr(config, name)!r}: it {why}."
        for name in wrong
        if getattr(config, name) != defaults[name]
    ]
