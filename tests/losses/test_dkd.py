"""DKD against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitkd.losses import DKDLoss, KDLoss, dkd_terms
from naive import (
    assert_terms,
    assert_value,
    batches,
    between,
    draw,
    kd,
    mean,
    quick,
    ranked,
    seeds,
    softmax,
    temperatures,
    within,
)


@quick
@given(
    n=batches,
    c=st.integers(2, 13),
    temperature=temperatures,
    target=st.sampled_from(["label", "teacher"]),
    kl_type=st.sampled_from(["forward", "reverse", "both"]),
    weights=st.tuples(st.floats(0, 9), st.floats(0, 9)),
    seed=seeds,
)
def test_equals_the_definition(n, c, temperature, target, kl_type, weights, seed) -> None:
    student, teacher, labels = draw(seed, n, c)
    tckd, nckd = [], []
    for s, t, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        y = label if target == "label" else ranked(t)[0]
        others = [k for k in range(c) if k != y]
        tckd.append(between(s, t, [[y], others], temperature))  # always teacher to student
        nckd.append(within(s, t, others, temperature, kl_type))
    terms = dkd_terms(student, teacher, labels, temperature=temperature, target=target, kl_type=kl_type)
    assert_terms(terms, {"tckd": tckd, "nckd": nckd})
    loss = DKDLoss(*weights, temperature, target, kl_type)
    assert_value(loss(student, teacher, labels), weights[0] * mean(tckd) + weights[1] * mean(nckd))


def test_by_hand() -> None:
    """Teacher (3/4, 1/8, 1/8), student (1/4, 1/2, 1/4) at temperature 2, label 0."""
    teacher = 2 * torch.tensor([[6.0, 1.0, 1.0]], dtype=torch.float64).log()
    student = 2 * torch.tensor([[1.0, 2.0, 1.0]], dtype=torch.float64).log()
    terms = dkd_terms(student, teacher, torch.tensor([0]), temperature=2.0)
    tckd = 4 * (0.75 * math.log(3) + 0.25 * math.log(1 / 3))  # (3/4, 1/4) against (1/4, 3/4): 2 log 3
    nckd = 4 * (0.5 * math.log(0.5 / (2 / 3)) + 0.5 * math.log(0.5 / (1 / 3)))  # (1/2, 1/2) against (2/3, 1/3)
    assert tckd == pytest.approx(2 * math.log(3))
    assert_terms(terms, {"tckd": [tckd], "nckd": [nckd]})


@quick
@given(c=st.integers(2, 9), temperature=temperatures, seed=seeds)
def test_kd_is_tckd_plus_the_teacher_s_doubt_times_nckd(c: int, temperature: float, seed: int) -> None:
    student, teacher, labels = draw(seed, 3, c)
    terms = dkd_terms(student, teacher, labels, temperature=temperature)
    doubt = [1 - softmax(t, temperature)[y] for t, y in zip(teacher.tolist(), labels.tolist(), strict=True)]
    total = terms["tckd"] + torch.tensor(doubt, dtype=torch.float64) * terms["nckd"]
    assert_value(total.mean(), KDLoss(temperature)(student, teacher).item())


def test_two_classes_leave_only_the_target_term() -> None:
    student, teacher, labels = draw(0, 4, 2)
    terms = dkd_terms(student, teacher, labels)
    assert terms["nckd"].tolist() == [0, 0, 0, 0]
    assert_terms(
        {"tckd": terms["tckd"]}, {"tckd": [kd(s, t, 4) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]}
    )


@pytest.mark.parametrize(("dtype", "gap"), [(torch.float16, 30.0), (torch.float32, 5000.0), (torch.bfloat16, 4096.0)])
def test_exact_where_the_authors_code_is_nan_or_leaks(dtype: torch.dtype, gap: float) -> None:
    """Uniform teacher of two classes; the student is sure of the wrong one by ``gap``: 1/2 log 1/2 + 1/2 (log 1/2 + gap)."""
    student = torch.tensor([[gap, 0.0]], dtype=dtype, requires_grad=True)
    terms = dkd_terms(student, torch.zeros(1, 2, dtype=dtype), torch.tensor([1]), temperature=1.0)
    assert terms["tckd"].item() == pytest.approx(gap / 2 - math.log(2), rel=1e-6)
    terms["tckd"].sum().backward()
    assert student.grad is not None
    assert student.grad.tolist() == [[0.5, -0.5]]


def test_no_class_leaks_out_of_its_group() -> None:
    """The label's logit, however large, does not touch the other classes' term: a mask of -1000 would."""
    student, teacher, _ = draw(5, 1, 4)
    labels = torch.tensor([2])
    before = dkd_terms(student, teacher, labels)["nckd"].item()
    student[0, 2], teacher[0, 2] = 1e5, 1e5
    assert dkd_terms(student, teacher, labels)["nckd"].item() == pytest.approx(before, rel=1e-12)


def test_labels_are_needed_only_for_the_label_s_group() -> None:
    student, teacher, labels = draw(6, 3, 5)
    assert DKDLoss().needs_labels
    assert not DKDLoss(target="teacher").needs_labels
    free = DKDLoss(target="teacher")
    assert_value(free(student, teacher), free(student, teacher, labels).item())
    with pytest.raises(ValueError, match="needs `labels`: pass the class index of each example"):
        DKDLoss()(student, teacher)


def test_defaults() -> None:
    assert DKDLoss().term_weights == {"tckd": 1.0, "nckd": 8.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "labels"}, r"`target` must be one of 'label', 'teacher', got 'labels'\. Did you mean `label`\?"),
        ({"kl_type": "backward"}, r"`kl_type` must be one of 'forward', 'reverse', 'both', got 'backward'"),
        ({"temperature": 0}, r"`temperature` must be above 0, got 0\."),
        ({"beta": -1.0}, r"`beta` must be .*at least 0, got -1\.0\."),
    ],
)
def test_refused_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        DKDLoss(**options)
