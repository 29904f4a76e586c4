"""CWD against loops over images, classes and positions, and what is no position of an image."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from logitkd.losses import BlockKDLoss, CWDLoss, Standardized, cwd_terms
from logitkd.objective import Objective, Targets
from logitkd.reach import Signals

N, H, W, C = 3, 4, 5, 6


def maps(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return 3 * torch.randn(N, H, W, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def kept(seed: int = 7) -> Tensor:
    """Ones and zeros; the last image has no position."""
    weights = (torch.rand(N, H, W, generator=torch.Generator().manual_seed(seed)) > 0.4).float()
    weights[-1] = 0
    return weights


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def by_hand(student: Tensor, teacher: Tensor, keep: Tensor, temperature: float) -> list[float]:
    losses = []
    for n in range(len(student)):
        places = [(i, j) for i in range(H) for j in range(W) if keep[n, i, j]]
        total = 0.0
        for c in range(C):
            ps, pt = (softmax([float(z[n, i, j, c]) / temperature for i, j in places]) for z in (student, teacher))
            total += sum(t * math.log(t / s) for s, t in zip(ps, pt, strict=True))
        losses.append(temperature**2 * total / C)
    return losses


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_sum_by_hand(temperature: float, weighted: bool) -> None:
    student, teacher, weights = maps(0), maps(1), kept() if weighted else torch.ones(N, H, W)
    expected = by_hand(student, teacher, weights, temperature)
    terms = cwd_terms(student, teacher, weights=weights if weighted else None, temperature=temperature)
    torch.testing.assert_close(terms["cwd"], torch.tensor(expected, dtype=torch.float64))
    counted = expected[:-1] if weighted else expected
    value = CWDLoss(temperature)(student, teacher, weights=weights if weighted else None)
    assert value.item() == pytest.approx(sum(counted) / len(counted))


def test_it_is_what_the_authors_formula_gives() -> None:
    student, teacher = maps(0).permute(0, 3, 1, 2), maps(1).permute(0, 3, 1, 2)  # as networks return them
    p, q = ((z / 4).flatten(2).softmax(-1) for z in (teacher, student))
    expected = 4.0**2 * (p * (p.log() - q.log())).sum() / (N * C)
    torch.testing.assert_close(CWDLoss()(student.movedim(1, -1), teacher.movedim(1, -1)), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_ignored_positions_have_no_influence(dtype: torch.dtype) -> None:
    """Through an objective: bit for bit, of the value and of the gradient, whatever stands there."""
    weights, found = kept(), []
    for garbage in (0.0, 1e4, -50.0):
        student, teacher = (torch.where(weights.unsqueeze(-1) == 0, garbage, maps(seed, dtype)) for seed in (0, 1))
        student.requires_grad_()
        targets = Targets(example_weights=weights)
        measured = Objective(CWDLoss(), ce_weight=0.0).measure(Signals(student), Signals(teacher), targets, 1)
        (gradient,) = torch.autograd.grad(measured.total(), student)
        assert measured.terms["cwd"].mass == 2
        assert not gradient[weights == 0].any()
        assert gradient[weights > 0].any()
        found.append((measured.total(), gradient))
    for value, gradient in found[1:]:
        assert torch.equal(value, found[0][0])
        assert torch.equal(gradient, found[0][1])


def test_a_batch_without_positions_adds_nothing() -> None:
    student, nothing = maps(0).requires_grad_(), torch.zeros(N, H, W)
    term = Objective(CWDLoss(), ce_weight=0.0).measure(Signals(student), Signals(maps(1)), Targets(example_weights=nothing), 1)
    assert term.terms["cwd"].mass == 0
    assert term.total() == 0
    (gradient,) = torch.autograd.grad(term.total(), student)
    assert not gradient.any()


def test_a_student_that_is_its_teacher_learns_nothing_and_a_batch_twice_is_the_batch() -> None:
    student, teacher, weights = maps(0).requires_grad_(), maps(1), kept()
    (gradient,) = torch.autograd.grad(CWDLoss()(student, student.detach(), weights=weights), student)
    assert gradient.abs().max() < 1e-12
    twice = CWDLoss()(torch.cat([student, student]), torch.cat([teacher, teacher]), weights=torch.cat([weights, weights]))
    torch.testing.assert_close(twice, CWDLoss()(student, teacher, weights=weights))


def test_bad_inputs_are_named() -> None:
    with pytest.raises(ValueError, match=r"`student_logits` must be maps \(N, H, W, C\) for CWD, got \(4, 6\): it compares"):
        CWDLoss()(torch.zeros(4, 6), torch.zeros(4, 6))
    with pytest.raises(ValueError, match=r"`weights` must have shape \(3, 4, 5\), one weight an example, got \(3,\)"):
        CWDLoss()(maps(0), maps(1), weights=torch.ones(3))
    with pytest.raises(ValueError, match="`example_weights` must be 0 or 1 for CWD, which compares the examples of a batch"):
        CWDLoss()(maps(0), maps(1), weights=torch.full((N, H, W), 0.5))
    for outer in (Standardized, BlockKDLoss):
        with pytest.raises(ValueError, match="must read logits, got CWDLoss, which reads maps"):
            outer(CWDLoss())
