"""SDD against its definition: which regions count double, and what the sum is divided by."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from logitkd.losses import (
    BlockKDLoss,
    DISTLoss,
    DKDLoss,
    GDKD3Loss,
    GDKDLoss,
    ICDLoss,
    KDLoss,
    LDRLDLoss,
    LogitLoss,
    MLKDLoss,
    NKDLoss,
    SDDLoss,
    Standardized,
)
from logitkd.reach import Signals
from naive import assert_terms, assert_value, draw, mean, quick, seeds

BASES = [
    KDLoss(),
    DKDLoss(beta=2.0),
    NKDLoss(),
    NKDLoss(exclude_target=False),
    GDKDLoss(top_k=2),
    GDKD3Loss(top_k=3),
    LDRLDLoss(depth=3),
    Standardized(KDLoss()),
]
ALL_SCALES = [(1,), (1, 2), (1, 3), (1, 4), (1, 2, 4)]


def argmax(z: list[float]) -> int:
    return z.index(max(z))


def weight(teacher: list[list[float]], region: int, label: int, disagreement: float = 2.0) -> float:
    whole_right, region_right = argmax(teacher[0]) == label, argmax(teacher[region]) == label
    return 1.0 if whole_right == region_right else disagreement


def reference(base: LogitLoss, student: Tensor, teacher: Tensor, labels: Tensor, disagreement: float = 2.0):
    """Each term of ``base`` on one region at a time, weighed, divided by S."""
    n, s, _ = student.shape
    terms = {name: [0.0] * n for name in base.term_weights}
    for i in range(n):
        for region in range(s):
            w = weight(teacher[i].tolist(), region, int(labels[i]), disagreement)
            one = base.terms(student[i, region][None], teacher[i, region][None], labels[i][None])
            for name, value in one.items():
                terms[name][i] += w * value.item() / s
    return terms


@pytest.mark.parametrize("base", BASES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("scales", ALL_SCALES)
def test_equals_the_definition_on_every_base(base: LogitLoss, scales: tuple[int, ...]) -> None:
    student, teacher, labels = draw(len(scales), 3, sum(m * m for m in scales), 5)
    loss = SDDLoss(base, scales)
    expected = reference(base, student, teacher, labels)
    assert_terms(loss.terms(student, teacher, labels), expected)
    assert_value(loss(student, teacher, labels), sum(base.term_weights[k] * mean(v) for k, v in expected.items()))
    assert loss.term_weights == base.term_weights


@quick
@given(
    n=st.integers(1, 4),
    c=st.integers(2, 7),
    scales=st.sampled_from(ALL_SCALES),
    disagreement=st.sampled_from([0.0, 1.0, 2.0, 3.5]),
    seed=seeds,
)
def test_equals_the_definition_at_any_size(n, c, scales, disagreement, seed) -> None:
    student, teacher, labels = draw(seed, n, sum(m * m for m in scales), c)
    expected = reference(DKDLoss(), student, teacher, labels, disagreement)
    assert_terms(SDDLoss(DKDLoss(), scales, disagreement).terms(student, teacher, labels), expected)


@pytest.mark.parametrize(
    ("whole_right", "region_right", "expected"), [(True, True, 1), (False, False, 1), (True, False, 2), (False, True, 2)]
)
def test_right_and_wrong_by_hand(whole_right: bool, region_right: bool, expected: int) -> None:
    """One example of 5 regions; only region 3 differs from its student, so the loss is its weight times its KD over 5."""
    teacher = torch.tensor([[[2.0, 0.0, 0.0] if whole_right else [0.0, 2.0, 0.0]]], dtype=torch.float64).repeat(1, 5, 1)
    student = teacher.clone()
    teacher[0, 3] = torch.tensor([3.0, 0.0, 1.0] if region_right else [0.0, 1.0, 3.0])
    alone = KDLoss()(student[:, 3], teacher[:, 3]).item()
    assert alone > 0.01
    assert_value(SDDLoss(KDLoss(), (1, 2))(student, teacher, torch.tensor([0])), expected * alone / 5)


def test_two_wrong_answers_agree_even_if_they_differ() -> None:
    """Judged against the label: wrong in two different ways is still both wrong."""
    teacher = torch.tensor([[[0.0, 4.0, 0.0]] + [[0.0, 0.0, 4.0]] * 4], dtype=torch.float64)
    student = torch.zeros_like(teacher)
    assert_value(SDDLoss(KDLoss(), (1, 2))(student, teacher, torch.tensor([0])), KDLoss()(student, teacher).item())


def test_the_student_s_predictions_have_no_say() -> None:
    _, teacher, labels = draw(0, 3, 5, 4)
    ones = torch.ones(3, 5, dtype=torch.float64)
    for seed in range(3):
        student = draw(seed + 1, 3, 5, 4)[0]
        ratio = SDDLoss(KDLoss(), (1, 2)).terms(student, teacher, labels)["kd"] * 5
        for i in range(3):
            ones[i] = torch.tensor([weight(teacher[i].tolist(), r, int(labels[i])) for r in range(5)])
        singles = KDLoss().example_losses(student.flatten(0, 1), teacher.flatten(0, 1)).view(3, 5)
        torch.testing.assert_close(ratio, (ones * singles).sum(-1), rtol=1e-10, atol=1e-12)


def test_divided_by_examples_and_regions_not_by_the_weights() -> None:
    """Every fine region disagrees: (1 + 4 * 2) / 5 times the loss, where dividing by the weights would give 1."""
    row = torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64)
    teacher = torch.stack([row, *[row.roll(1)] * 4]).repeat(2, 1, 1)
    student = torch.zeros_like(teacher)
    alone = KDLoss()(student[:, 0], teacher[:, 0]).item()
    assert_value(SDDLoss(KDLoss(), (1, 2))(student, teacher, torch.tensor([0, 0])), 9 / 5 * alone)


def test_the_whole_image_alone_is_the_base_loss() -> None:
    student, teacher, labels = draw(1, 4, 1, 6)
    expected = DKDLoss()(student[:, 0], teacher[:, 0], labels).item()
    assert_value(SDDLoss(DKDLoss(), (1,))(student, teacher, labels), expected)


def test_defaults_are_the_paper_s() -> None:
    loss = SDDLoss(KDLoss())
    assert (loss.scales, loss.disagreement, loss.reads, loss.needs_labels) == ((1, 2, 4), 2.0, "regions", True)


def test_weights_of_examples() -> None:
    student, teacher, labels = draw(2, 3, 5, 4)
    terms = reference(KDLoss(), student, teacher, labels)["kd"]
    value = SDDLoss(KDLoss(), (1, 2))(student, teacher, labels, weights=torch.tensor([0.0, 1.0, 3.0]))
    assert value.item() == pytest.approx((terms[1] + 3 * terms[2]) / 4, rel=1e-6)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (DISTLoss, "got DISTLoss, which compares the examples of a batch"),
        (MLKDLoss, "got MLKDLoss, which compares the examples of a batch"),
        (BlockKDLoss, "got BlockKDLoss, which reads stones"),
        (lambda: SDDLoss(KDLoss()), "got SDDLoss, which reads regions"),
        (lambda: ICDLoss(KDLoss()), "got ICDLoss, which reads regions"),
    ],
)
def test_refused_bases(base, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^`loss` must .*{message}"):
        SDDLoss(base())


@pytest.mark.parametrize(
    ("scales", "error", "message"),
    [
        ((2, 4), ValueError, r"`scales` must start with 1 \(region 0 is the whole image\), got \(2, 4\)\."),
        ((), ValueError, r"`scales` must be ascending grid sizes without repeats, such as \(1, 2, 4\), got \(\)\."),
        ((1, 1), ValueError, r"`scales` must be ascending .*, got \(1, 1\)\."),
        ((1, 4, 2), ValueError, r"`scales` must be ascending .*, got \(1, 4, 2\)\."),
        ((0, 1), ValueError, r"`scales` must be .*1.*, got 0\."),
        ((1, 2.5), TypeError, r"`scales` must be .*integer.*, got 2\.5"),
    ],
)
def test_refused_scales(scales, error, message) -> None:
    with pytest.raises(error, match=message):
        SDDLoss(KDLoss(), scales)


def test_refused_inputs() -> None:
    student, teacher, labels = draw(3, 2, 5, 4)
    with pytest.raises(ValueError, match=r"`student_logits` must have shape \(N, 21, C\).*got \(2, 5, 4\)\."):
        SDDLoss(KDLoss())(student, teacher, labels)
    with pytest.raises(ValueError, match=r"must have shape \(N, 5, C\).*got \(2, 4\)\."):
        SDDLoss(KDLoss(), (1, 2))(student[:, 0], teacher[:, 0], labels)
    with pytest.raises(ValueError, match="SDD needs `labels`"):
        SDDLoss(KDLoss(), (1, 2))(student, teacher)
    with pytest.raises(ValueError, match=r"`disagreement` must be .*at least 0, got -1\."):
        SDDLoss(KDLoss(), disagreement=-1)


def test_a_class_in_place_of_a_loss_is_named() -> None:
    with pytest.raises(TypeError, match=r"`loss` must be a loss such as KDLoss\(\), got the class KDLoss: call it"):
        SDDLoss(KDLoss)


def test_one_scale_without_a_list_is_named() -> None:
    with pytest.raises(TypeError, match=r"`scales` must be a list of grid sizes, such as \(1, 2, 4\), got 2\."):
        SDDLoss(KDLoss(), 2)


def test_signals_in_place_of_regions_are_named() -> None:
    signals = Signals(torch.zeros(2, 10), torch.zeros(2, 21, 10))
    with pytest.raises(TypeError, match=r"must be a tensor \(N, S, C\), got Signals. Pass the `regions` of its Signals"):
        SDDLoss(KDLoss())(signals, signals, torch.zeros(2, dtype=torch.int64))


def test_judged_by_the_teacher_no_labels_are_needed() -> None:
    """The same as with the teacher's prediction for the whole image as every label."""
    student, teacher, labels = draw(4, 6, 5, 4)
    loss = SDDLoss(KDLoss(), (1, 2), judge="teacher")
    assert not loss.needs_labels
    predicted = teacher[:, 0].argmax(-1)
    expected = reference(KDLoss(), student, teacher, predicted)
    assert_terms(loss.terms(student, teacher), expected)
    assert_terms(loss.terms(student, teacher, torch.full_like(labels, -1)), expected)
    assert expected["kd"] != pytest.approx(reference(KDLoss(), student, teacher, labels)["kd"])


def test_a_base_that_needs_labels_still_needs_them_when_the_teacher_judges() -> None:
    student, teacher, labels = draw(5, 3, 5, 4)
    loss = SDDLoss(DKDLoss(), (1, 2), judge="teacher")
    assert loss.needs_labels
    with pytest.raises(ValueError, match="DKDLoss needs `labels`"):
        loss(student, teacher)
    plain = [
        DKDLoss().example_losses(student[:, s], teacher[:, s], labels)
        * torch.where(teacher[:, s].argmax(-1) == teacher[:, 0].argmax(-1), 1.0, 2.0)
        for s in range(5)
    ]
    assert_value(loss(student, teacher, labels), torch.stack(plain).mean().item())
    with pytest.raises(ValueError, match=r"`judge` must be one of 'label', 'teacher', got 'labels'"):
        SDDLoss(KDLoss(), judge="labels")
