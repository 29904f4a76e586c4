"""Finding where the cells of a model enter it: candidates from one traced pass, each to prove itself.

A candidate is timm's interface, or a map (what a module takes or puts out) and a place behind it. It is taken if the model's
own code, run from there on the map's mean, gives the logits of the map, and the last module the same input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from textwrap import shorten
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from logitkd.reach.inputs import eval_mode
from logitkd.reach.layout import CellLayout, guess_layouts
from logitkd.reach.regions.causes import PLAIN, SEVERAL, known_cause, one_cell, size_of
from logitkd.reach.regions.entry import Entry, ReplayEntry, TimmEntry, lacks_timm
from logitkd.reach.regions.proof import close_to, objection
from logitkd.reach.regions.sources import MapSource, calls_behind, grids_before, is_map, map_sizes, map_source, map_sources
from logitkd.reach.replay.replay import Replay
from logitkd.reach.replay.trace import Call, first_tensor, plain, trace
from logitkd.reach.signals import agree, checked_logits, gap

__all__ = ["find_entry"]

MOST_SOURCES = 5  # maps tried, the last first; a proof takes a few passes of two images
ACTIVATIONS: tuple[Callable[[Tensor], Tensor] | None, ...] = (None, F.relu, F.silu, F.gelu, F.hardswish, F.relu6)
NEXT = (
    "Pass `pool=`, the path of the module that averages the last map, or `head=`, of the one that takes the average; or "
    + PLAIN
)


def find_entry(model: nn.Module, images: Tensor, pool: str | None = None, head: str | None = None) -> Entry:
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
    logits = checked_logits(output, "model")
    if not logits.isfinite().all():
        raise ValueError(f"region logits need finite logits, got NaN or infinity from {name}: check its weights.")
    if pool is None and head is None:
        return _find(model, calls, logits, images, name)
    try:
        refused: list[str] = []
        found = _search(model, calls, images, _candidates(calls, images, pool, head, name), refused)
        if found is not None:
            return found
        given = " and ".join(f"`{path}`" for path in (pool, head) if path is not None)
        raise ValueError(
            f"region logits need the place where the last map is averaged; in {name}, {given} is none. {NEXT}.{_tried(refused)}"
        )
    except ValueError as error:
        raise ValueError(f"{error}{_proposal(model, calls, logits, images, name)}") from error


def _proposal(model: nn.Module, calls: list[Call], logits: Tensor, images: Tensor, name: str) -> str:
    """Return words for what passes where what was given does not."""
    try:
        found = _find(model, calls, logits, images, name)
    except ValueError:
        return f" No module of {name} was found to pass."
    found.close()
    if not isinstance(found, ReplayEntry):
        return " What passes: neither of the two, as timm's interface says where."
    first, last = found.replay.paths[0], found.replay.paths[-1]
    says = [f"`pool='{first}'`"] * found.from_input + [f"`head='{last}'`"] * found.behind
    return f" What passes: {' with '.join(says) or 'neither of the two'}."


def _find(model: nn.Module, calls: list[Call], logits: Tensor, images: Tensor, name: str) -> Entry:
    """Return where cells enter ``model``, of which nothing is said."""
    refused: list[str] = []
    if not lacks_timm(model):
        entry, reason = _by_timm(model, calls, logits, images, name)
        if entry is not None:
            return entry
        refused.append(reason)
    found = _search(model, calls, images, _candidates(calls, images, None, None, name), refused)
    if found is not None:
        return found
    cause = known_cause(model, calls, images, name)
    if cause:
        raise ValueError(f"{SEVERAL}: {cause}.")
    raise ValueError(
        f"region logits need a model that averages its last map: no part of {name} was found to. {_build(model)}{NEXT}."
        f"{_tried(refused)}"
    )


def _tried(refused: list[str]) -> str:
    """Return words for the places that were tried: why the likeliest is none, and the names of the others."""
    if not refused:
        return ""
    others = ", ".join(dict.fromkeys(f"`{text.split('`')[1]}`" for text in refused[1:]))
    return f" Tried {shorten(refused[0], 240).rstrip('.')}{others and f'; {others} do not pass either'}."


def _build(model: Any) -> str:
    """Return words for building a timm model with another pooling, where its own is known to be no average."""
    own = getattr(model, "global_pool", None) or getattr(getattr(model, "head", None), "global_pool", None)
    kind = getattr(own, "pool_type", own)
    averages = not isinstance(kind, str) or kind.removeprefix("fast") in ("", "avg", "token")
    return "" if averages else f"Build it with `global_pool='avg'` (timm), it has '{kind}'. "


def _by_timm(model: Any, calls: list[Call], logits: Tensor, images: Tensor, name: str) -> tuple[TimmEntry | None, str]:
    """Return the entry by timm's interface; or none, and what is the matter with it.

    Raises:
        ValueError: its last map is a single cell.
    """
    with torch.no_grad(), eval_mode(model):
        features = model.forward_features(images)
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            got = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
            return None, f"`forward_features`: it must return a map (N, D, H, W) or tokens (N, L, D), got {got}"
        headed = model.forward_head(features)
    if not isinstance(headed, Tensor) or not close_to(headed, logits):
        found = gap(headed, logits) if isinstance(headed, Tensor) else f"their type, {type(headed).__name__}"
        return None, f"`forward_head`: on `forward_features` it differs from the logits by {found}, `forward` does more"
    if _timm_cells(model, features) == 1:
        cause = one_cell(name, images, lambda more: _timm_cells(model, model.forward_features(more)) == 1)
        raise ValueError(f"{SEVERAL}: {cause}.")
    grids = map_sizes(calls)
    if features.ndim == 4:
        layouts = [CellLayout("NHWD" if _is_nhwc(model) else "NDHW")]
    else:
        guesses = guess_layouts(features, images, grids, getattr(model, "num_prefix_tokens", None))
        layouts = [guess for guess in guesses if guess.kind == "NPLD"]
        if not layouts:
            return None, f"`forward_features`: it returns {features.shape[1]} tokens an image, of which no grid is known"
    entry, reason = _prove([TimmEntry(model, layout, images.shape[2:]) for layout in layouts], grids, images, calls, 0)
    return entry, f"the output {tuple(features.shape)} of `forward_features`: {reason}"


def _is_nhwc(model: Any) -> bool:
    return str(getattr(model, "output_fmt", "NCHW")).rpartition(".")[2] == "NHWC"


def _timm_cells(model: Any, features: Tensor) -> int:
    """Return how many cells an image has in timm's features; 0 where the model does not say how many tokens are prefix."""
    if features.ndim == 4:
        return features[0].numel() // features.shape[3 if _is_nhwc(model) else 1]
    prefix = getattr(model, "num_prefix_tokens", None)
    return 0 if prefix is None else features.shape[1] - prefix


def _candidates(
    calls: list[Call], images: Tensor, pool: str | None, head: str | None, name: str
) -> Iterator[tuple[MapSource, Call | None]]:
    """Yield maps and the calls that cells of them enter; ``None`` where the map itself is the place."""
    heads = None if head is None else [call for call in calls if call.path == head]
    if heads is not None and len(heads) != 1:
        raise ValueError(
            f"`head` must run once in a forward pass, but `{head}` of {name} runs {len(heads)} times: choose another module."
        )
    if pool is not None:
        taken = [map_source(call, True) for call in reversed(calls) if call.path == pool]  # a gate may share it
        sources = [source for source in taken if source is not None and is_map(source.value, images)]
        if not sources:
            last = next(iter(taken), None)
            got = "no tensor" if last is None else f"shape {tuple(last.value.shape)}"
            raise ValueError(
                f"`pool` must be a module that takes a map or tokens of more than one cell, but `{pool}` of {name} takes"
                f" {got}: choose the module that averages the last map (or give larger images, if that map is one cell)."
            )
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
        targets += [call for call in heads or calls_behind(source, calls) if any(_matches(source, call, calls, images))][:1]
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


def _matches(source: MapSource, call: Call, calls: list[Call], images: Tensor) -> Iterator[tuple[CellLayout, CellLayout]]:
    """Yield how ``call`` takes the average of the map, or its prefix tokens: the map's layout and that of a cell."""
    taken = map_source(call, True)
    if taken is None or taken.value.shape[0] != len(images):
        return
    target = _target(taken.value)
    for layout in guess_layouts(source.value, images, grids_before(source, calls)):
        for between in ACTIVATIONS if target is not None else ():
            read = replace(layout, between=between)
            cells = read.to_map(source.value).mean((2, 3))
            if target and cells.numel() == taken.value.numel() and agree(target.of_cells(cells), taken.value):
                yield read, target
        own = 1 if taken.value.ndim == 2 else taken.value.shape[1]
        first = source.value[:, :own]
        if own <= layout.prefix and first.numel() == taken.value.numel() and agree(first.flatten(1), taken.value.flatten(1)):
            yield layout, CellLayout("ND" if taken.value.ndim == 2 else "NPD", own)


def _search(
    model: nn.Module,
    calls: list[Call],
    images: Tensor,
    candidates: Iterator[tuple[MapSource, Call | None]],
    refused: list[str],
) -> ReplayEntry | None:
    """Return the first candidate that proves itself; add to ``refused`` the others, and why."""
    for source, target in candidates:
        grids = grids_before(source, calls)
        cuts = [source.call] if target is None else [source.call, target]
        runs = [[other for other in calls if other.module is cut.module].index(cut) for cut in cuts]
        try:
            replay = Replay(model, [cut.path for cut in cuts], images, "module", runs)
        except ValueError as error:
            refused.append(f"{source}: {error}")
            continue
        if target is not None:
            layouts = list(_matches(source, target, calls, images))
        else:
            layouts = [(layout, layout) for layout in guess_layouts(source.value, images, grids)]
        found, reason = None, f"its tokens form no grid that is known of images of {size_of(images)}"
        if layouts:
            try:
                replay.check(images)
            except Exception as error:  # the user's code on other values: any error only means that cells cannot enter here
                reason = _line(error)
            else:
                found, reason = _prove(
                    [ReplayEntry(replay, source.into, *both) for both in layouts], grids, images, calls, cuts[-1].number
                )
        if found is not None:
            return found
        replay.close()
        refused.append(f"{source}: {reason}")
    return None


EntryT = TypeVar("EntryT", TimmEntry, ReplayEntry)


def _prove(
    entries: list[EntryT], grids: list[tuple[int, int]], images: Tensor, calls: list[Call], place: int
) -> tuple[EntryT | None, str]:
    """Return the entry that proves itself; or none, and why the likeliest did not. ``place`` is the call that cells enter."""
    behind = [call for call in calls if call.number > place and next(call.module.parameters(recurse=False), None) is not None]
    passed: list[EntryT] = []
    first = ""
    for entry in entries:
        try:
            reason = objection(entry, images, behind[-1] if behind else None)
        except Exception as error:  # the user's code on other shapes: any error only means that cells cannot enter here
            reason = _line(error)
        if not reason and entry.layout.kind != "NPLD":
            return entry, ""
        if not reason:
            passed.append(entry)
        first = first or reason
    # A head that reads the class token alone proves any grid: there one must be known, or divide the images evenly.
    known = [entry for entry in passed if entry.layout.grid in grids]
    sure = known or [entry for entry in passed if _divides(entry.layout.grid, images)] or passed
    if len(sure) > 1:
        tokens = [f"{each.prefix} and {' x '.join(map(str, each.grid))}" for each in (entry.layout for entry in sure)]
        return None, f"its prefix and patch tokens may be {', or '.join(tokens)}"
    return (sure[0], "") if sure else (None, first)


def _divides(grid: tuple[int, int], images: Tensor) -> bool:
    return images.shape[-2] % grid[0] == 0 and images.shape[-1] % grid[1] == 0


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
