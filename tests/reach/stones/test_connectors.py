"""Connectors: every layout reaches every other that it can."""

from __future__ import annotations

import itertools

import pytest
import timm
import torch
from torch import Tensor, nn

from logitkd.reach.replay.trace import trace
from logitkd.reach.stones.connectors import BlockLayout, Connector, read_layout

LAYOUTS = {
    "map": BlockLayout("map", 6, (8, 8), length=64),
    "small map": BlockLayout("map", 4, (3, 5), length=15),
    "NHWC map": BlockLayout("map", 5, (4, 4), channels_last=True, length=16),
    "class token": BlockLayout("tokens", 7, (4, 4), prefix=1, length=16),
    "distilled tokens": BlockLayout("tokens", 6, (2, 3), prefix=2, length=6),
    "tokens": BlockLayout("tokens", 3, (4, 4), length=16),
    "vector": BlockLayout("vector", 9),
    "sequence": BlockLayout("tokens", 4, None, length=11),
    "short sequence": BlockLayout("tokens", 5, None, length=6),
}


def example(layout: BlockLayout) -> Tensor:
    if layout.kind == "vector":
        shape: tuple[int, ...] = (layout.channels,)
    elif layout.kind == "tokens":
        shape = (layout.prefix + layout.length, layout.channels)
    else:
        assert layout.grid is not None
        shape = (*layout.grid, layout.channels) if layout.channels_last else (layout.channels, *layout.grid)
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def possible(student: BlockLayout, teacher: BlockLayout) -> bool:
    sequence = [layout.kind == "tokens" and layout.grid is None for layout in (student, teacher)]
    return not (any(sequence) and "map" in (student.kind, teacher.kind))


@pytest.mark.parametrize(("student", "teacher"), list(itertools.product(LAYOUTS, LAYOUTS)))
def test_every_layout_reaches_every_other(student: str, teacher: str) -> None:
    one, other = LAYOUTS[student], LAYOUTS[teacher]
    if not possible(one, other):
        with pytest.raises(ValueError, match="has no grid, so that a map cannot stand for it"):
            Connector(one, other)
        return
    connector, features = Connector(one, other), example(one).requires_grad_()
    output = connector(features)
    assert output.shape == example(other).shape
    output.square().sum().backward()
    assert all(parameter.grad is not None for parameter in connector.parameters())
    (gradient,) = [features.grad]
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_a_map_is_convolved_averaged_and_normalised() -> None:
    student, teacher = BlockLayout("map", 6, (8, 8), length=64), BlockLayout("map", 4, (4, 4), length=16)
    connector, features = Connector(student, teacher), torch.randn(3, 6, 8, 8)
    weight = connector.project.weight[:, :, 0, 0]
    expected = torch.einsum("cd,ndhw->nchw", weight, features.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean((3, 5)))
    expected = (expected - expected.mean((0, 2, 3), keepdim=True)) / (
        expected.var((0, 2, 3), unbiased=False, keepdim=True) + connector.norm.eps
    ).sqrt()
    torch.testing.assert_close(connector(features), expected, rtol=1e-4, atol=1e-5)


def test_tokens_alike_pass_one_linear_layer() -> None:
    student, teacher = (
        BlockLayout("tokens", 3, (2, 2), prefix=1, length=4),
        BlockLayout("tokens", 5, (2, 2), prefix=1, length=4),
    )
    connector, features = Connector(student, teacher), torch.randn(2, 5, 3)
    torch.testing.assert_close(
        connector(features), nn.functional.linear(features, connector.project.weight, connector.project.bias)
    )
    assert connector.prefix is None


def test_a_class_token_comes_from_the_students_own_or_from_its_mean() -> None:
    teacher = BlockLayout("tokens", 5, (4, 4), prefix=1, length=16)
    own, none = (Connector(BlockLayout("tokens", 3, (2, 2), prefix=p, length=4), teacher) for p in (1, 0))
    features = torch.randn(2, 5, 3)
    assert own.prefix is not None
    assert none.prefix is not None
    torch.testing.assert_close(own(features)[:, 0], own.prefix(features[:, 0]))
    torch.testing.assert_close(none(features[:, 1:])[:, 0], none.prefix(features[:, 1:].mean(1)))


class Says(nn.Module):
    """A model with timm's attributes."""

    def __init__(self, **said: object) -> None:
        super().__init__()
        for name, value in said.items():
            setattr(self, name, value)


SQUARE, WIDE = torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 32, 64)


@pytest.mark.parametrize(
    ("model", "shape", "images", "expected"),
    [
        (Says(), (16, 8, 8), SQUARE, BlockLayout("map", 16, (8, 8), length=64)),
        (Says(), (8, 8, 16), SQUARE, BlockLayout("map", 16, (8, 8), channels_last=True, length=64)),
        (Says(), (4, 8, 24), WIDE, BlockLayout("map", 24, (4, 8), channels_last=True, length=32)),
        (Says(), (24, 4, 8), WIDE, BlockLayout("map", 24, (4, 8), length=32)),
        (Says(output_fmt="NHWC"), (8, 8, 8), SQUARE, BlockLayout("map", 8, (8, 8), channels_last=True, length=64)),
        (Says(), (8, 8, 8), SQUARE, BlockLayout("map", 8, (8, 8), length=64)),
        (Says(num_prefix_tokens=2), (18, 12), SQUARE, BlockLayout("tokens", 12, (4, 4), prefix=2, length=16)),
        (Says(num_prefix_tokens=1), (16, 12), SQUARE, BlockLayout("tokens", 12, (4, 4), length=16)),  # not yet added
        (Says(num_prefix_tokens=1), (32, 12), WIDE, BlockLayout("tokens", 12, (4, 8), length=32)),
        (Says(num_prefix_tokens=1), (1, 12), SQUARE, BlockLayout("tokens", 12, (1, 1), length=1)),
        (nn.Sequential(Says(num_prefix_tokens=2)), (18, 12), SQUARE, BlockLayout("tokens", 12, (4, 4), prefix=2, length=16)),
        (Says(), (17, 12), SQUARE, BlockLayout("tokens", 12, (4, 4), prefix=1, length=16)),
        (Says(), (16, 12), SQUARE, BlockLayout("tokens", 12, (4, 4), length=16)),
        (Says(), (32, 12), WIDE, BlockLayout("tokens", 12, (4, 8), length=32)),
        (Says(), (10,), SQUARE, BlockLayout("vector", 10)),
        (Says(), (12, 5), torch.zeros(2, 12), BlockLayout("tokens", 5, None, length=12)),
    ],
)
def test_layouts_are_read_from_shapes(model: nn.Module, shape: tuple[int, ...], images: Tensor, expected: BlockLayout) -> None:
    assert read_layout(model, shape, images, "0.block") == expected


@pytest.mark.parametrize("name", ["xcit_nano_12_p16_224", "cait_xxs24_224"])
def test_blocks_before_the_class_token_have_none(name: str) -> None:
    model, images = timm.create_model(name, num_classes=5, img_size=64, depth=2), torch.randn(2, 3, 64, 64)
    calls = {call.path: call for call in trace(model, images)[0]}
    shape = tuple(calls["blocks.1"].output.shape[1:])
    assert read_layout(model, shape, images, "blocks.1") == BlockLayout("tokens", shape[1], (4, 4), length=16)


def test_a_video_is_no_layout() -> None:
    with pytest.raises(ValueError, match=r"block `stage` must put out a map.*got \(N, 4, 2, 8, 8\): cut elsewhere"):
        read_layout(Says(), (4, 2, 8, 8), SQUARE, "stage")
