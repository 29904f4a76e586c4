"""The proof's own parts: float32 for the block alone, and agreement by how far regions are apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from logitkd.reach import RegionModel
from logitkd.reach.regions.proof import close_to, full_precision


def test_full_precision_lasts_for_the_block() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).bfloat16()
    kept = [tensor.data_ptr() for tensor in model.state_dict().values()]
    images = torch.randn(2, 3, 4, 4)
    with torch.autocast("cpu", torch.bfloat16), full_precision(model, images.bfloat16()) as wide:
        assert wide.dtype == model(wide).dtype == model[0].weight.dtype == torch.float32
    assert [tensor.data_ptr() for tensor in model.state_dict().values()] == kept
    assert model[0].weight.dtype == model[1].running_mean.dtype == torch.bfloat16
    with full_precision(model.double(), images.double()) as wide:
        assert model(wide).dtype == torch.float64


def test_an_error_is_measured_by_how_far_regions_are_apart() -> None:
    logits = torch.tensor([[1000.0, 0.0]])
    assert close_to(logits + 0.005, logits)  # rounding
    assert not close_to(logits + 0.5, logits)
    assert close_to(logits + 0.5, logits, spread=1000.0)
    assert not close_to(logits[0], logits)
    assert not close_to(logits * float("nan"), logits)


def test_a_model_that_casts_to_half_precision_itself_is_told_to_leave_it() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).bfloat16()

        def forward(self, images):
            return self.net(images.bfloat16()).float()

    model = Half().eval()
    with pytest.raises(ValueError, match=r"are proved in float32, and Half does not run there .* float32 weights and no casts"):
        RegionModel(model, (1, 2))(torch.randn(2, 3, 8, 8))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
