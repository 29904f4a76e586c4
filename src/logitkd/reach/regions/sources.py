"""The maps of a traced pass: what modules take or put out that may hold more than one cell of each image."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor, nn

from logitkd.reach.replay.trace import Call, first_tensor

__all__ = ["MapSource", "calls_behind", "grids_before", "is_map", "map_sizes", "map_source", "map_sources"]

SPATIAL = (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@dataclass(frozen=True, eq=False)
class MapSource:
    """A map in a traced pass: what ``call`` takes (``into``) or puts out."""

    call: Call
    into: bool
    value: Tensor

    @property
    def time(self) -> tuple[float, int]:
        """When it was there: before the call of that number, and among nested modules the outer one later."""
        return (self.call.number, 0) if self.into else (self.call.ended - 0.5, -self.call.number)

    def __str__(self) -> str:
        return f"{'the input' if self.into else 'the output'} {tuple(self.value.shape)} of `{self.call.path}`"


def map_source(call: Call, into: bool) -> MapSource | None:
    """Return what ``call`` takes (``into``) or puts out; ``None`` where that is no tensor of numbers."""
    value = call.inputs if into else first_tensor(call.output)
    return MapSource(call, into, value) if isinstance(value, Tensor) and value.is_floating_point() else None


def map_sources(calls: list[Call], images: Tensor, heads: list[Call] | None) -> list[MapSource]:
    """Return the maps of the pass, the last first: what modules put out, and what modules take that make one cell of it."""
    found = []
    for call in calls:
        if heads is not None and (call.number >= heads[0].number or call in heads[0].within()):
            continue
        taken, made = map_source(call, True), map_source(call, False)
        if taken and made and is_map(taken.value, images) and not is_map(made.value, images):
            found.append(taken)
        if made and is_map(made.value, images):
            found.append(made)
    found.sort(key=lambda source: source.time, reverse=True)
    # One tensor that passes through several modules is tried once, but again inside one that puts out more than it.
    repeated = {b for a, b in itertools.pairwise(found) if not b.into and a.value is b.value and a.call.output is a.value}
    return [source for source in found if source not in repeated]


def is_map(value: Tensor, images: Tensor) -> bool:
    """Whether it may hold more than one cell of each image."""
    if value.shape[0] != len(images):
        return False
    if value.ndim == 3:
        return value.shape[1] > 1 and value.shape[2] > 1
    return value.ndim == 4 and value.shape[2] * value.shape[3] > 1 and value.shape[1] * value.shape[2] > 1


def calls_behind(source: MapSource, calls: list[Call]) -> list[Call]:
    """Return the calls that begin after the map is there, outside the module that takes it."""
    start = source.call.ended
    return [call for call in calls if call.number >= start]


def grids_before(source: MapSource, calls: list[Call]) -> list[tuple[int, int]]:
    """Return the sizes of the maps before ``source``, the last first."""
    return map_sizes([call for call in calls if call.number <= source.call.number])


def map_sizes(calls: list[Call]) -> list[tuple[int, int]]:
    """Return the sizes of the maps that convolutions and poolings put out, the last first; weights of attention are no maps."""
    maps = [made.value for call in calls if isinstance(call.module, SPATIAL) and (made := map_source(call, False))]
    return list(dict.fromkeys((m.shape[2], m.shape[3]) for m in reversed(maps) if m.ndim == 4))
