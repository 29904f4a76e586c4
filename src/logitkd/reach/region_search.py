"""Finding where the cells of a model without timm's interface enter it: candidates from one traced pass, each to prove itself.

A candidate is a map (what a module takes or puts out) and a place behind it. It is taken if the model's own code, run from
there on the map's mean, gives the model's own logits, and the last module the input that it had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from logitkd.reach.modes import eval_mode
from logitkd.reach.pooling import pool_cells
from logitkd.reach.region_entry import ReplayEntry
from logitkd.reach.region_layout import CellLayout, guess_layouts
from logitkd.reach.region_sources import MapSource, calls_behind, grids_before, is_map, map_source, map_sources
from logitkd.reach.replay import Replay
from logitkd.reach.signals import agree, check_logits, gap
from logitkd.reach.trace import Call, first_tensor, plain, trace

__all__ = ["find_entry"]

MOST_SOURCES = 5  # maps tried, the last first; a proof takes a few passes of two images
ACTIVATIONS: tuple[Callable[[Tensor], Tensor] | None, ...] = (None, F.relu, F.silu, F.gelu, F.hardswish, F.relu6)
PLAIN = "choose a method that reads plain logits"
NEXT = (
    "Pass `pool=`, the path of the module that averages the last map, or `head=`, of the one that takes the average; or "
    + PLAIN
)


def find_entry(model: nn.Module, images: Tensor, pool: str | None = None, head: str | None = None) -> ReplayEntry:
    """Return where cells enter ``model``, proved on two images.

    Args:
        model: any classifier.
        images: two or more, ``(N, 3, H, W)``.
        pool: path of the module that takes the map; found by itself if ``None``.
        head: path of the module that takes the average; if ``None``, where the map is, or else found by itself.

    Raises:
        TypeError: ``model`` cannot be called with images alone, or returns no tensor.
        ValueError: nothing proved itself; the message says what was tried, why not, and what to pass.
    """
    calls, output = trace(plain(model), images)
    name = type(plain(model)).__name__
    logits = check_logits(output, "model")
    if not logits.isfinite().all():
        raise ValueError(f"region logits need finite logits, got NaN or infinity from {name}: check its weights.")
    refused: list[str] = []
    for source, target in _candidates(calls, images, pool, head, name):
        try:
            replay = Replay(model, [call.path for call in (source.call, target) if call is not None], images, "module")
        except ValueError as error:
            refused.append(f"{source}: {error}")
            continue
        found, reason = _first_proved(replay, source, target, calls, images)
        if found is not None:
            return found
        replay.close()
        refused.append(f"{source}: {reason}")
    tried = f" Tried {shorten(refused[0], 240).rstrip('.')}." if refused else ""
    if pool is not None or head is not None:
        given = " and ".join(f"`{path}`" for path in (pool, head) if path is not None)
        raise ValueError(
            f"region logits need the place where the last map is averaged; in {name}, {given} is none. {NEXT}.{tried}"
        )
    cause = _cause(model, calls, images, name)
    if cause:
        raise ValueError(f"region logits need a model that averages a last map of several cells: {cause}.")
    raise ValueError(f"region logits need a model that averages its last map: no part of {name} was found to. {NEXT}.{tried}")


def _candidates(
    calls: list[Call], images: Tensor, pool: str | None, head: str | None, name: str
) -> Iterator[tuple[MapSource, Call | None]]:
    """Yield maps and the calls that cells of them enter; ``None`` where the map itself is the place."""
    heads = None if head is None else _calls_of(head, "head", calls, name)
    if pool is not None:
        source = map_source(_calls_of(pool, "pool", calls, name)[0], True)
        if source is None or not is_map(source.value, images):
            got = "no tensor" if source is None else f"shape {tuple(source.value.shape)}"
            raise ValueError(
                f"`pool` must be a module that takes a map or tokens of more than one cell, but `{pool}` of {name} takes"
                f" {got}: choose the module that averages the last map (or give larger images, if that map is one cell)."
            )
        sources = [source]
    else:
        if heads is not None:
            own = map_source(heads[0], True)
            if own is not None and is_map(own.value, images):
                yield own, None
                return
        sources = map_sources(calls, images, heads)
    tried = 0
    for source in sources:
        targets: list[Call | None] = [] if heads is not None else [None]
        targets += [call for call in heads or calls_behind(source, calls) if _matches(source, call, calls, images)][:1]
        for target in targets:
            yield source, target
        tried += bool(targets)
        if tried == MOST_SOURCES:
            return
    if heads is not None and not tried:
        value = first_tensor(heads[0].inputs)
        got = "no tensor" if value is None else f"its input {tuple(value.shape)}"
        raise ValueError(
            f"`head` must be a module that takes the average of a map, but {got} of `{head}` of {name} is the average of none"
            " of the maps before it: choose the first module behind the pooling, or a method that reads plain logits."
        )


def _calls_of(path: str, what: str, calls: list[Call], name: str) -> list[Call]:
    found = [call for call in calls if call.path == path]
    if len(found) != 1:
        raise ValueError(
            f"`{what}` must run once in a forward pass, but `{path}` of {name} runs {len(found)} times: choose another module."
        )
    return found


def _target(taken: Tensor) -> CellLayout | None:
    """Return how a module takes one cell, from what it took; ``None`` where that was more."""
    if taken.ndim == 2:
        return CellLayout("ND")
    if taken.ndim == 3 and taken.shape[2] == 1:
        return CellLayout("NDL")
    if taken.ndim == 4 and taken.shape[2:] == (1, 1):
        return CellLayout("NDHW")
    if taken.ndim == 4 and taken.shape[1:3] == (1, 1):
        return CellLayout("NHWD")
    return None


def _matches(source: MapSource, call: Call, calls: list[Call], images: Tensor) -> tuple[CellLayout, CellLayout, Any] | None:
    """Return how ``call`` takes the average of the map: the map's layout, that of a cell, what is done before averaging."""
    taken = map_source(call, True)
    target = None if taken is None else _target(taken.value)
    if taken is None or target is None or taken.value.shape[0] != len(images):
        return None
    width = taken.value.numel() // len(images)
    for layout in guess_layouts(source.value, images, grids_before(source, calls)):
        features = layout.to_map(source.value)
        if features.shape[1] != width:
            continue
        for between in ACTIVATIONS:
            cell = features if between is None else between(features)
            if agree(target.of_cells(cell.mean((2, 3))), taken.value):
                return layout, target, between
        if layout.prefix and target.kind == "ND" and agree(source.value[:, 0], taken.value):
            return layout, target, None
    return None


def _first_proved(
    replay: Replay, source: MapSource, target: Call | None, calls: list[Call], images: Tensor
) -> tuple[ReplayEntry | None, str]:
    """Return the first entry of a candidate that proves itself; or none, and why the likeliest did not."""
    if target is not None:
        match = _matches(source, target, calls, images)
        assert match is not None  # it is a candidate for that
        entries = [ReplayEntry(replay, source.into, *match)]
    else:
        entries = [
            ReplayEntry(replay, source.into, layout, layout)
            for layout in guess_layouts(source.value, images, grids_before(source, calls))
        ]
    if not entries:
        return None, f"its tokens form no grid of the shape of the images {tuple(images.shape[2:])}"
    first = ""
    try:
        replay.check(images)
        for entry in entries:
            try:
                reason = _differs(entry, target or source.call, calls, images)
            except Exception as error:  # the user's code on other shapes: any error only means that cells cannot enter here
                reason = _line(error)
            if not reason:
                return entry, ""
            first = first or reason
    except Exception as error:  # likewise
        first = _line(error)
    return None, first


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _differs(entry: ReplayEntry, place: Call, calls: list[Call], images: Tensor) -> str:
    """Say what changes when the mean of the map enters; nothing if the logits, and what the last module takes, do not."""
    last = calls[-1]
    with eval_mode(entry.replay.model), _inputs_of(last.module) as taken:
        logits, features, layout = entry.run(images)
        own = features[:, : layout.prefix] if layout.prefix else None
        cells = pool_cells(layout.to_map(features), (1,))[:, 0]
        # Twice over: there will be more cells than images.
        again = entry.enter(torch.cat([cells] * 2), layout, images, None if own is None else torch.cat([own] * 2))
    if not agree(again, torch.cat([logits] * 2)):
        return f"the logits change by {gap(again, torch.cat([logits] * 2))} when it is replaced by its mean"
    # Logits of a head of zeros, as some are initialised, prove nothing; what the last module takes does.
    before, after = taken[(len(taken) - 1) // 2], taken[-1][: len(images)]
    if last.number > place.number and before.shape == after.shape and not agree(after, before):
        return f"what `{last.path}` takes changes by {gap(after, before)} when it is replaced by its mean"
    return ""


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Note what a module takes in each of its calls inside the block."""
    taken: list[Tensor] = []

    def hook(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        value = first_tensor(arguments)
        if value is not None:
            taken.append(value)

    handle = module.register_forward_pre_hook(hook)
    try:
        yield taken
    finally:
        handle.remove()


def _cause(model: nn.Module, calls: list[Call], images: Tensor, name: str) -> str:
    """Say what is the matter and what to do, where that shows."""
    sources = map_sources(calls, images, None)
    if not sources:
        where = f"on images of {_size(images)}, no module of {name} puts out a map or tokens of more than one cell"
        return f"{where}. To go on, {PLAIN}"
    if _single_cell(calls, images):
        where = f"on images of {_size(images)}, that of {name} is a single cell, without regions"
        return f"{where}. Give larger images{_larger(model, images)}, take a network made for small ones, or {PLAIN}"
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


def _size(images: Tensor) -> str:
    return " x ".join(map(str, images.shape[2:]))


def _larger(model: nn.Module, images: Tensor) -> str:
    """Return words for the first of some larger sizes whose last map is no single cell; none where the model takes no such."""
    for factor in (2, 4, 8):
        more = images.repeat(1, 1, factor, factor)
        try:
            calls, _ = trace(plain(model), more)
        except Exception:  # the user's code on another size: then none is proposed
            return ""
        if not _single_cell(calls, more):
            return f" ({_size(more)})"
    return ""
