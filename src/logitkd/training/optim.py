"""Optimizer and learning-rate schedule, from timm's factories, with the papers' conventions."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from logitkd.runs.config import OptimConfig, ScheduleConfig, warmup_length

__all__ = ["build_optimizer", "build_schedule", "set_rate"]


def build_optimizer(config: OptimConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer over every trainable parameter, with weight decay on all of them (norms and biases too)."""
    # timm's "sgd" is Nesterov's; its "momentum" is the classical one that the papers use.
    name = "momentum" if config.name == "sgd" else config.name
    # One pass over memory in place of one for each operation: with AdamW's two moments most of a CPU's step was that.
    fused: dict[str, Any] = (
        {"fused": True} if config.name == "adamw" and all(p.is_floating_point() for p in model.parameters()) else {}
    )
    return create_optimizer_v2(
        model,
        opt=name,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,  # not passed on to AdamW, which has none
        filter_bias_and_bn=False,
        **fused,
    )


def build_schedule(config: ScheduleConfig, optimizer: torch.optim.Optimizer, epochs: int, steps: int = 1) -> Scheduler:
    """Return timm's scheduler; move it with :func:`set_rate`.

    Args:
        config: which, and whether it moves every epoch or every step.
        optimizer: its rate is the full one.
        epochs: of the run.
        steps: of an epoch.
    """
    by_step = config.moves == "step"
    length = epochs * steps if by_step else epochs
    up = warmup_length(config, length)
    lr = optimizer.param_groups[0]["lr"]
    # timm's rate rises from `warmup_lr_init` at its time 0 to the full one at its time `warmup_t`, counted from 0.
    options: dict[str, Any] = {"t_in_epochs": not by_step, "warmup_prefix": False}  # the rest counts from the run's start
    if up > 1:
        options |= {"warmup_t": up - 1, "warmup_lr_init": lr / up}
    if config.name == "cosine":
        return CosineLRScheduler(optimizer, t_initial=length, **options)
    if config.name == "poly":
        return PolyLRScheduler(optimizer, t_initial=length, power=config.power, **options)
    if config.name == "linear":  # falls from where the warm-up ends
        options |= {"warmup_prefix": True} if up > 1 else {}
        return PolyLRScheduler(optimizer, t_initial=length - max(up - 1, 0), power=1.0, **options)
    # timm lets milestone m act from its zero-based time m - 1 on, which is the m-th; the papers act after the m-th.
    milestones = [round(fraction * length) + 1 for fraction in sorted(config.milestones)]
    return MultiStepLRScheduler(optimizer, decay_t=milestones, decay_rate=config.decay, **options)


def set_rate(schedule: Scheduler, epoch: int, step: int = 1, steps: int = 1) -> float:
    """Set the learning rate of a step and return it: a function of where the run stands, so resuming needs no state.

    With t the number of epochs, or of steps, before this one, T that of the whole run and w that of the warm-up::

        multistep: lr * decay ** (number of milestones m with t >= m)
        cosine:    lr * (1 + cos(pi * t / T)) / 2
        poly:      lr * (1 - t / T) ** power
        linear:    lr * (1 - t / T), after a warm-up lr * (T - t) / (T - w + 1)
        all:       lr * (t + 1) / w while t + 1 < w

    Args:
        schedule: from :func:`build_schedule`.
        epoch: from 1.
        step: of the epoch, from 1.
        steps: of an epoch.
    """
    if schedule.t_in_epochs:
        schedule.step(epoch - 1)
    else:
        schedule.step_update((epoch - 1) * steps + step - 1)
    return float(schedule.optimizer.param_groups[0]["lr"])
