"""What data a run uses: one typed record, read by the recipes and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

__all__ = ["CROPS", "TRANSFORMS", "DataConfig", "check_data"]

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


@dataclass(frozen=True)
class DataConfig:
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

    source: str = "digits"
    train_split: str = "train"
    eval_split: str = "test"
    eval_fraction: float | None = None
    image_column: str | None = None
    label_column: str | None = None
    train_per_class: int | None = None
    crop_padding: int = 4
    flip: bool = True
    image_size: int | None = None
    transforms: tuple[str, ...] = ("random_resized_crop", "flip")
    crop_ratio: float = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    workers: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        # From YAML and the command line sequences may come as lists; one form keeps comparisons simple.
        for name in ("transforms", "mean", "std"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))

    @property
    def eval_name(self) -> str:
        """What the evaluation images are called in results.

        >>> DataConfig().eval_name, DataConfig(eval_fraction=0.1).eval_name
        ('test', '0.1 of train')
        """
        return self.eval_split if self.eval_fraction is None else f"{self.eval_fraction:g} of {self.train_split}"


# What only images of one, small size have, and what only images of any size.
SMALL_ONLY: tuple[str, ...] = ("crop_padding", "flip")
ANY_SIZE_ONLY: tuple[str, ...] = ("transforms", "crop_ratio", "interpolation", "workers")


def check_data(config: DataConfig, *, training: bool = True) -> list[str]:
    """Return all that is wrong with the values, a message each.

    Args:
        config: to be checked, without a look at the data.
        training: whether values that only shape the training view matter.
    """
    from logitkd.checks import check_choice, check_int, check_positive, check_range, collector  # torch: not for `--help`

    problems: list[str] = []
    collect = collector(problems)

    def check(function: Callable[..., None], name: str, *args: Any) -> None:
        value = getattr(config, name)
        if value is not None:
            collect(function, f"data.{name}", value, *args)

    def check_share(name: str, value: float) -> None:
        check_range(name, value, None, None)
        if not 0 < value <= 1:
            raise ValueError(f"`{name}` must be above 0 and at most 1, got {value}.")

    def check_channels(name: str, values: tuple[float, ...]) -> None:
        if not isinstance(values, tuple) or len(values) != 3:
            raise ValueError(f"`{name}` must have one value a channel (3), got {values!r}.")
        for value in values:
            check_range(name, value, 0, 1, "255 is 1")
        if name == "data.std":
            for value in values:
                check_positive(name, value)

    for name in ("source", "train_split", "eval_split"):
        if not getattr(config, name):
            problems.append(f"`data.{name}` must be a name, got {getattr(config, name)!r}.")
    check(check_share, "eval_fraction")
    if config.eval_fraction == 1:
        problems.append(f"`data.eval_fraction` must be below 1, got {config.eval_fraction}: nothing would be left to train on.")
    check(check_int, "train_per_class", 1)
    check(check_int, "crop_padding", 0)
    check(check_int, "image_size", 1, LARGEST)
    check(check_share, "crop_ratio")
    problems += _check_resized(config)
    check(check_choice, "interpolation", ["bilinear", "bicubic"])
    check(check_int, "workers", 0)
    for name in ("mean", "std"):
        check(check_channels, name)
    if (config.mean is None) != (config.std is None):
        given, other = ("mean", "std") if config.std is None else ("std", "mean")
        problems.append(f"`data.mean` and `data.std` must be given together, got `data.{given}` alone. Add `data.{other}`.")
    if training:
        problems += _check_transforms(config.transforms)
        problems += _check_belonging(config)
    if config.image_size is not None and config.source == "digits":
        problems.append(f"`data.image_size` must be left out with `digits`, which are all 8x8, got {config.image_size}.")
    return problems


def _check_resized(config: DataConfig) -> list[str]:
    """Refuse a ``crop_ratio`` that has images resized to more than memory holds; of wrong values others speak."""
    size, ratio = config.image_size, config.crop_ratio
    if not isinstance(size, int) or not 1 <= size <= LARGEST or not isinstance(ratio, (int, float)) or not 0 < ratio <= 1:
        return []
    if size <= ratio * LARGEST:
        return []
    return [
        f"`data.crop_ratio` must be at least {size / LARGEST:.4g}, as images are resized to `data.image_size` divided by it,"
        f" at most {LARGEST} pixels, got {ratio:g}. The usual is 0.875."
    ]


def _check_transforms(names: tuple[str, ...]) -> list[str]:
    from logitkd.checks import check_choice

    problems = []
    for name in names:
        try:
            check_choice("data.transforms", name, TRANSFORMS)
        except ValueError as error:
            problems.append(str(error))
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
