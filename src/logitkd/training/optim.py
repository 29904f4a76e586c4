"""Optimizer and learning-rate schedule, from timm's factories, with the papers' conventions."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from logitkd.runs.config import OptimConfig, ScheduleConfig, warmup_epochs

__all__ = ["build_optimizer", "build_schedule", "set_epoch"]


def build_optimizer(config: OptimConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer over every trainable parameter, with weight decay on all of them (norms and biases too)."""
    # timm's "sgd" is Nesterov's; its "momentum" is the classical one that the papers use.
    name = "momentum" if config.name == "sgd" else config.name
    return create_optimizer_v2(
        model,
        opt=name,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,  # not passed on to AdamW, which has none
        filter_bias_and_bn=False,
    )


def build_schedule(config: ScheduleConfig, optimizer: torch.optim.Optimizer, epochs: int) -> Scheduler:
    """Return timm's scheduler; move it with :func:`set_epoch`."""
    # timm's rate rises from `warmup_lr_init` in its epoch 0 to the full one in its epoch `warmup_t`, counted from 0.
    epochs_up = warmup_epochs(config, epochs)
    lr = optimizer.param_groups[0]["lr"]
    warmup: dict[str, Any] = {"warmup_prefix": False}  # milestones count from the start of the run
    if epochs_up > 1:
        warmup |= {"warmup_t": epochs_up - 1, "warmup_lr_init": lr / epochs_up}
    if config.name == "cosine":
        return CosineLRScheduler(optimizer, t_initial=epochs, **warmup)
    # timm lets milestone m act from its zero-based epoch m - 1 on, which is the m-th; the papers act after the m-th.
    milestones = [round(fraction * epochs) + 1 for fraction in sorted(config.milestones)]
    return MultiStepLRScheduler(optimizer, decay_t=milestones, decay_rate=config.decay, **warmup)


def set_epoch(schedule: Scheduler, epoch: int) -> float:
    """Set the learning rate of ``epoch`` (from 1) and return it.

    multistep: ``lr * decay ** (number of milestones m with epoch > m)``;
    cosine: ``lr * (1 + cos(pi * (epoch - 1) / epochs)) / 2``;
    both: ``lr * epoch / w`` in the epochs before w, the number of epochs that ``schedule.warmup`` comes to.
    A function of the epoch alone: resuming needs no state.
    """
    schedule.step(epoch - 1)
    return float(schedule.optimizer.param_groups[0]["lr"])
