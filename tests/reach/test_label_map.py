"""A teacher's logits brought onto the student's classes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitkd.reach import LabelMap


def naive(logits, target, num_classes):
    """Add probabilities one by one, of the classes that are mapped at all."""
    rows = []
    for row in logits.double().softmax(-1).tolist():
        sums = [0.0] * num_classes
        for teacher_class, student_class in enumerate(target):
            if student_class is not None:
                sums[student_class] += row[teacher_class]
        rows.append(sums)
    sums = torch.tensor(rows, dtype=torch.float64)
    return sums / sums.sum(-1, keepdim=True)


@given(st.integers(2, 5), st.data())
@settings(deadline=None, max_examples=40)
def test_probabilities_add(num_classes, data):
    extra = data.draw(st.lists(st.none() | st.integers(0, num_classes - 1), max_size=6))
    target = data.draw(st.permutations([*range(num_classes), *extra]))
    logits = torch.randn(3, len(target), generator=torch.Generator().manual_seed(0)) * 3
    mapped = LabelMap(target, num_classes)(logits)
    assert mapped.shape == (3, num_classes)
    torch.testing.assert_close(mapped.double().softmax(-1), naive(logits, target, num_classes), rtol=1e-5, atol=1e-7)


def test_by_hand():
    logits = torch.tensor([[2.0, 0.0, 5.0, 0.0, 7.0]])
    mapped = LabelMap([1, 0, 2, 0, None], 3)(logits)
    torch.testing.assert_close(mapped, torch.tensor([[2 * 1.0, 2.0, 5.0]]) - torch.tensor([[2 - 0.6931472, 0.0, 0.0]]))


def test_a_permutation_and_a_selection_only_pick():
    logits = torch.randn(2, 6, 4, dtype=torch.bfloat16)
    picked = LabelMap([2, None, 0, 1], 3)(logits)
    assert picked.dtype == torch.bfloat16
    assert picked.equal(logits[..., [2, 3, 0]])


def test_extreme_logits_stay_finite_and_half_precision_is_summed_in_float32():
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4]])
    mapped = LabelMap([0, 1, 0, 1], 2)(logits)
    assert mapped.isfinite().all()
    sums = LabelMap([0, 1, 0, 1], 2)(torch.ones(1, 4, dtype=torch.float16))
    assert sums.dtype == torch.float32
    torch.testing.assert_close(sums, torch.full((1, 2), 1.6931472))


def test_holes_and_indices_out_of_range():
    with pytest.raises(ValueError, match=r"none is mapped to 2 of 4: 1, 3\."):
        LabelMap([0, 2, None], 4)
    with pytest.raises(ValueError, match=r"must be in \[0, 2\], got 3 for teacher class 1"):
        LabelMap([0, 3], 3)
