"""Maps of logits on another grid."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from logitkd.reach import resize_map


def test_it_is_torch_s_bilinear_resize_with_the_class_axis_last() -> None:
    logits = torch.randn(2, 4, 6, 3)
    for size in ((8, 12), (2, 3), (5, 7)):
        expected = F.interpolate(logits.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
        assert torch.equal(resize_map(logits, size), expected)
    assert resize_map(logits, (4, 6)) is logits
