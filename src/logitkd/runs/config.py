"""What a run is: one typed, strict record. Its fields are the recipe's keys and the command line's flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import PlainValidator, ValidationInfo

from logitkd import tasks
from logitkd.checks import shown
from logitkd.data.config import DataConfig
from logitkd.fields import HERE, ByTask, Number, Positive, Record, Seed, Switch, Text, Whole, at_least, choice, usual, within
from logitkd.runs.networks import ModelConfig, TeacherConfig
from logitkd.runs.settings import Setting, settings_of
from logitkd.runs.values import adapter, plain

__all__ = [
    "DistillConfig",
    "OptimConfig",
    "ScheduleConfig",
    "StonesConfig",
    "TrainConfig",
    "data_settings",
    "run_defaults",
    "run_settings",
    "warmup_length",
]


def _stones(value: Any) -> Any:
    """Read which stepping stones to use."""
    value = list(value) if isinstance(value, tuple) else value
    numbers = value if isinstance(value, list) else []
    if value in ("all", "last"):
        return value
    if not numbers or any(type(one) is not int for one in numbers) or numbers != sorted(set(numbers)) or numbers[0] < 1:
        raise ValueError(f"`{HERE}` must be `all`, `last` or rising numbers from 1, got {shown(value)}.")
    return tuple(numbers)


def _data(value: Any, info: ValidationInfo) -> Any:
    """Read the data as the settings of its task."""
    if "task" not in info.data:  # a wrong one, of which others speak
        return value
    kind = tasks.settings_of(info.data["task"])
    nothing_given = kind is not DataConfig and value == plain(DataConfig())
    return adapter(kind).validate_python({} if nothing_given else value)


@dataclass(frozen=True)
class StonesConfig(Record):
    """The stepping stones of Block-KD; other methods take no notice.

    Args:
        use: ``all``, ``last`` (the cheapest: only the teacher's classifier runs again) or their numbers, from 1: ``[2, 3]``.
        student: module paths that end the student's blocks, first to last; by default they are found, by where the work is.
        teacher: likewise the teacher's, as many.
    """

    use: Annotated[Literal["all", "last"] | tuple[int, ...], PlainValidator(_stones)] = "all"
    student: tuple[Text, ...] | None = None
    teacher: tuple[Text, ...] | None = None


@dataclass(frozen=True)
class DistillConfig(Record):
    """What of dense outputs is distilled; tasks of one label an example have no use for it.

    Args:
        grid: on which grid maps of logits are compared: the ``coarser`` of the student's and the teacher's, the ``student``'s,
            or that of the ``labels``.
    """

    grid: Literal["coarser", "student", "labels"] = "coarser"


@dataclass(frozen=True)
class OptimConfig(ByTask):
    """The optimizer, built by timm's factory. In a run, what is not given is what its task has for it.

    Args:
        name: ``sgd`` or ``adamw``.
        lr: learning rate at the start of the schedule.
        momentum: SGD's momentum (ignored by AdamW).
        weight_decay: applied to every parameter, as the papers do.
        clip_grad: largest gradient norm; none leaves gradients alone.
    """

    name: Literal["sgd", "adamw"] = usual("sgd")
    lr: Positive = usual(0.05)
    momentum: Annotated[Number, within(0, 1)] = usual(0.9)
    weight_decay: Annotated[Number, within(0, None)] = usual(5e-4)
    clip_grad: Positive | None = usual(None)


@dataclass(frozen=True)
class ScheduleConfig(ByTask):
    """How the learning rate falls, built by timm's factory. In a run, what is not given is what its task has for it.

    Args:
        name: ``multistep`` (times ``decay`` at each milestone), ``cosine``, ``poly`` or ``linear`` (to zero over the run).
        milestones: after which fractions of ``epochs`` the rate drops: 0.625, 0.75, 0.875 are 150, 180, 210 of 240.
        decay: factor at each milestone.
        warmup: over which fraction of ``epochs`` the rate first grows: to epoch / n of it in each of these n epochs (0.0833 are
            20 of 240). The milestones, the cosine and the power count from the start of the run all the same; ``linear`` falls
            from where the warm-up ends.
        power: of ``poly``.
        per: whether the rate moves every ``epoch`` or every ``step``; by default ``poly`` and ``linear`` every step, the others
            every epoch.
    """

    name: Literal["multistep", "cosine", "poly", "linear"] = usual("multistep")
    milestones: tuple[Annotated[Number, within(0, 1, "fractions of `epochs`")], ...] = usual((0.625, 0.75, 0.875))
    decay: Annotated[Number, within(0, 1)] = usual(0.1)
    warmup: Annotated[Number, within(0, 1, "a fraction of `epochs`")] = usual(0.0)
    power: Positive = usual(0.9)
    per: Literal["epoch", "step"] | None = usual(None)

    @property
    def moves(self) -> str:
        """Whether the rate moves every ``epoch`` or every ``step``."""
        return self.per or ("step" if self.name in ("poly", "linear") else "epoch")


@dataclass(frozen=True)
class TrainConfig(ByTask):
    """Everything that decides the result of a run, and how it is shown.

    What is not given of ``optim``, ``schedule``, ``epochs`` and ``batch_size`` is the task's: see :func:`run_defaults`.

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
        task: what the data are and what a score is; it decides the keys of ``data``.
        data: the data set and its augmentation.
        optim: the optimizer.
        schedule: the learning-rate schedule.
        stones: where Block-KD cuts both networks.
        distill: what of dense outputs is distilled.
        aux_weight: weight of an auxiliary head's terms, the task's own and the distillation's; 0 builds networks without one.
        epochs: passes over the training split.
        batch_size: examples a step.
        precision: ``float32`` or ``bfloat16`` (autocast).
        channels_last: memory format; faster on most hardware, same mathematics.
        seed: decides initial weights and dropout.
        data_seed: decides the order of the images, their views, their partners in mixing, and which of them
            ``data.train_per_class`` keeps: methods compared under one see the same. By default the ``seed``.
        output: the run folder; by default ``runs/<teacher>-<student>/<method>-<changes>-seed<seed>``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoint_every: steps between checkpoints inside an epoch; one is always written at its end.
        trackers: accelerate trackers to log to, e.g. ``[tensorboard]``.
        quiet: plain log lines instead of a progress bar.
        debug: also check the values of labels and logits on the GPU at every step (slow).
    """

    student: ModelConfig
    teacher: TeacherConfig | None = None
    method: Text = "kd"
    method_options: dict[str, Any] = field(default_factory=dict)
    labels: Literal["given", "none"] = "given"
    mixup: Annotated[Number, within(0, 1000)] = 0.0
    cutmix: Annotated[Number, within(0, 1000)] = 0.0
    class_weights: Text | None = None
    task: Annotated[Text, choice(tasks.names)] = "images"
    data: Annotated[DataConfig, PlainValidator(_data)] = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    stones: StonesConfig = field(default_factory=StonesConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    aux_weight: Annotated[Number, within(0, None)] = 0.4
    epochs: Annotated[Whole, at_least(1)] = usual(240)
    batch_size: Annotated[Whole, at_least(1)] = usual(64)
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: Switch = False
    seed: Seed = 0
    data_seed: Seed | None = None
    output: Text | None = None
    device: Text = "auto"
    checkpoint_every: Annotated[Whole, at_least(1)] | None = None
    trackers: tuple[Text, ...] = ()
    quiet: Switch = False
    debug: Switch = False

    def __post_init__(self) -> None:
        """Fill in what was left to the task."""
        super().__post_init__()
        sections: dict[str, dict[str, Any]] = {}
        for key, value in run_defaults(self.task).items():
            section, _, name = key.rpartition(".")
            if name in getattr(getattr(self, section) if section else self, "left", ()):
                sections.setdefault(section, {})[name] = value
        vars(self).update(sections.pop("", {}))
        vars(self).update({section: replace(getattr(self, section), **values) for section, values in sections.items()})

    def networks(self) -> dict[str, ModelConfig]:
        """Return every network by the key it is set under: ``student``, ``teacher``, ``teacher.others[0]``, ..."""
        return {"student": self.student} | ({} if self.teacher is None else self.teacher.members())

    def pair_options(self) -> dict[str, Any]:
        """Return what the settings say of how student and teacher are joined, as ``reach.PairOptions`` takes it."""
        student, stones = self.student, self.stones
        return {
            "student_pool": student.pool,
            "student_head": student.head,
            "student_cuts": stones.student,
            "teacher_cuts": stones.teacher,
            "use": stones.use,
            "seed": self.seed,
        }

    @property
    def view_seed(self) -> int:
        """What decides order, views, mixing partners and which images are kept: ``data_seed`` where given, else ``seed``.

        >>> TrainConfig(ModelConfig("resnet18"), seed=3).view_seed, TrainConfig(ModelConfig("resnet18"), data_seed=5).view_seed
        (3, 5)
        """
        return self.seed if self.data_seed is None else self.data_seed


def warmup_length(schedule: ScheduleConfig, length: int) -> int:
    """Return over how many of a run's epochs, or steps, the learning rate warms up; it is full in the last of them.

    >>> warmup_length(ScheduleConfig(warmup=0.0833), 240)
    20
    """
    return round(schedule.warmup * length)


def data_settings(task: str | None = None) -> type:
    """Return the dataclass of the settings ``data`` of a task; an unknown one, of which others speak, has the default's."""
    return tasks.settings_of(task if task in tasks.names() else TrainConfig.task)


def run_defaults(task: str | None = None) -> Mapping[str, Any]:
    """Return by dotted key the task's own defaults of ``optim``, ``schedule``, ``epochs`` and ``batch_size``.

    The dataclass of its data says them, in ``run_defaults``; what it does not say is as for images, which say none.

    >>> run_defaults("images")
    {}
    """
    return getattr(data_settings(task), "run_defaults", {})


def run_settings(task: str | None = None) -> dict[str, Setting]:
    """Return what a run of a task can be told, but for the method and its options, which the method's own classes check."""
    found = settings_of(TrainConfig, skip={"method", "method_options"}, data=data_settings(task))
    return found | {key: replace(found[key], default=value) for key, value in run_defaults(task).items()}
