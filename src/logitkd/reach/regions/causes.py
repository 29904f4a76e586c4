"""Why a model has no regions, where that shows: a single cell, no map, no pooling."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from logitkd.reach.regions.sources import calls_behind, map_source, map_sources
from logitkd.reach.replay.trace import Call, plain, trace

__all__ = ["PLAIN", "SEVERAL", "known_cause", "one_cell", "size_of"]

SEVERAL = "region logits need a model that averages a last map of several cells"
PLAIN = "choose a method that reads plain logits"


def known_cause(model: nn.Module, calls: list[Call], images: Tensor, name: str) -> str:
    """Say what is the matter and what to do, where that shows."""
    sources = map_sources(calls, images, None)
    if not sources:
        where = f"on images of {size_of(images)}, no module of {name} puts out a map or tokens of more than one cell"
        return f"{where}. To go on, {PLAIN}"
    if _single_cell(calls, images):
        return one_cell(name, images, lambda more: _single_cell(trace(plain(model), more)[0], more))
    last = sources[0].value
    for call in [*calls_behind(sources[0], calls), sources[0].call]:
        taken = map_source(call, True)
        if taken is not None and taken.value.ndim == 2 and taken.value.shape[1] == last[0].numel():
            read = " x ".join(map(str, last.shape[1:]))
            return (
                f"`{call.path}` of {name} reads every one of the {read} numbers of it, there is no pooling. To go on, {PLAIN}"
            )
    return ""


def _single_cell(calls: list[Call], images: Tensor) -> bool:
    """Whether what looks at the neighbourhood in a map, or averages one, is given a single cell."""
    sources = map_sources(calls, images, None)
    for call in calls_behind(sources[0], calls) if sources else []:
        taken = map_source(call, True)
        spatial = isinstance(call.module, nn.Conv2d) and call.module.kernel_size != (1, 1)
        pools = isinstance(call.module, nn.AdaptiveAvgPool2d | nn.AvgPool2d)
        if (spatial or pools) and taken is not None and taken.value.ndim == 4 and taken.value.shape[2:] == (1, 1):
            return True
    return False


def size_of(images: Tensor) -> str:
    """Return words for the height and width of images."""
    return " x ".join(map(str, images.shape[2:]))


def one_cell(name: str, images: Tensor, single: Callable[[Tensor], bool]) -> str:
    """Say that the last map is a single cell, and what to do; ``single`` tells it of other images."""
    where = f"on images of {size_of(images)}, that of {name} is a single cell, without regions"
    return f"{where}. Give larger images{_larger(images, single)}, take a network made for small ones, or {PLAIN}"


def _larger(images: Tensor, single: Callable[[Tensor], bool]) -> str:
    """Return words for the first of some larger sizes whose last map is no single cell; none where the model takes no such."""
    for factor in (2, 4, 8):
        more = images.repeat(1, 1, factor, factor)
        try:
            if not single(more):
                return f" ({size_of(more)})"
        except Exception:  # the user's code on another size: then none is proposed
            return ""
    return ""
