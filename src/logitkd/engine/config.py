"""What a run is: one typed, strict record. Its fields are the recipe's keys and the command line's flags."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from logitkd.checks import check_choice, check_int, check_positive, check_range
from logitkd.data.class_weights import BALANCED, read_class_weights
from logitkd.data.config import DataConfig, check_data

__all__ = [
    "ModelConfig",
    "OptimConfig",
    "ScheduleConfig",
    "StonesConfig",
    "TeacherConfig",
    "TeacherSource",
    "TrainConfig",
    "check_config",
    "default_folder",
    "file_name",
    "pair_name",
]


@dataclass(frozen=True)
class ModelConfig:
    """A network: what to build and the weights to load.

    Args:
        name: timm name (``cifar_resnet8x4``, ``resnet50.a1_in1k``), ``hf-hub:OWNER/NAME``, ``local-dir:FOLDER``,
            ``torchvision:NAME``, ``transformers:ID_OR_FOLDER`` or ``package.module:callable``.
        checkpoint: safetensors file, ``weights_only`` state dict, or run folder; none means the weights the name stands
            for, or random ones.
        pool: path of the module that averages the last map, for methods that read regions (``sdd-*``, ``icd-*``; others take
            no notice); found by itself where there is one to find.
        head: path of the module behind the pooling, likewise.
    """

    name: str
    checkpoint: str | None = None
    pool: str | None = field(default=None, kw_only=True)
    head: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class StonesConfig:
    """The stepping stones of Block-KD; other methods take no notice.

    Args:
        use: ``all``, ``last`` (the cheapest: only the teacher's classifier runs again) or their numbers, from 1: ``[2, 3]``.
        student: module paths that end the student's blocks, first to last; by default they are found.
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
class TeacherSource(ModelConfig):
    """A frozen network to learn from; its weights must come from somewhere.

    Args:
        name: as a student's.
        checkpoint: as a student's; may be left out only where the name stands for trained weights.
        pool: as a student's.
        head: as a student's.
        label_map: as in :class:`TeacherConfig`, and so on.
        num_classes: its own classes.
        mean: its own mean.
        std: its own standard deviation.
    """

    label_map: str | None = None
    num_classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)


@dataclass(frozen=True)
class TeacherConfig(TeacherSource):
    """The frozen network, or networks, to learn from.

    Args:
        name: as a student's; also the first of several teachers.
        checkpoint: as a student's; may be left out only where the name stands for trained weights.
        pool: as a student's.
        head: as a student's.
        label_map: YAML, JSON or CSV file ``teacher class: student class``, by name or index; several to one allowed.
        num_classes: the teacher's own classes; only where neither its weights nor its run folder say.
        mean: of each channel (0 to 1), what the teacher's images were normalised by; by default what its source says, else
            the data's.
        std: likewise.
        others: more teachers, ``[{name: ..., checkpoint: ...}, ...]`` with the keys above; their mean is learnt from.
        combine: mean of the teachers' ``probabilities`` or of their ``logits``.
    """

    others: tuple[TeacherSource, ...] = ()
    combine: Literal["probabilities", "logits"] = "probabilities"

    def __post_init__(self) -> None:
        super().__post_init__()
        # From YAML and the command line they come as mappings.
        others = (other if isinstance(other, TeacherSource) else TeacherSource(**dict(other)) for other in self.others)
        object.__setattr__(self, "others", tuple(others))

    def members(self) -> dict[str, TeacherSource]:
        """Return every teacher by the key it is set under: ``teacher``, ``teacher.others[0]``, ..."""
        first = {field.name: getattr(self, field.name) for field in fields(TeacherSource)}
        return {"teacher": TeacherSource(**first)} | {
            f"teacher.others[{index}]": other for index, other in enumerate(self.others)
        }


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
    """

    name: Literal["multistep", "cosine"] = "multistep"
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)
    decay: float = 0.1


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
        seed: decides initial weights, order and augmentation; two methods under one seed see the same views.
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

    >>> pair_name(TrainConfig(ModelConfig("resnet18"), TeacherConfig("resnet50", others=(TeacherSource("resnet34"),))))
    'resnet50+resnet34-resnet18'
    """
    teachers = [] if config.teacher is None else [member.name for member in config.teacher.members().values()]
    return "-".join(["+".join(map(file_name, teachers))] * bool(teachers) + [file_name(config.student.name)])


def file_name(network: str) -> str:
    """Return a network's name as a part of a path.

    >>> file_name("torchvision:resnet18")
    'torchvision_resnet18'
    """
    return re.sub(r"[^\w.]+", "_", network)


def check_config(config: TrainConfig) -> None:
    """Check every value that can be checked without data or models; warn about a learning rate of another optimizer.

    Raises:
        ValueError: with all the problems at once, a line each.
    """
    problems: list[str] = []

    def check(function: Callable[..., object], *args: Any) -> None:
        try:
            function(*args)
        except (TypeError, ValueError) as error:
            problems.append(str(error))

    check(check_int, "epochs", config.epochs, 1)
    check(check_int, "batch_size", config.batch_size, 1)
    check(check_int, "seed", config.seed, 0, 2**63 - 1)
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
    networks: dict[str, ModelConfig] = {"student": config.student}
    if config.teacher is not None:
        check(check_choice, "teacher.combine", config.teacher.combine, ["probabilities", "logits"])
        networks |= config.teacher.members()
    for role, model in networks.items():
        if model.checkpoint is not None and not Path(model.checkpoint).exists():
            problems.append(f"`{role}.checkpoint` must be a file or a run folder, but there is no {model.checkpoint}.")
        if isinstance(model, TeacherSource):
            _check_teacher(role, model, check, problems)
    if problems:
        raise ValueError("\n".join(problems))
    if config.optim.name == "adamw" and config.optim.lr > 0.01:
        warnings.warn(
            f"`optim.lr` should be lower for `adamw`, got {config.optim.lr:g}: that is an SGD rate; 0.001 is usual for adamw.",
            stacklevel=3,
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


def _check_teacher(role: str, teacher: TeacherSource, check: Callable[..., None], problems: list[str]) -> None:
    """Check what a teacher has beyond a student."""
    if teacher.label_map is not None and not Path(teacher.label_map).is_file():
        problems.append(f"`{role}.label_map` must be a file, but there is no {teacher.label_map}.")
    if teacher.num_classes is not None:
        check(check_int, f"{role}.num_classes", teacher.num_classes, 2)
    for name, values, function in (("mean", teacher.mean, check_range), ("std", teacher.std, check_positive)):
        if values is not None and len(values) != 3:
            problems.append(f"`{role}.{name}` must have one value a channel, 3, got {list(values)}.")
        for value in values or ():
            check(function, f"{role}.{name}", value, *([None, None] if name == "mean" else []))
