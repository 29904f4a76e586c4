"""What a network costs to use: parameters, multiply-adds, milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from logitkd.models import parameter_count
from logitkd.reach import eval_mode
from logitkd.reach.replay.flow import WorkCounter

__all__ = ["LATENCY_BATCHES", "latency_ms", "multiply_adds", "network_cost"]

LATENCY_BATCHES = (1, 64)
WARM_UP, FEWEST, MOST, BUDGET = 2, 3, 50, 0.5  # passes, passes, passes, seconds


def network_cost(model: nn.Module, input_size: Sequence[int], device: torch.device, *, latency: bool = True) -> dict[str, Any]:
    """Return what one forward pass of ``model`` costs, in eval mode and float32.

    Args:
        model: on ``device``; each module's own mode is restored.
        input_size: of one image: channels, height, width.
        device: where to run.
        latency: measure it too, which takes a few forward passes of 64 images, at most about two seconds on top.

    Returns:
        ``parameters``, ``macs`` (multiply-adds of one image) and, if asked, ``latency_ms`` (batch size to milliseconds).
    """
    cost: dict[str, Any] = {
        "parameters": parameter_count(model),
        "macs": multiply_adds(model, input_size, device),
    }
    if latency:
        cost["latency_ms"] = {size: latency_ms(model, input_size, device, batch_size=size) for size in LATENCY_BATCHES}
    return cost


def multiply_adds(model: nn.Module, input_size: Sequence[int], device: torch.device | str = "cpu") -> int:
    """Return the multiply-adds (MACs) of one image: half the floating-point operations of products and convolutions.

    Norms, activations, pooling and additions of biases are not counted, as the papers do not count them. Counted in what
    runs, by torch's own formulas; attention is made to run as the two products that it is, as some of its fused kernels
    are unknown to them.

    >>> multiply_adds(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 25, 10)), (3, 5, 5))
    3700
    """
    with WorkCounter() as counter, torch.no_grad(), eval_mode(model):
        model(torch.zeros(1, *input_size, device=device))
    return counter.multiply_adds


def latency_ms(model: nn.Module, input_size: Sequence[int], device: torch.device, *, batch_size: int) -> float:
    """Return the median time of a forward pass of ``batch_size`` images already on ``device``, in milliseconds.

    After two passes to warm up, passes are timed until half a second is over: at least 3, at most 50.
    """
    images = torch.zeros(batch_size, *input_size, device=device)
    seconds: list[float] = []
    with torch.no_grad(), eval_mode(model):
        for _ in range(WARM_UP):
            model(images)
        while len(seconds) < FEWEST or (len(seconds) < MOST and sum(seconds) < BUDGET):
            _wait(device)
            begun = time.perf_counter()
            model(images)
            _wait(device)
            seconds.append(time.perf_counter() - begun)
    return 1000 * statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
