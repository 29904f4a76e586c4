"""The proof that a model reads nothing of its last map but the average, so that the logits of a cell's mean are the cell's.

Random weights and batch norms that have seen nothing give maps that hardly differ from their mean: there places pass that are
wrong once the model is trained. So the proof scales the map's numbers at random, and measures an error by how far the logits
of the map's quarters are apart.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from logitkd.reach.inputs import eval_mode
from logitkd.reach.layout import CellLayout
from logitkd.reach.regions.entry import Entry
from logitkd.reach.regions.pooling import pool_cells
from logitkd.reach.replay.trace import Call, first_tensor
from logitkd.reach.signals import gap

__all__ = ["close_to", "full_precision", "objection"]


@contextmanager
def full_precision(model: nn.Module, images: Tensor) -> Iterator[Tensor]:
    """Yield the images in float32 (float64 stays), with autocast off and weights in half precision widened for the block.

    Half precision hides what a wrong place changes.

    Raises:
        ValueError: the model casts its input to the half precision of its weights itself, so it cannot run in float32.
    """
    half = (torch.float16, torch.bfloat16)
    held = [(t, t.data) for t in itertools.chain(model.parameters(), model.buffers()) if t.dtype in half]
    try:
        for tensor, data in held:
            tensor.data = data.float()
        # Without its cache: older torch would keep a weight that it casts here, without gradient, for the step that follows.
        with torch.autocast(images.device.type, enabled=False, cache_enabled=False):
            yield images.float() if images.dtype in half else images
    except RuntimeError as error:
        if not held or not re.search(r"\bd?types?\b", str(error)):  # torch's words where a weight's dtype is not the input's
            raise
        raise ValueError(
            f"region logits are proved in float32, and {type(model).__name__} does not run there ({error}): it casts to half"
            " precision itself. Give it float32 weights and no casts; autocast does that."
        ) from error
    finally:
        for tensor, data in held:
            tensor.data = data


def close_to(value: Tensor, target: Tensor, spread: float = 0.0) -> bool:
    """Whether two tensors agree to a thousandth of ``spread``, but for rounding (that of TF32 on a GPU)."""
    if value.shape != target.shape:
        return False
    rounding = 1e-5 if target.device.type == "cpu" else 1e-3
    return bool((value - target).abs().max() <= 1e-3 * spread + rounding * target.abs().max())


def objection(entry: Entry, images: Tensor, last: Call | None) -> str:
    """Say what changes when the map is replaced by its mean, or a cell is taken alone; nothing if cells mean what they say.

    Args:
        entry: where cells enter.
        images: ``(N, 3, H, W)``.
        last: the model's last call with weights, if it is behind the place. Logits of a head of zeros, as some are
            initialised, prove nothing; what that module takes does.
    """
    with eval_mode(entry.model), _inputs_of(last) as taken:
        ran = entry.run(images)
        layout = ran.layout
        features = _scaled(ran.values, layout)
        grid = layout.to_map(features)
        taken.clear()
        with _Results() as among:
            whole = [entry.again(ran, features), *taken[-1:]]

        def enter(cells: Tensor, prefix_tokens: Tensor | None = None) -> list[Tensor]:
            taken.clear()
            return [entry.enter(ran, cells, prefix_tokens), *taken[-1:]]

        # Twice over: there will be more cells than images.
        own = features[:, : layout.prefix].repeat(2, 1, 1) if layout.prefix else None
        mean = enter(pool_cells(grid, (1,))[:, 0].repeat(2, 1), own)
        quarters = enter(pool_cells(grid, (2,)).flatten(0, 1))
        for number, (value, target, parts) in enumerate(zip(mean, whole, quarters, strict=False)):
            if number and value.shape != (2 * len(target), *target.shape[1:]):
                continue  # it takes the map itself, or something else than one row an image
            spread = (parts.unflatten(0, (-1, 4)) - target[:, None]).abs().max().item()
            if not close_to(value, target := torch.cat([target] * 2), spread):
                what = f"what `{last.path}` takes changes" if number and last else "the logits change"
                return f"{what} by {gap(value, target)} when it is replaced by its mean"
        if not entry.behind:
            with _Results() as alone:
                entry.enter(ran, grid.permute(0, 2, 3, 1).flatten(0, 2))
            if not _alike(among, alone, len(images)):
                return (
                    "a cell alone comes to other numbers than among the others: something reads the whole of it, as a gate does"
                )
    return ""


def _scaled(features: Tensor, layout: CellLayout) -> Tensor:
    """Return features whose cells' numbers are multiplied by random factors in [0, 2): signs and zeros stay."""
    features = features.clone()
    cells = replace(layout, between=None).to_map(features)
    factors = 2 * torch.rand(cells.shape, generator=torch.Generator().manual_seed(0))
    cells.mul_(factors.to(features))
    return features


def _alike(among: _Results, alone: _Results, count: int) -> bool:
    """Whether maps of ``count`` images, and the same cells alone, are the same numbers wherever the passes show both."""
    for (function, maps), (other, cells) in zip(reversed(among.noted), reversed(alone.noted), strict=False):
        if function is not other:  # from the end on the passes run the same code, unless that looks at shapes
            return True
        sides = [axis for axis in range(1, maps.ndim) if cells.ndim == maps.ndim and cells.shape[axis] != maps.shape[axis]]
        if not sides or maps.shape[0] != count or any(cells.shape[axis] != 1 for axis in sides):
            continue
        rows = maps.movedim(sides, list(range(1, len(sides) + 1))).flatten(0, len(sides))
        comparable = len(rows) == len(cells) and rows.is_floating_point()
        if comparable and not close_to(cells.flatten(1), rows.reshape(cells.flatten(1).shape), rows.std().item()):
            return False
    return True


class _Results(TorchFunctionMode):
    """Notes every tensor that a function of torch returns inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[Any, Tensor]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.noted.append((function, result))
        return result


@contextmanager
def _inputs_of(call: Call | None) -> Iterator[list[Tensor]]:
    """Note what the module of a call takes in each of its calls inside the block."""
    taken: list[Tensor] = []
    if call is None:
        yield taken
        return

    def hook(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        value = first_tensor(arguments)
        if value is not None:
            taken.append(value)

    handle = call.module.register_forward_pre_hook(hook)
    try:
        yield taken
    finally:
        handle.remove()
