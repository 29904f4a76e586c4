"""KD against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitkd.losses import KDLoss, kd_terms
from naive import assert_terms, assert_value, batches, draw, kd, mean, quick, seeds, temperatures


@quick
@given(n=batches, c=st.integers(2, 13), temperature=temperatures, seed=seeds)
def test_equals_the_definition(n: int, c: int, temperature: float, seed: int) -> None:
    student, teacher, _ = draw(seed, n, c)
    expected = [kd(s, t, temperature) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert_terms(kd_terms(student, teacher, temperature=temperature), {"kd": expected})
    assert_value(KDLoss(temperature)(student, teacher), mean(expected))


def test_by_hand() -> None:
    """At temperature 2: teacher (3/4, 1/4), student (1/2, 1/2), so 4 * (3/4 log 3/2 + 1/4 log 1/2)."""
    teacher = torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert_value(KDLoss(2.0)(torch.zeros(1, 2, dtype=torch.float64), teacher), expected)


def test_the_paper_s_default_temperature() -> None:
    student, teacher, _ = draw(0, 3, 7)
    assert_value(KDLoss()(student, teacher), KDLoss(4.0)(student, teacher).item())


def test_teacher_comes_first_in_the_divergence() -> None:
    student, teacher, _ = draw(1, 1, 5)
    assert KDLoss()(student, teacher).item() != pytest.approx(KDLoss()(teacher, student).item(), rel=1e-3)


def test_gradient_is_the_gap_of_probabilities() -> None:
    """d/dz of T^2 KL is T * (ps - pt): what the factor T^2 is for."""
    student, teacher, _ = draw(2, 3, 6)
    student.requires_grad_()
    KDLoss(3.0)(student, teacher).backward()
    expected = 3.0 * ((student / 3).softmax(-1) - (teacher / 3).softmax(-1)) / 3
    torch.testing.assert_close(student.grad, expected.detach(), rtol=1e-10, atol=1e-12)


def test_one_hot_teacher_is_cross_entropy() -> None:
    """A teacher whose softmax is exactly one-hot leaves -log of the student's probability of that class."""
    student, _, _ = draw(3, 2, 4)
    teacher = torch.zeros(2, 4, dtype=torch.float64)
    teacher[:, 1] = 1e4
    expected = -student.log_softmax(-1)[:, 1]
    torch.testing.assert_close(kd_terms(student, teacher, temperature=1.0)["kd"], expected, rtol=1e-12, atol=0)


def test_needs_no_labels_and_reads_logits() -> None:
    loss = KDLoss()
    assert (loss.needs_labels, loss.reads, loss.per_example) == (False, "logits", True)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match=rf"^`temperature` must be above 0, got {temperature}\.$"):
        KDLoss(temperature)


def test_weights_give_the_weighted_mean() -> None:
    student, teacher, _ = draw(4, 3, 5)
    losses = kd_terms(student, teacher)["kd"].tolist()
    weights = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    assert_value(KDLoss()(student, teacher, weights=weights), (losses[0] + 3 * losses[2]) / 4)
    assert KDLoss()(student, teacher, weights=torch.zeros(3)).item() == 0


def test_classes_on_the_second_axis_are_noticed_by_their_labels() -> None:
    """A loss that does not use labels still sees from them that the last axis holds no classes."""
    logits = torch.zeros(2, 10, 8, 8)
    with pytest.raises(ValueError, match=r"`labels` must have shape .* The class axis must be last: pass logits.movedim"):
        KDLoss()(logits, logits, torch.zeros(2, 8, 8, dtype=torch.int64))
    KDLoss()(logits.movedim(1, -1), logits.movedim(1, -1), torch.zeros(2, 8, 8, dtype=torch.int64))


def test_soft_labels_are_no_concern_of_a_loss_without_labels() -> None:
    assert KDLoss()(torch.zeros(2, 10), torch.zeros(2, 10), torch.full((2, 10), 0.1)) == 0
