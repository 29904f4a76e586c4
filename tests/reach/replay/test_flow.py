"""What flows through a model: the work done when, and where all that follows depends on one tensor alone."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from logitkd.reach.replay.flow import follow

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Shortcut(nn.Module):
    """A stem, a block with a shortcut, a gate, a head; everything that follows the images in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.join, self.pool, self.late = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 8, 1)
        self.register_buffer("table", torch.ones(4, 8, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        y = self.outer(self.inner(x))
        x += y  # in place: what `stem` put out is no more
        x = self.join(x) + self.table + torch.zeros_like(images[:, :1])  # depends on the shape only
        return self.head(self.late(self.pool(x)).flatten(1))


def test_shares_and_what_the_rest_depends_on_by_hand() -> None:
    flow = follow(Shortcut(), IMAGES)
    total = 64 * (12 + 16 + 16) + 32 + 40
    assert [call.path for call in flow.calls] == ["stem", "inner", "outer", "join", "pool", "late", "head"]
    ended = [64 * 12, 64 * 28, 64 * 44, 64 * 44, 64 * 44, 64 * 44 + 32, total]
    assert [flow.share(call.path) for call in flow.calls] == pytest.approx([work / total for work in ended])
    assert [passage.begun for passage in flow.passages] == pytest.approx(
        [work / total for work in [0, *ended[:3], *ended[3:-1]]]
    )
    assert [passage.alone for passage in flow.passages] == [True, False, False, True, True, True, True]
    assert [passage.in_head for passage in flow.passages] == [False, False, False, False, True, True, True]


def test_several_tensors_that_are_read_are_counted() -> None:
    class Levels(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"fine": x * 2, "coarse": x[:, :, ::2, ::2] + 1, "unread": x + 3}

    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.levels, self.head = Levels(), nn.Linear(3, 5)

        def forward(self, images: Tensor) -> Tensor:
            levels = self.levels(images)
            return self.head(levels["fine"].mean((2, 3)) + levels["coarse"].mean((2, 3)))

    flow = follow(Pyramid(), IMAGES)
    assert (flow.passages[0].read, flow.passages[0].alone) == (2, False)


def test_halves_of_a_map_that_take_two_ways_are_one_block_only_where_they_join() -> None:
    model = torchvision.models.shufflenet_v2_x0_5(num_classes=5)
    flow = follow(model, torch.randn(2, 3, 32, 32))
    alone = [call.path for call, passage in zip(flow.calls, flow.passages, strict=True) if passage.alone]
    assert "stage2.1" in alone
    assert not any("branch" in path for path in alone)


def test_a_squeeze_and_excite_pool_is_no_head() -> None:
    flow = follow(timm.create_model("mobilenetv3_small_100", num_classes=5), torch.randn(2, 3, 32, 32))
    assert not flow.of(flow.once()["blocks.5"]).in_head
    assert flow.of(flow.once()["conv_head"]).in_head
