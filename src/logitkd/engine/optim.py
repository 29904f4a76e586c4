"""Optimizer and learning-rate schedule, from timm's factories, with the papers' conventions."""

from __future__ import annotations

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from logitkd.engine.config import OptimConfig, ScheduleConfig

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
    if config.name == "cosine":
        return CosineLRScheduler(optimizer, t_initial=epochs)
    # timm lets milestone m act from its zero-based epoch m - 1 on, which is the m-th; the papers act after the m-th.
    milestones = [round(fraction * epochs) + 1 for fraction in sorted(config.milestones)]
    return MultiStepLRScheduler(optimizer, decay_t=milestones, decay_rate=config.decay)


def set_epoch(schedule: Scheduler, epoch: int) -> float:
    """Set the learning rate of ``epoch`` (from 1) and return it.

    multistep: ``lr * decay ** (number of milestones m with epoch > m)``;
    cosine: ``lr * (1 + cos(pi * (epoch - 1) / epochs)) / 2``. A function of the epoch alone: resuming needs no state.
    """
    schedule.step(epoch - 1)
    return float(schedule.optimizer.param_groups[0]["lr"])
