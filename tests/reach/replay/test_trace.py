"""The calls of a forward pass, in order; a forward that wants more than images, refused; a part by its path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from logitkd.reach.replay.trace import find_module, first_tensor, plain, trace

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_trace_lists_calls_in_order_with_their_parents() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), nn.Flatten())
    calls, output = trace(model, IMAGES)
    found: list[Any] = [(call.path, call.parent.path if call.parent else None) for call in calls]
    assert found == [("0", None), ("0.0", "0"), ("0.1", "0"), ("1", None)]
    assert torch.equal(calls[0].output, calls[2].output)
    assert output.shape == (2, 4 * 32 * 32)


def test_a_forward_with_other_arguments_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, images: Tensor, lengths: Tensor) -> Tensor:
            return images

    with pytest.raises(TypeError, match=r"Two must be callable with a batch of images alone.*lengths.*Wrap it"):
        trace(Two(), IMAGES)


def test_a_part_is_found_by_its_path_in_a_compiled_model_too() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)))
    compiled = torch.compile(model)
    assert plain(compiled) is plain(model) is model
    assert find_module(compiled, "0.0") is model[0][0]


@pytest.mark.parametrize("path", ["0.1", ""])
def test_a_path_that_leaves_the_model_is_refused_with_what_there_is(path: str) -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)))
    with pytest.raises(ValueError, match=rf"layer `{path}` is no module of Sequential\..*Modules there: `0") as caught:
        find_module(model, path, "layer")
    assert str(caught.value).endswith("`0.0`." if path else "`0`.")


def test_the_first_tensor_of_any_nest_is_found() -> None:
    assert first_tensor((None, {"logits": [IMAGES]}, torch.zeros(1))) is IMAGES
    assert first_tensor(("none", 1)) is None
