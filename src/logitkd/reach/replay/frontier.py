"""What a pass through a model can skip: its cuts, refused unless they run once and in order, and what runs beside them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from logitkd.reach.inputs import Inputs
from logitkd.reach.replay.trace import Call, find_module, first_tensor, plain, trace

__all__ = ["CutError", "Frontier", "find_frontier"]


class CutError(ValueError):
    """A module is no place to cut; ``path`` is its path."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, eq=False)
class Frontier:
    """The calls of a forward pass that make it up and lie outside each other, each cut being one of them.

    Args:
        modules: what is called, in order; a module that runs several times is there as often.
        positions: of each cut among them.
        shapes: of each cut's output (its first tensor), without N.
        around: the modules that contain a cut, the model among them: their own code runs in every pass.
    """

    modules: tuple[nn.Module, ...]
    positions: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    around: tuple[nn.Module, ...]


def find_frontier(
    model: nn.Module, paths: Sequence[str], inputs: Inputs, what: str = "cut", runs: Sequence[int] | None = None
) -> Frontier:
    """Return the cuts of ``model`` and what runs beside them outside the modules that contain a cut.

    Args:
        model: any module that is called with one batch: one tensor, ``model(images)``, or several by name.
        paths: the cuts, in the order in which they run.
        inputs: an example batch.
        what: what a path is called in messages.
        runs: which call of each cut is meant, from 0, of a module that runs several times; ``None``: each must run once.

    Raises:
        ValueError: no such path, a module that runs never or more than once (tied or shared blocks), cuts in the wrong
            order or one inside another, or one that puts out no features. The message names the path.
        TypeError: ``model`` cannot be called with the inputs alone.
    """
    modules = [find_module(model, path, what) for path in paths]
    calls, _ = trace(plain(model), inputs)
    name = type(plain(model)).__name__
    said = [f"{what} `{path}` of {name}" for path in paths]
    if runs is None:
        cuts = [_only_call(cut, module, calls) for cut, module in zip(said, modules, strict=True)]
    else:
        cuts = [[call for call in calls if call.module is module][run] for module, run in zip(modules, runs, strict=True)]
    _check_order(cuts, paths, name, what)
    around = {id(call) for cut in cuts for call in cut.within()}
    frontier = [call for call in calls if id(call) not in around and (call.parent is None or id(call.parent) in around)]
    return Frontier(
        modules=tuple(call.module for call in frontier),
        positions=tuple(frontier.index(cut) for cut in cuts),
        shapes=tuple(_features_shape(cut, call.output) for cut, call in zip(said, cuts, strict=True)),
        around=tuple(dict.fromkeys([plain(model), *(call.module for cut in cuts for call in cut.within())])),
    )


def _only_call(cut: str, module: nn.Module, calls: list[Call]) -> Call:
    own = [call for call in calls if call.module is module]
    if not own:
        held = isinstance(module, (nn.ModuleList, nn.ModuleDict))
        why = "a list of modules is never called itself: choose one of those in it" if held else "choose one that runs"
        raise ValueError(f"{cut} must run once in a forward pass, but does not run: {why}.")
    if len(own) > 1:
        raise ValueError(
            f"{cut} must run once in a forward pass, but runs {len(own)} times (a tied or shared block): choose one that runs"
            " once, such as the module around it."
        )
    return own[0]


def _check_order(cuts: list[Call], paths: Sequence[str], name: str, what: str) -> None:
    for (path, cut), (after, later) in itertools.pairwise(zip(paths, cuts, strict=True)):
        if cut is later:
            raise ValueError(f"{what}s of {name} must differ, got `{path}` and `{after}`, which are one module.")
        inner, outer = (path, after) if later in cut.within() else (after, path)
        if later in cut.within() or cut in later.within():
            raise ValueError(f"{what} `{inner}` of {name} must not lie inside `{outer}`: choose one of the two.")
        if cut.number > later.number:
            raise ValueError(
                f"{what}s of {name} must be in the order in which they run, but `{after}` runs before `{path}`: change their"
                " order."
            )


def _features_shape(cut: str, output: Any) -> tuple[int, ...]:
    tensor = first_tensor(output)
    if tensor is None or tensor.ndim < 2:
        got = type(output).__name__ if tensor is None else f"shape {tuple(tensor.shape)}"
        raise ValueError(f"{cut} must put out features (N, ...), got {got}.")
    return tuple(tensor.shape[1:])
