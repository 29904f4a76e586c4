"""NKD against its definition, as published and as copied."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitkd.losses import NKDLoss, nkd_terms
from naive import assert_terms, assert_value, batches, draw, mean, quick, seeds, softmax, temperatures


@quick
@given(n=batches, c=st.integers(2, 13), temperature=temperatures, gamma=st.floats(0, 5), exclude=st.booleans(), seed=seeds)
def test_equals_the_definition(n, c, temperature, gamma, exclude, seed) -> None:
    student, teacher, labels = draw(seed, n, c)
    target, nontarget = [], []
    for s, t, y in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        target.append(-softmax(t)[y] * math.log(softmax(s)[y]))  # at temperature 1, whatever is configured
        classes = [k for k in range(c) if k != y or not exclude]
        qs, qt = (softmax([z[k] for k in classes], temperature) for z in (s, t))
        nontarget.append(-(temperature**2) * sum(a * math.log(b) for a, b in zip(qt, qs, strict=True)))
    terms = nkd_terms(student, teacher, labels, temperature=temperature, exclude_target=exclude)
    assert_terms(terms, {"target": target, "nontarget": nontarget})
    loss = NKDLoss(gamma, temperature, exclude)
    assert_value(loss(student, teacher, labels), mean(target) + gamma * mean(nontarget))


def test_by_hand() -> None:
    """Teacher (1/2, 1/4, 1/4), student (1/5, 3/5, 1/5), label 0."""
    teacher = torch.tensor([[2.0, 1.0, 1.0]], dtype=torch.float64).log()
    student = torch.tensor([[1.0, 3.0, 1.0]], dtype=torch.float64).log()
    label = torch.tensor([0])
    target = 0.5 * math.log(5)
    published = -(0.5 * math.log(3 / 4) + 0.5 * math.log(1 / 4))
    copied = -(0.5 * math.log(1 / 5) + 0.25 * math.log(3 / 5) + 0.25 * math.log(1 / 5))
    assert_terms(nkd_terms(student, teacher, label), {"target": [target], "nontarget": [published]})
    assert_terms(nkd_terms(student, teacher, label, exclude_target=False), {"target": [target], "nontarget": [copied]})


def test_defaults_are_the_published_ones() -> None:
    student, teacher, labels = draw(0, 3, 6)
    assert_value(NKDLoss()(student, teacher, labels), NKDLoss(1.5, 1.0, True)(student, teacher, labels).item())


def test_excluded_target_has_no_part_in_the_others() -> None:
    student, teacher, _ = draw(1, 1, 5)
    labels = torch.tensor([3])
    before = nkd_terms(student, teacher, labels)["nontarget"].item()
    student[0, 3], teacher[0, 3] = 1e5, -1e5
    assert nkd_terms(student, teacher, labels)["nontarget"].item() == pytest.approx(before, rel=1e-12)
    assert nkd_terms(student, teacher, labels, exclude_target=False)["nontarget"].item() > 1e4


def test_two_classes_leave_one_non_target() -> None:
    student, teacher, labels = draw(2, 3, 2)
    assert nkd_terms(student, teacher, labels)["nontarget"].tolist() == pytest.approx([0, 0, 0], abs=1e-12)


def test_needs_labels() -> None:
    student, teacher, _ = draw(3, 2, 4)
    assert NKDLoss().needs_labels
    with pytest.raises(ValueError, match="NKD needs `labels`"):
        NKDLoss()(student, teacher)
