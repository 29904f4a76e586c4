"""What a network returned, taken for its logits or refused by name."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import pytest
import torch
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.models.mask2former.modeling_mask2former import Mask2FormerForUniversalSegmentationOutput

from logitkd.reach import checked_map

MAP, AUX = torch.randn(2, 5, 4, 6), torch.randn(2, 5, 2, 3)


@pytest.mark.parametrize(
    "output",
    [MAP, {"out": MAP}, OrderedDict(aux=AUX, out=MAP), SemanticSegmenterOutput(logits=MAP)],
    ids=["tensor", "dict", "torchvision", "transformers"],
)
def test_a_map_is_found_and_is_a_view_with_the_class_axis_last(output: Any) -> None:
    signals = checked_map(output, "student", num_classes=5)
    assert torch.equal(signals.logits, MAP.permute(0, 2, 3, 1))
    assert signals.logits.data_ptr() == MAP.data_ptr()
    assert signals.regions is None
    assert signals.stones is None
    if isinstance(output, OrderedDict) and "aux" in output:
        assert torch.equal(signals.streams["aux"], AUX.permute(0, 2, 3, 1))
        assert signals.streams["aux"].data_ptr() == AUX.data_ptr()
    else:
        assert signals.streams == {}


QUERIES = Mask2FormerForUniversalSegmentationOutput(
    class_queries_logits=torch.zeros(2, 7, 6), masks_queries_logits=torch.zeros(2, 7, 4, 6)
)
REFUSED = {
    "mask classification": (QUERIES, TypeError, "mask classification, as Mask2Former, MaskFormer and OneFormer do"),
    "a tuple": (
        (MAP,),
        TypeError,
        "got tuple: wrap it in a module that returns that tensor, or a mapping that holds it as 'out'",
    ),
    "a mapping of something else": ({"masks": MAP}, TypeError, "as 'out' or 'logits', got dict of 'masks': wrap it"),
    "an empty mapping": ({}, TypeError, "got dict of nothing"),
    "class numbers": (MAP.argmax(1), TypeError, "floating-point logits, got torch.int64"),
    "a classifier": (torch.zeros(2, 5), ValueError, "got (2, 5): it answers once an image. Give a segmentation network."),
    "a sigmoid": (MAP[:, :1], ValueError, "with a channel for each class, got 1: one channel is a sigmoid's."),
    "three axes": (MAP[0], ValueError, "a map of logits (N, C, H, W), got (5, 4, 6)."),
    "other classes": ({"out": MAP[:, :4]}, ValueError, "the teacher must have 5 classes, as the data, got 4"),
    "an auxiliary map of other classes": (
        {"out": MAP, "aux": AUX[:, :4]},
        ValueError,
        "must have 5 classes, as the data, got 4",
    ),
    "an auxiliary loss": ({"out": MAP, "aux": MAP.mean()}, ValueError, "a map of logits (N, C, H, W) as 'aux', got ()."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused_by_name(case: str) -> None:
    output, error, message = REFUSED[case]
    with pytest.raises(error, match=re.escape(message)):
        checked_map(output, "teacher", num_classes=5)
