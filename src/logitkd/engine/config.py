"""What a run is: one typed, strict record. Its fields are the recipe's keys and the command line's flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from logitkd.data.config import DataConfig

__all__ = ["ModelConfig", "OptimConfig", "ScheduleConfig", "TrainConfig"]


@dataclass(frozen=True)
class ModelConfig:
    """A network: what to build and the weights to load.

    Args:
        name: timm name (``cifar_resnet8x4``, ``resnet18``) or ``package.module:callable``.
        checkpoint: safetensors file, ``weights_only`` state dict, or run folder; none means random weights.
    """

    name: str
    checkpoint: str | None = None


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
        milestones: where the rate drops, as fractions of ``epochs``: 0.625, 0.75, 0.875 are epochs 150, 180, 210 of 240.
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
        teacher: the frozen network to learn from; none for methods that need no teacher (``ce``).
        method: a name from ``logitkd list``.
        method_options: overrides of the method's hyper-parameters, e.g. ``{"top_k": 3, "warmup_epochs": 5}``.
        data: the data set and its augmentation.
        optim: the optimizer.
        schedule: the learning-rate schedule.
        epochs: passes over the training split.
        batch_size: examples a step.
        precision: ``float32`` or ``bfloat16`` (autocast).
        channels_last: memory format; faster on most hardware, same mathematics.
        seed: decides initial weights, order and augmentation; two methods under one seed see the same views.
        output: the run folder; by default ``runs/<student>/<method>-seed<seed>``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoint_every: steps between checkpoints inside an epoch (one is always written at its end); none: only there.
        trackers: accelerate trackers to log to, e.g. ``[tensorboard]``.
        quiet: plain log lines instead of a progress bar.
        debug: also check the values of labels and logits on the GPU at every step (slow).
    """

    student: ModelConfig
    teacher: ModelConfig | None = None
    method: str = "kd"
    method_options: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
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
