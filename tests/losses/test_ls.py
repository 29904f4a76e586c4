"""Logit standardization against its definition, alone and around every loss that reads logits."""

from __future__ import annotations

import math

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
    KDLoss,
    LDRLDLoss,
    LogitLoss,
    MLKDLoss,
    NKDLoss,
    SDDLoss,
    Standardized,
)
from naive import assert_value, batches, draw, kd, mean, quick, seeds, temperatures, within

EVERY_LOSS = [
    KDLoss(),
    DKDLoss(),
    NKDLoss(),
    GDKDLoss(top_k=2),
    GDKD3Loss(),
    LDRLDLoss(depth=3),
    DISTLoss(),
    MLKDLoss(),
]


def z_score(z: list[float], eps: float = 1e-7) -> list[float]:
    centre = mean(z)
    std = math.sqrt(sum((v - centre) ** 2 for v in z) / (len(z) - 1))  # unbiased
    return [(v - centre) / (std + eps) for v in z]


def z_scores(logits: Tensor, eps: float = 1e-7) -> Tensor:
    return torch.tensor([z_score(z, eps) for z in logits.tolist()], dtype=torch.float64)


@quick
@given(n=batches, c=st.integers(2, 13), temperature=temperatures, eps=st.sampled_from([1e-7, 2**-10, 0.5]), seed=seeds)
def test_equals_the_definition(n, c, temperature, eps, seed) -> None:
    student, teacher, _ = draw(seed, n, c)
    expected = [
        kd(z_score(s, eps), z_score(t, eps), temperature) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    assert_value(Standardized(KDLoss(temperature), eps)(student, teacher), mean(expected))


def test_by_hand() -> None:
    """(1, 2, 3) has mean 2 and unbiased std 1; a student (5, 0, -5) becomes (1, 0, -1)."""
    student, teacher = (
        torch.tensor([[5.0, 0.0, -5.0]], dtype=torch.float64),
        torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64),
    )
    expected = within([1.0, 0.0, -1.0], [-1.0, 0.0, 1.0], range(3), 1.0)
    e = math.exp(1)
    assert expected == pytest.approx(2 * (e - 1 / e) / (1 / e + 1 + e))  # sum of pt * (log pt - log ps) = pt * (zt - zs)
    assert Standardized(KDLoss(1.0))(student, teacher).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=lambda loss: type(loss).__name__)
def test_every_loss_sees_standardized_logits(loss: LogitLoss) -> None:
    student, teacher, labels = draw(1, 4, 7)
    wrapped = Standardized(loss)
    assert_value(wrapped(student, teacher, labels), loss(z_scores(student), z_scores(teacher), labels).item())
    assert (wrapped.term_weights, wrapped.needs_labels, wrapped.per_example, wrapped.reads) == (
        loss.term_weights,
        loss.needs_labels,
        loss.per_example,
        "logits",
    )


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=lambda loss: type(loss).__name__)
def test_scale_and_offset_of_the_student_do_not_matter(loss: LogitLoss) -> None:
    student, teacher, labels = draw(2, 4, 7)
    scale = torch.tensor([[0.3], [2.0], [50.0], [1.0]], dtype=torch.float64)
    before = Standardized(loss)(student, teacher, labels).item()
    assert Standardized(loss)(scale * student - 9, teacher, labels).item() == pytest.approx(before, rel=1e-5)


def test_gradient_flows_through_mean_and_std() -> None:
    """So it has no component along a shift or a stretch of the student's logits."""
    student, teacher, _ = draw(3, 3, 6)
    student.requires_grad_()
    gradient = torch.autograd.grad(Standardized(KDLoss())(student, teacher), student)[0]
    assert gradient.abs().max() > 1e-3
    assert gradient.sum(-1).abs().max() < 1e-12
    assert (gradient * (student - student.mean(-1, keepdim=True))).sum(-1).abs().max() < 1e-6  # eps is not stretched


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, -3.7, 1000.1])
@pytest.mark.parametrize("c", [2, 7, 100])
def test_a_constant_row_has_a_small_finite_gradient(dtype: torch.dtype, constant: float, c: int) -> None:
    _, teacher, _ = draw(4, 2, c)
    teacher = teacher.to(dtype)
    student = torch.full((2, c), constant, dtype=dtype, requires_grad=True)
    loss = Standardized(KDLoss(2.0))
    value = loss(student, teacher)
    gradient = torch.autograd.grad(value, student)[0]
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().max() <= 2.0


def test_the_authors_form_has_a_gradient_near_1e6_on_a_constant_row() -> None:
    """What the test above would show of it; torch's std gives NaN there, one tick beside it."""
    _, teacher, _ = draw(4, 2, 7)
    student = torch.zeros(2, 7, dtype=torch.float64)
    student[:, 0] = 1e-12
    student.requires_grad_()
    theirs = (student - student.mean(-1, keepdim=True)) / (1e-7 + student.std(-1, keepdim=True))
    assert torch.autograd.grad(KDLoss(2.0)(theirs, z_scores(teacher)), student)[0].abs().max() > 1e5
    ours = torch.autograd.grad(Standardized(KDLoss(2.0))(student, teacher), student)[0]
    assert ours.isfinite().all()


def test_a_constant_teacher_row_asks_for_a_uniform_student() -> None:
    student, _, _ = draw(5, 1, 5)
    expected = kd(z_score(student.tolist()[0]), [0.0] * 5, 4.0)
    assert_value(Standardized(KDLoss())(student, torch.full((1, 5), 0.1, dtype=torch.float64)), expected)


@pytest.mark.parametrize("spread", [1e-3, 1e-1, 1e3])
def test_a_row_with_little_spread_is_standardized_all_the_same(spread: float) -> None:
    student, teacher, _ = draw(6, 3, 8)
    before = Standardized(KDLoss())(student, teacher).item()
    assert Standardized(KDLoss())((spread * student).float(), teacher.float()).item() == pytest.approx(before, rel=2e-3)


def test_inside_sdd_every_region_is_standardized() -> None:
    student, teacher, labels = draw(7, 2, 5, 4)
    outside = SDDLoss(KDLoss(), (1, 2))(
        z_scores(student.flatten(0, 1)).view_as(student), z_scores(teacher.flatten(0, 1)).view_as(teacher), labels
    )
    assert_value(SDDLoss(Standardized(KDLoss()), (1, 2))(student, teacher, labels), outside.item())


def test_only_losses_on_logits_are_standardized() -> None:
    with pytest.raises(ValueError, match=r"`loss` must read logits, got SDDLoss, which reads regions.*SDDLoss\(Standardized\("):
        Standardized(SDDLoss(KDLoss()))
    with pytest.raises(ValueError, match=r"`loss` must read logits, got BlockKDLoss, which reads stones"):
        Standardized(BlockKDLoss())


def test_eps_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"`eps` must be"):
        Standardized(KDLoss(), eps=-1.0)
