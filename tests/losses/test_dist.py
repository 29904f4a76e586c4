"""DIST against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitkd.losses import DISTLoss, dist_terms
from naive import assert_terms, assert_value, draw, mean, quick, seeds, softmax

EPS = 1e-8  # the authors add it to the product of the norms


def pearson(a: list[float], b: list[float], eps: float = EPS) -> float:
    a, b = ([v - mean(x) for v in x] for x in (a, b))
    norms = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / (norms + eps)


@quick
@given(
    n=st.integers(2, 7),
    c=st.integers(2, 11),
    temperature=st.sampled_from([1.0, 2.0, 4.0, 7.3]),
    weights=st.tuples(st.floats(0, 9), st.floats(0, 9)),
    seed=seeds,
)
def test_equals_the_definition(n, c, temperature, weights, seed) -> None:
    student, teacher, _ = draw(seed, n, c, scale=2.0)
    ps, pt = ([softmax(z, temperature) for z in logits.tolist()] for logits in (student, teacher))
    inter = [temperature**2 * (1 - pearson(s, t)) for s, t in zip(ps, pt, strict=True)]
    columns = zip(zip(*ps, strict=True), zip(*pt, strict=True), strict=True)
    intra = temperature**2 * (1 - mean(pearson(list(s), list(t)) for s, t in columns))
    assert_terms(dist_terms(student, teacher, temperature=temperature), {"inter": inter, "intra": [intra] * n})
    total = weights[0] * mean(inter) + weights[1] * intra
    assert_value(DISTLoss(*weights, temperature)(student, teacher), total)


def test_a_class_is_correlated_over_the_examples_that_have_it() -> None:
    """Class 4 only the third has: it correlates 0, as in a batch of one; class 5 none has: it is no class."""
    student, teacher, _ = draw(3, 3, 6, scale=2.0)
    there = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0], [1, 1, 0, 1, 1, 0]]).bool()
    columns: list[list[list[float]]] = [[[], []] for _ in range(5)]
    inter = []
    for n in range(3):
        kept = there[n].nonzero().flatten().tolist()
        pairs = [softmax([z[n, k].item() for k in kept], 4.0) for z in (student, teacher)]
        inter.append(16 * (1 - pearson(*pairs)))
        for place, k in enumerate(kept):
            for who in (0, 1):
                columns[k][who].append(pairs[who][place])
    intra = 16 * (1 - mean(pearson(*column) if len(column[0]) > 1 else 0.0 for column in columns))
    masked = (z.masked_fill(~there, -math.inf) for z in (student, teacher))
    assert_terms(dist_terms(*masked), {"inter": inter, "intra": [intra] * 3})


def test_by_hand() -> None:
    """Rows (3/4, 1/4) and (1/4, 3/4), exchanged between the two: every correlation is -1, every term T^2 * 2."""
    teacher = 3 * torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]], dtype=torch.float64)
    student = teacher.flip(0)
    terms = dist_terms(student, teacher, temperature=3.0)
    for name in ("inter", "intra"):
        assert terms[name].tolist() == pytest.approx([18.0, 18.0], rel=1e-7)
    assert DISTLoss(1.0, 10.0, 3.0)(student, teacher).item() == pytest.approx(198.0, rel=1e-7)
    norms = 2 * (1 / 4) ** 2  # of (1/4, -1/4), squared
    assert_terms(terms, {name: [9 * (1 + norms / (norms + EPS))] * 2 for name in terms})


def test_correlation_needs_the_shape_only() -> None:
    """Probabilities with the same mean correlate 1 at any spread: (1/2, 1/3, 1/6) and (5/12, 4/12, 3/12)."""
    student = torch.tensor([[6.0, 4.0, 2.0]], dtype=torch.float64).log()
    teacher = torch.tensor([[5.0, 4.0, 3.0]], dtype=torch.float64).log()
    assert dist_terms(student, teacher, temperature=1.0)["inter"].item() == pytest.approx(0, abs=1e-6)


def test_defaults_are_the_paper_s() -> None:
    student, teacher, _ = draw(0, 4, 5)
    assert_value(DISTLoss()(student, teacher), DISTLoss(2.0, 2.0, 4.0)(student, teacher).item())
    assert not DISTLoss().per_example
    assert not DISTLoss().needs_labels


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("who", ["student", "teacher", "both"])
def test_a_constant_column_correlates_zero(dtype: torch.dtype, who: str) -> None:
    """All examples alike: every column of probabilities is constant, so intra is T^2 * (1 - 0), with a small gradient."""
    student, teacher, _ = (x.to(dtype) if x.is_floating_point() else x for x in draw(1, 5, 6))
    if who != "teacher":
        student = student[:1].repeat(5, 1)
    if who != "student":
        teacher = teacher[:1].repeat(5, 1)
    student.requires_grad_()
    intra = dist_terms(student, teacher, temperature=2.0)["intra"]
    assert intra.tolist() == pytest.approx([4.0] * 5, abs=1e-6)
    gradient = torch.autograd.grad(DISTLoss(0.0, 1.0, 2.0)(student, teacher), student)[0]
    assert gradient.isfinite().all()
    assert gradient.abs().max() <= 10


def test_a_uniform_row_correlates_zero() -> None:
    student, teacher, _ = draw(2, 3, 5)
    student[1] = 0.7
    terms = dist_terms(student.requires_grad_(), teacher, temperature=2.0)
    assert terms["inter"][1].item() == pytest.approx(4.0, abs=1e-6)
    gradient = torch.autograd.grad(terms["inter"].sum(), student)[0]
    assert gradient.isfinite().all()
    assert gradient.abs().max() <= 10


def test_one_constant_column_leaves_the_others_as_they_are() -> None:
    """A class that every example gives the same probability: 0 in the mean over classes, not a NaN."""
    ps = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.1, 0.4], [0.5, 0.2, 0.3]], dtype=torch.float64)
    pt = torch.tensor([[0.2, 0.7, 0.1], [0.6, 0.1, 0.3], [0.3, 0.2, 0.5]], dtype=torch.float64)
    others = [pearson(ps[:, c].tolist(), pt[:, c].tolist()) for c in (1, 2)]
    expected = 1 - sum(others) / 3
    assert dist_terms(ps.log(), pt.log(), temperature=1.0)["intra"][0].item() == pytest.approx(expected, rel=1e-6)


def test_a_batch_of_one_is_finite() -> None:
    student, teacher, _ = draw(3, 1, 5)
    value = DISTLoss()(student.requires_grad_(), teacher)
    assert value.isfinite()
    assert torch.autograd.grad(value, student)[0].isfinite().all()
