"""Connectors: from what a student's block puts out to what a teacher's block would have put out, whatever both look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from logitkd.reach.inputs import Inputs, sides
from logitkd.reach.layout import grid_of
from logitkd.reach.regions.pooling import average_to
from logitkd.reach.replay.trace import plain

__all__ = ["BlockLayout", "Connector", "read_layout"]


@dataclass(frozen=True)
class BlockLayout:
    """How a block's output is laid out.

    Args:
        kind: ``map`` ``(N, D, H, W)``, ``tokens`` ``(N, P + L, D)`` or ``vector`` ``(N, D)``.
        channels: D.
        grid: H and W of a map, or of the L tokens; ``None`` for a vector and for tokens of a sequence.
        prefix: class, distillation and register tokens P before the others.
        channels_last: a map is ``(N, H, W, D)``.
        length: L.
    """

    kind: Literal["map", "tokens", "vector"]
    channels: int
    grid: tuple[int, int] | None = None
    prefix: int = 0
    channels_last: bool = False
    length: int = 0


def read_layout(
    model: nn.Module, shape: tuple[int, ...], inputs: Inputs, path: str, grids: Sequence[tuple[int, int]] = ()
) -> BlockLayout:
    """Return the layout of a block's output from its shape, the model's attributes and the shape of the images.

    Args:
        model: timm's ``output_fmt``, ``num_prefix_tokens`` and ``patch_embed.grid_size`` are read where it, or a network inside
            it that contains the block, has them.
        shape: of one example's output, without N.
        inputs: what the model was given; where there are no images among it, tokens have no grid.
        path: the block, for messages.
        grids: heights and widths of maps that ran in the model, see ``grid_of``.

    Raises:
        ValueError: an output with more than three dimensions an example.
    """
    if len(shape) == 1:
        return BlockLayout("vector", shape[0])
    images = sides(inputs)
    if len(shape) == 2:
        length, channels = shape
        said = int(_said(model, path, "num_prefix_tokens") or 0)
        if images is not None:
            known = [*_embedded_grids(_said(model, path, "patch_embed"), images), *grids]
            # Some blocks lie before the class token is added (xcit, cait); transformers' models do not say that they have one.
            counts = {prefix: length - prefix for prefix in (said, 0, 1) if prefix < length}
            found = {prefix: (1, 1) if many == 1 else grid_of(many, images, known) for prefix, many in counts.items()}
            for prefix, grid in sorted(found.items(), key=lambda guess: guess[1] not in known):
                if grid is not None:
                    return BlockLayout("tokens", channels, grid, prefix, length=length - prefix)
        return BlockLayout("tokens", channels, None, said, length=length - said)
    if len(shape) == 3:
        said_format = str(_said(model, path, "output_fmt") or "").rpartition(".")[2]
        last = said_format == "NHWC" or (
            said_format != "NCHW" and images is not None and not _similar(shape[1:], images) and _similar(shape[:2], images)
        )
        channels, height, width = (shape[2], *shape[:2]) if last else shape
        return BlockLayout("map", channels, (height, width), channels_last=last, length=height * width)
    raise ValueError(
        f"block `{path}` must put out a map (N, D, H, W), tokens (N, L, D) or a vector (N, D), got (N, "
        f"{', '.join(map(str, shape))}): cut elsewhere."
    )


def _similar(grid: tuple[int, ...], sides: tuple[int, ...]) -> bool:
    """Whether a grid has the aspect of the images, but for rounding up."""
    return abs(grid[0] * sides[1] - grid[1] * sides[0]) <= max(sides)


def _said(model: nn.Module, path: str, name: str) -> Any:
    """Return an attribute of the model, or else of the outermost module around ``path`` that has it."""
    module: Any = plain(model)
    for part in [*path.split("."), ""]:
        value = getattr(module, name, None)
        if value is not None:
            return value
        module = getattr(module, part, None)
    return None


def _embedded_grids(embed: Any, images: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the grids that the patch embedding says it has."""
    said = [getattr(embed, "grid_size", None)]
    if hasattr(embed, "dynamic_feat_size"):
        said.insert(0, embed.dynamic_feat_size(images))
    return [(int(grid[0]), int(grid[1])) for grid in said if grid is not None]


class Connector(nn.Module):
    """A trainable bridge from a student's block to a teacher's.

    To a map: 1x1 convolution, resized where the grids differ, batch norm. To tokens: a linear layer for every token, the
    student's map or grid resized to the tokens' grid; tokens in front of the grid (the class token) get a linear layer of
    their own, from the student's own such tokens or, where it has none, from the mean over its grid. To a vector: a linear
    layer on the student's mean.

    Grids shrink by averaging and grow bilinearly.

    Args:
        student: layout of the student's block.
        teacher: layout of the teacher's block.

    Raises:
        ValueError: one is a sequence without a grid and the other a map.
    """

    def __init__(self, student: BlockLayout, teacher: BlockLayout) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher
        sequences = [layout for layout in (student, teacher) if layout.kind == "tokens" and layout.grid is None]
        self.alike = student.kind == teacher.kind == "tokens" and (student.prefix, student.length) == (
            teacher.prefix,
            teacher.length,
        )
        if sequences and not self.alike and "map" in (student.kind, teacher.kind):
            raise ValueError(
                f"a sequence of {sequences[0].length} tokens has no grid, so that a map cannot stand for it: cut both models"
                " where they put out maps, or both where they put out tokens."
            )
        self.prefix: nn.Module | None = None
        if teacher.kind == "map":
            self.project: nn.Module = nn.Conv2d(student.channels, teacher.channels, 1, bias=False)
            self.norm = nn.BatchNorm2d(teacher.channels)
        else:
            self.project = nn.Linear(student.channels, teacher.channels)
            if teacher.kind == "tokens" and teacher.prefix and not self.alike:
                self.prefix = nn.Linear(student.channels, teacher.prefix * teacher.channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return features in the teacher's layout, of features in the student's."""
        teacher = self.teacher
        if teacher.kind == "map":
            cells = self._map(features)
            assert teacher.grid is not None
            if cells.shape[-2] * cells.shape[-1] > teacher.grid[0] * teacher.grid[1]:  # the product is cheaper on the smaller
                cells = self.project(_resize(cells, teacher.grid))
            else:
                cells = _resize(self.project(cells), teacher.grid)
            cells = self.norm(cells)
            return cells.permute(0, 2, 3, 1) if teacher.channels_last else cells
        if teacher.kind == "vector":
            return self.project(self._tokens(features).mean(1))
        if self.alike:
            return self.project(features)
        tokens = self._tokens(features)
        if tokens.shape[1] != teacher.length:
            if teacher.grid is None or (self.student.grid is None and self.student.kind == "tokens"):
                tokens = F.interpolate(tokens.transpose(1, 2), teacher.length, mode="linear").transpose(1, 2)
            else:
                tokens = _resize(self._map(features), teacher.grid).flatten(2).transpose(1, 2)
        tokens = self.project(tokens)
        if self.prefix is None:
            return tokens
        own = features[:, : self.student.prefix] if self.student.prefix else self._tokens(features)
        return torch.cat([self.prefix(own.mean(1)).unflatten(1, (teacher.prefix, teacher.channels)), tokens], dim=1)

    def _map(self, features: Tensor) -> Tensor:
        """Return the student's features as a map ``(N, D, H, W)``."""
        student = self.student
        if student.kind == "vector":
            return features[:, :, None, None]
        if student.kind == "tokens":
            assert student.grid is not None
            return features[:, student.prefix :].transpose(1, 2).unflatten(2, student.grid)
        return features.permute(0, 3, 1, 2) if student.channels_last else features

    def _tokens(self, features: Tensor) -> Tensor:
        """Return the student's features as tokens ``(N, L, D)``, without those in front."""
        if self.student.kind == "tokens":
            return features[:, self.student.prefix :]
        return self._map(features).flatten(2).transpose(1, 2)


def _resize(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    height, width = cells.shape[-2:]
    if height >= grid[0] and width >= grid[1]:
        return average_to(cells, grid)
    return F.interpolate(cells, grid, mode="bilinear", align_corners=False)
