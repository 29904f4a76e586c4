"""What a network costs to use: parameters, multiply-adds, milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from logitkd.models import parameter_count
from logitkd.reach.inputs import Given, eval_mode, tensors
from logitkd.reach.replay.flow import WorkCounter

__all__ = ["latency_ms", "multiply_adds", "network_cost"]

WARM_UP, FEWEST, MOST, BUDGET = 2, 3, 50, 0.5  # passes, passes, passes, seconds


def network_cost(
    see: Callable[[Any], object],
    model: nn.Module,
    sizes: Mapping[str, Callable[[int], Given]],
    batches: Sequence[int] = (1, 64),
    *,
    latency: bool = True,
) -> dict[str, Any]:
    """Return what one forward pass of ``model`` costs, in eval mode and float32.

    Args:
        see: inputs to what the network makes of them.
        model: the network; each module's own mode is restored.
        sizes: what one example may be, in words, and for so many of that size the inputs, on the model's device. One size
            that needs no words is called ``""``.
        batches: how many examples at a time are timed.
        latency: measure it too, which takes a few forward passes of each batch, at most about two seconds a size on top.

    Returns:
        ``parameters``, ``macs`` (multiply-adds of one example) and, if asked, ``latency_ms`` (batch size to milliseconds); the
        last two by size, unless there is only the one called ``""``.
    """
    cost: dict[str, Any] = {"parameters": parameter_count(model)}
    with eval_mode(model):
        cost["macs"] = _by_size({size: multiply_adds(see, make(1)) for size, make in sizes.items()})
        if latency:
            cost["latency_ms"] = _by_size(
                {size: {count: latency_ms(see, make(count)) for count in batches} for size, make in sizes.items()}
            )
    return cost


def _by_size(found: dict[str, Any]) -> Any:
    return found[""] if found.keys() == {""} else found


def multiply_adds(see: Callable[[Any], object], example: Given) -> int:
    """Return the multiply-adds (MACs) of a pass: half the floating-point operations of products and convolutions.

    Norms, activations, pooling and additions of biases are not counted, as the papers do not count them. Counted in what
    runs, by torch's own formulas; attention is made to run as the two products that it is, as some of its fused kernels
    are unknown to them.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 25, 10))
    >>> multiply_adds(network, torch.zeros(1, 3, 5, 5))
    3700
    """
    with WorkCounter() as counter, torch.no_grad():
        see(example)
    return counter.multiply_adds


def latency_ms(see: Callable[[Any], object], batch: Given) -> float:
    """Return the median time of a forward pass of a batch, in milliseconds.

    After two passes to warm up, passes are timed until half a second is over: at least 3, at most 50.
    """
    device = tensors(batch)[0].device
    seconds: list[float] = []
    with torch.no_grad():
        for _ in range(WARM_UP):
            see(batch)
        while len(seconds) < FEWEST or (len(seconds) < MOST and sum(seconds) < BUDGET):
            _wait(device)
            begun = time.perf_counter()
            see(batch)
            _wait(device)
            seconds.append(time.perf_counter() - begun)
    return 1000 * statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
