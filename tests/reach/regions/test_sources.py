"""The maps of a traced pass: the last first, each once, none behind a given head."""

from __future__ import annotations

import torch
from torch import nn

from logitkd.reach.regions.sources import calls_behind, grids_before, map_sizes, map_sources
from logitkd.reach.replay.trace import trace

IMAGES = torch.zeros(2, 3, 8, 8)


def network() -> nn.Sequential:
    body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Identity())
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def test_maps_come_last_first_and_one_that_passes_through_counts_once() -> None:
    calls, _ = trace(network(), IMAGES)
    found = [(source.call.path, source.into) for source in map_sources(calls, IMAGES, None)]
    assert found == [("1", True), ("0", False), ("0.0", False)]


def test_maps_end_before_a_given_head() -> None:
    calls, _ = trace(network(), IMAGES)
    heads = [call for call in calls if call.path == "0.1"]
    assert [str(source) for source in map_sources(calls, IMAGES, heads)] == ["the output (2, 4, 8, 8) of `0.0`"]


def test_what_lies_behind_and_before_a_map() -> None:
    calls, _ = trace(network(), IMAGES)
    body = next(source for source in map_sources(calls, IMAGES, None) if source.call.path == "0")
    assert [call.path for call in calls_behind(body, calls)] == ["1", "2", "3"]
    pool = map_sources(calls, IMAGES, None)[0]
    assert grids_before(pool, calls) == [(1, 1), (4, 4), (8, 8)]


def test_weights_of_attention_are_no_maps() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.drop = nn.Conv2d(3, 4, 4, 4), nn.Dropout()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = self.patches(images).flatten(2)[:, :, None]
            return self.drop(tokens.softmax(-1)).sum((2, 3))  # (N, 4, 1, 4): one row of weights a head

    calls, _ = trace(Attention(), IMAGES)
    assert map_sizes(calls) == [(2, 2)]
