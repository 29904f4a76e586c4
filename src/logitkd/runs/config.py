"""What a run is: one typed, strict record. Its fields are the recipe's keys and the command line's flags."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from logitkd.checks import check_choice, check_int, check_positive, check_range, check_texts, collector
from logitkd.data.class_weights import BALANCED, read_class_weights
from logitkd.data.config import DataConfig, check_data
from logitkd.runs.networks import ModelConfig, TeacherConfig, check_networks, file_name

__all__ = [
    "OptimConfig",
    "ScheduleConfig",
    "StonesConfig",
    "TrainConfig",
    "check_config",
    "default_folder",
    "pair_name",
    "warmup_epochs",
]


@dataclass(frozen=True)
class StonesConfig:
    """The stepping stones of Block-KD; other methods take no notice.

    Args:
        use: ``all``, ``last`` (the cheapest: only the teacher's classifier runs again) or their numbers, from 1: ``[2, 3]``.
        student: module paths that end the student's blocks, first to last; by default they are found, by where the work is.
        teacher: likewise the teacher's, as many.
    """

    use: Literal["all", "last"] | tuple[int, ...] = "all"
    student: tuple[str, ...] | None = None
    teacher: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("use", "student", "teacher"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer, built by timm's factory.

    Args:
        name: ``sgd`` or ``adamw``.
        lr: learning rate at the start of the schedule.
        momentum: SGD's momentum (ignored by AdamW).
        weight_decay: applied to every parameter, as the papers do.
        clip_grad: largest gradient norm; none leaves gradients alone.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_grad: float | None = None


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate falls, built by timm's factory.

    Args:
        name: ``multistep`` (times ``decay`` at each milestone) or ``cosine`` (to zero over the run).
        milestones: after which fractions of ``epochs`` the rate drops: 0.625, 0.75, 0.875 are 150, 180, 210 of 240.
        decay: factor at each milestone.
        warmup: over which fraction of ``epochs`` the rate first grows: to epoch / n of it in each of these n epochs (0.0833 are
            20 of 240). The milestones, or the cosine, count from the start of the run all the same.
    """

    name: Literal["multistep", "cosine"] = "multistep"
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)
    decay: float = 0.1
    warmup: float = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the result of a run, and how it is shown.

    Args:
        student: the network to train.
        teacher: the frozen network, or networks, to learn from; none for methods that need no teacher (``ce``).
        method: a name from ``logitkd list``.
        method_options: overrides of the method's hyper-parameters, e.g. ``{"top_k": 3, "warmup_epochs": 5}``.
        labels: ``given``, or ``none`` to train on the teacher alone: no training label is read, ``ce_weight`` becomes 0.
        mixup: alpha of the Beta distribution by which mixup blends two images and their labels; 0 turns it off.
        cutmix: alpha of the Beta distribution of the area that CutMix pastes from another image; 0 turns it off. With both on,
            each image gets one of the two.
        class_weights: weight of each class in the cross-entropy: ``balanced``, or a YAML or JSON file of
            ``class name: weight`` lines; none weighs all images alike.
        data: the data set and its augmentation.
        optim: the optimizer.
        schedule: the learning-rate schedule.
        stones: where Block-KD cuts both networks.
        epochs: passes over the training split.
        batch_size: examples a step.
        precision: ``float32`` or ``bfloat16`` (autocast).
        channels_last: memory format; faster on most hardware, same mathematics.
        seed: decides initial weights and dropout.
        data_seed: decides the order of the images, their views, their partners in mixing, and which of them
            ``data.train_per_class`` keeps: methods compared under one see the same. By default the ``seed``.
        output: the run folder; by default ``runs/<teacher>-<student>/<method>-seed<seed>``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoint_every: steps between checkpoints inside an epoch; one is always written at its end.
        trackers: accelerate trackers to log to, e.g. ``[tensorboard]``.
        quiet: plain log lines instead of a progress bar.
        debug: also check the values of labels and logits on the GPU at every step (slow).
    """

    student: ModelConfig
    teacher: TeacherConfig | None = None
    method: str = "kd"
    method_options: dict[str, Any] = field(default_factory=dict)
    labels: Literal["given", "none"] = "given"
    mixup: float = 0.0
    cutmix: float = 0.0
    class_weights: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    stones: StonesConfig = field(default_factory=StonesConfig)
    epochs: int = 240
    batch_size: int = 64
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    seed: int = 0
    data_seed: int | None = None
    output: str | None = None
    device: str = "auto"
    checkpoint_every: int | None = None
    trackers: tuple[str, ...] = ()
    quiet: bool = False
    debug: bool = False

    def __post_init__(self) -> None:
        # From YAML and the command line sequences may come as lists; one form keeps comparisons simple.
        object.__setattr__(self, "trackers", tuple(self.trackers))
        if isinstance(self.teacher, ModelConfig) and not isinstance(self.teacher, TeacherConfig):
            object.__setattr__(self, "teacher", TeacherConfig(**vars(self.teacher)))

    @property
    def view_seed(self) -> int:
        """What decides order, views, mixing partners and which images are kept: ``data_seed`` where given, else ``seed``.

        >>> TrainConfig(ModelConfig("resnet18"), seed=3).view_seed, TrainConfig(ModelConfig("resnet18"), data_seed=5).view_seed
        (3, 5)
        """
        return self.seed if self.data_seed is None else self.data_seed


def default_folder(config: TrainConfig) -> Path:
    """Return the run folder of a configuration that names none.

    >>> str(default_folder(TrainConfig(ModelConfig("resnet18"), method="ce")))
    'runs/resnet18/ce-seed0'
    >>> str(default_folder(TrainConfig(ModelConfig("resnet18"), teacher=ModelConfig("resnet50"), seed=1)))
    'runs/resnet50-resnet18/kd-seed1'
    """
    return Path("runs") / pair_name(config) / f"{config.method}-seed{config.seed}"


def pair_name(config: TrainConfig) -> str:
    """Return a folder's name for student and teachers, from their networks' names.

    >>> from logitkd.runs.networks import TeacherSource
    >>> pair_name(TrainConfig(ModelConfig("resnet18"), TeacherConfig("resnet50", others=(TeacherSource("resnet34"),))))
    'resnet50+resnet34-resnet18'
    """
    teachers = [] if config.teacher is None else [member.name for member in config.teacher.members().values()]
    return "-".join(["+".join(map(file_name, teachers))] * bool(teachers) + [file_name(config.student.name)])


def warmup_epochs(schedule: ScheduleConfig, epochs: int) -> int:
    """Return over how many of ``epochs`` the learning rate warms up; its full value is reached in the last of them.

    >>> warmup_epochs(ScheduleConfig(warmup=0.0833), 240)
    20
    """
    return round(schedule.warmup * epochs)


def check_config(config: TrainConfig) -> None:
    """Check every value that can be checked without data or models; warn about learning rates unlikely to be meant.

    Raises:
        ValueError: with all the problems at once, a line each.
    """
    problems: list[str] = []
    check = collector(problems)
    for name, value in vars(config).items():
        check(check_texts, name, value)
    if problems:  # what can name no file cannot be looked for
        raise ValueError("\n".join(problems))
    check(check_int, "epochs", config.epochs, 1)
    check(check_int, "batch_size", config.batch_size, 1)
    check(check_int, "seed", config.seed, 0, 2**63 - 1)
    if config.data_seed is not None:
        check(check_int, "data_seed", config.data_seed, 0, 2**63 - 1)
    check(check_choice, "precision", config.precision, ["float32", "bfloat16"])
    if config.checkpoint_every is not None:
        check(check_int, "checkpoint_every", config.checkpoint_every, 1)
    problems += check_data(config.data)
    _check_stones(config.stones, problems)
    check(check_choice, "labels", config.labels, ["given", "none"])
    if config.labels == "none" and config.data.train_per_class is not None:
        problems.append("`data.train_per_class` must be left out with `labels: none`: without labels no class can be counted.")
    check(check_range, "mixup", config.mixup, 0, None)
    check(check_range, "cutmix", config.cutmix, 0, None)
    if config.class_weights not in (None, BALANCED):
        check(read_class_weights, config.class_weights)
    if config.trackers:
        from accelerate.utils import LoggerType  # costs a second: only for those who log

        known = [name for name in map(str, LoggerType) if name != "all"]  # "all" is no tracker: whatever is installed
        for tracker in config.trackers:
            check(check_choice, "trackers", tracker, known)
    check(check_choice, "optim.name", config.optim.name, ["sgd", "adamw"])
    check(check_positive, "optim.lr", config.optim.lr)
    check(check_range, "optim.momentum", config.optim.momentum, 0, 1)
    check(check_range, "optim.weight_decay", config.optim.weight_decay, 0, None)
    if config.optim.clip_grad is not None:
        check(check_positive, "optim.clip_grad", config.optim.clip_grad)
    check(check_choice, "schedule.name", config.schedule.name, ["multistep", "cosine"])
    check(check_range, "schedule.decay", config.schedule.decay, 0, 1)
    for fraction in config.schedule.milestones:
        check(check_range, "schedule.milestones", fraction, 0, 1, "fractions of `epochs`")
    check(_check_warmup, config.schedule)
    problems += check_networks(config.student, config.teacher)
    if problems:
        raise ValueError("\n".join(problems))
    if config.optim.name == "adamw" and config.optim.lr > 0.01:
        warnings.warn(
            f"`optim.lr` should be lower for `adamw`, got {config.optim.lr:g}: that is an SGD rate; 0.001 is usual for adamw.",
            stacklevel=3,
        )
    if config.schedule.warmup and warmup_epochs(config.schedule, config.epochs) < 2:
        warnings.warn(
            f"`schedule.warmup` {config.schedule.warmup:g} of {config.epochs} epochs is less than two: the learning rate is"
            " full from the first epoch on.",
            stacklevel=3,
        )


def _check_warmup(schedule: ScheduleConfig) -> None:
    check_range("schedule.warmup", schedule.warmup, 0, 1, "a fraction of `epochs`")
    first = min(schedule.milestones, default=1.0) if schedule.name == "multistep" else 1.0
    if schedule.warmup > first:
        raise ValueError(
            f"`schedule.warmup` must be at most the first of `schedule.milestones`, {first:g}, got {schedule.warmup:g}:"
            " the rate would fall before it has risen."
        )


def _check_stones(stones: StonesConfig, problems: list[str]) -> None:
    for side in ("student", "teacher"):
        cuts = getattr(stones, side)
        if cuts is not None and not cuts:
            problems.append(f"`stones.{side}` must hold at least one module path, got none. Leave it out to have them found.")
    counts = {len(cuts) for cuts in (stones.student, stones.teacher) if cuts}
    if len(counts) > 1:
        problems.append(
            f"`stones.student` and `stones.teacher` must hold as many paths, got {len(stones.student or ())} and"
            f" {len(stones.teacher or ())}: one of each for every stepping stone."
        )
    numbers = [] if isinstance(stones.use, str) else list(stones.use)
    if stones.use not in ("all", "last") and (not numbers or numbers != sorted(set(numbers)) or numbers[0] < 1):
        problems.append(f"`stones.use` must be `all`, `last` or rising numbers from 1, got {stones.use!r}.")
