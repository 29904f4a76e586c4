"""iCD against its definition: the Gram term, its scale weights, and what it may be added to."""

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
    GDKDLoss,
    ICDLoss,
    KDLoss,
    LDRLDLoss,
    LogitLoss,
    SDDLoss,
    gram_terms,
)
from naive import assert_terms, assert_value, draw, kl, mean, quick, seeds, softmax

AUTHORS = {(1, 2, 4): (1 / 6, 2 / 6, 3 / 6), (1, 2): (1 / 3, 2 / 3), (1, 4): (1 / 4, 3 / 4)}


def gram_rows(cells: list[list[float]], temperature: float) -> list[list[float]]:
    unit = [[v / math.sqrt(sum(u * u for u in z)) for v in z] for z in cells]
    return [softmax([sum(a * b for a, b in zip(x, y, strict=True)) for y in unit], temperature) for x in unit]


def gram_of_scale(student: list[list[float]], teacher: list[list[float]], temperature: float) -> float:
    rows = zip(gram_rows(teacher, temperature), gram_rows(student, temperature), strict=True)
    return sum(kl(t, s) for t, s in rows)


def reference(student: Tensor, teacher: Tensor, scales, weights, temperature: float = 2.0) -> list[float]:
    values = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        value, start = 0.0, 0
        for m, w in zip(scales, weights, strict=True):
            value += w * gram_of_scale(s[start : start + m * m], t[start : start + m * m], temperature)
            start += m * m
        values.append(value)
    return values


def regions(seed: int, n: int, scales, c: int) -> tuple[Tensor, Tensor, Tensor]:
    return draw(seed, n, sum(m * m for m in scales), c)


@quick
@given(
    n=st.integers(1, 4),
    c=st.integers(2, 9),
    scales=st.sampled_from(list(AUTHORS)),
    temperature=st.sampled_from([0.5, 2.0, 5.0]),
    seed=seeds,
)
def test_equals_the_definition_with_the_authors_weights(n, c, scales, temperature, seed) -> None:
    student, teacher, _ = regions(seed, n, scales, c)
    expected = reference(student, teacher, scales, AUTHORS[scales], temperature)
    assert_terms(gram_terms(student, teacher, scales=scales, temperature=temperature), {"gram": expected})


@quick
@given(
    scales=st.sampled_from([(1, 2), (2, 3), (1, 3, 4), (2,)]),
    weights=st.lists(st.floats(0.1, 3), min_size=3, max_size=3),
    seed=seeds,
)
def test_equals_the_definition_with_given_weights(scales, weights, seed) -> None:
    student, teacher, _ = regions(seed, 2, scales, 5)
    weights = weights[: len(scales)]
    expected = reference(student, teacher, scales, weights)
    assert_terms(gram_terms(student, teacher, scales=scales, scale_weights=weights), {"gram": expected})


@pytest.mark.parametrize("scales", [(1, 2, 4, 8), (1, 3), (2, 4), (1, 7)])
def test_other_scales_get_weights_that_sum_to_one(scales: tuple[int, ...]) -> None:
    """The documented default: 1 + log2(m), normalised; the authors' table is its three cases."""
    raw = [1 + math.log2(m) for m in scales]
    student, teacher, _ = regions(0, 1, scales, 3)
    expected = reference(student, teacher, scales, [w / sum(raw) for w in raw])
    assert_terms(gram_terms(student, teacher, scales=scales), {"gram": expected})


@pytest.mark.parametrize(("scales", "weights"), [((1, 2, 4), (0, 2 / 5, 3 / 5)), ((1, 2), (0, 1)), ((2, 4), (2 / 5, 3 / 5))])
def test_skip_trivial_gives_the_idle_weight_to_the_others(scales, weights) -> None:
    student, teacher, _ = regions(1, 2, scales, 5)
    expected = reference(student, teacher, scales, weights)
    assert_terms(gram_terms(student, teacher, scales=scales, skip_trivial=True), {"gram": expected})


@pytest.mark.parametrize("skip_trivial", [False, True])
def test_the_whole_image_alone_is_exactly_zero(skip_trivial: bool) -> None:
    student, teacher, _ = regions(2, 3, (1,), 5)
    student.requires_grad_()
    terms = gram_terms(student, teacher, scales=(1,), skip_trivial=skip_trivial)
    assert terms["gram"].tolist() == [0, 0, 0]
    assert torch.autograd.grad(terms["gram"].sum(), student)[0].tolist() == torch.zeros(3, 1, 5).tolist()


def test_by_hand() -> None:
    """Four cells: the teacher's two directions, two cells each; the student's all alike.

    A teacher row is the softmax of (1, 1, 0, 0) / 2, the student's is uniform over four.
    """
    teacher = torch.tensor([[[3.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 5.0]]], dtype=torch.float64)
    student = torch.ones(1, 4, 2, dtype=torch.float64)
    near, far = (v / (2 * math.exp(0.5) + 2) for v in (math.exp(0.5), 1.0))
    row = 2 * near * math.log(4 * near) + 2 * far * math.log(4 * far)
    assert_terms(gram_terms(student, teacher, scales=(2,)), {"gram": [4 * row]})  # summed over both axes


def test_lengths_of_the_logits_do_not_matter() -> None:
    student, teacher, _ = regions(3, 2, (1, 2), 6)
    lengths = torch.rand(2, 5, 1, dtype=torch.float64) + 0.5
    before = gram_terms(student, teacher, scales=(1, 2))["gram"].tolist()
    assert_terms(gram_terms(lengths * student, teacher / lengths, scales=(1, 2)), {"gram": before})


@pytest.mark.parametrize("base", [KDLoss(), DKDLoss(), GDKDLoss(top_k=2), LDRLDLoss(depth=3)], ids=lambda b: type(b).__name__)
def test_added_to_sdd_it_is_the_paper_s_loss(base: LogitLoss) -> None:
    student, teacher, labels = regions(4, 3, (1, 2, 4), 6)
    inner = SDDLoss(base)
    gram = reference(student, teacher, (1, 2, 4), AUTHORS[1, 2, 4])
    inner_terms = {name: values.tolist() for name, values in inner.terms(student, teacher, labels).items()}
    loss = ICDLoss(inner, gram_weight=8.0)
    assert_terms(loss.terms(student, teacher, labels), {**inner_terms, "gram": gram})
    assert_value(loss(student, teacher, labels), inner(student, teacher, labels).item() + 8 * mean(gram))


def test_added_to_a_plain_loss_that_loss_reads_the_whole_image() -> None:
    student, teacher, labels = regions(5, 3, (1, 2, 4), 6)
    gram = mean(reference(student, teacher, (1, 2, 4), AUTHORS[1, 2, 4]))
    for base in (KDLoss(), DKDLoss(), DISTLoss()):
        expected = base(student[:, 0], teacher[:, 0], labels).item() + 2 * gram
        assert_value(ICDLoss(base)(student, teacher, labels), expected)


def test_every_option_reaches_the_gram_term() -> None:
    student, teacher, _ = regions(6, 2, (1, 2), 4)
    options = {"gram_weight": 3.0, "gram_temperature": 0.7, "scale_weights": (0.25, 4.0)}
    loss = ICDLoss(KDLoss(), scales=(1, 2), **options)
    gram = mean(reference(student, teacher, (1, 2), (0.25, 4.0), 0.7))
    assert_value(loss(student, teacher), KDLoss()(student[:, 0], teacher[:, 0]).item() + 3 * gram)
    skipping = ICDLoss(KDLoss(), scales=(1, 2), skip_trivial=True)
    assert_terms({"gram": skipping.terms(student, teacher)["gram"]}, {"gram": reference(student, teacher, (1, 2), (0, 1))})


def test_scales_labels_and_the_unscaled_term_are_those_of_the_parts() -> None:
    like = ICDLoss(SDDLoss(DKDLoss(), scales=(1, 2)))
    assert like.scales == (1, 2)
    assert like.needs_labels
    assert not ICDLoss(KDLoss()).needs_labels
    assert ICDLoss(KDLoss()).scales == (1, 2, 4)
    assert like.reads == "regions"
    assert like.unscaled_terms == {"gram"}
    assert like.term_weights == {"tckd": 1.0, "nckd": 8.0, "gram": 2.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ICDLoss(BlockKDLoss()), r"`loss` must read logits or regions, got BlockKDLoss"),
        (lambda: ICDLoss(ICDLoss(KDLoss())), r"`loss` must .*no Gram term yet, got ICDLoss\."),
        (
            lambda: ICDLoss(SDDLoss(KDLoss(), (1, 2)), scales=(1, 2, 4)),
            r"`scales` must be those of the inner loss, \(1, 2\), got \(1, 2, 4\)\. Leave it out\.",
        ),
        (lambda: ICDLoss(KDLoss(), scales=(2, 4)), r"`scales` must start with 1 .*, got \(2, 4\)\."),
        (lambda: ICDLoss(KDLoss(), scale_weights=(1.0, 2.0)), r"`scale_weights` must hold one weight a scale \(3\), got 2\."),
        (lambda: ICDLoss(KDLoss(), gram_weight=-1.0), r"`gram_weight` must be .*at least 0, got -1\.0\."),
        (lambda: ICDLoss(KDLoss(), gram_temperature=0.0), r"`.*temperature` must be above 0, got 0\.0\."),
    ],
)
def test_refused_compositions_and_options(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("who", [0, 1])
def test_a_region_whose_logits_are_all_zero_has_cosine_zero(who: int) -> None:
    """With every cell, itself among them: its row of the Gram matrix is uniform."""
    both = list(draw(9, 1, 4, 3)[:2])
    both[who][:, 2] = 0
    cells = [logits[0].tolist() for logits in both]
    rows = []
    for z in cells:
        norms = [math.sqrt(sum(v * v for v in row)) or 1.0 for row in z]
        unit = [[v / norm for v in row] for row, norm in zip(z, norms, strict=True)]
        rows.append([softmax([sum(a * b for a, b in zip(x, y, strict=True)) for y in unit], 2.0) for x in unit])
    expected = sum(kl(t, s) for s, t in zip(*rows, strict=True))
    assert_terms(gram_terms(*both, scales=(2,)), {"gram": [expected]})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_region_whose_logits_are_all_zero_has_a_small_gradient(dtype: torch.dtype) -> None:
    student, teacher, _ = regions(9, 2, (1, 2), 4)
    student[:, 2] = 0
    student, teacher = student.to(dtype).requires_grad_(), teacher.to(dtype)
    gradient = torch.autograd.grad(gram_terms(student, teacher, scales=(1, 2))["gram"].sum(), student)[0]
    assert gradient.abs().max() < 1e3


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_a_scale_weight_that_is_no_weight_is_refused(bad: float) -> None:
    """Below 0 it rewards a student for another structure than the teacher's; every other weight is checked."""
    student, teacher, _ = draw(8, 2, 5, 4)
    with pytest.raises(ValueError, match="`scale_weights` must be"):
        gram_terms(student, teacher, scales=(1, 2), scale_weights=(1.0, bad))


def test_refused_inputs() -> None:
    student, teacher, _ = draw(7, 2, 6, 4)
    with pytest.raises(ValueError, match=r"must have shape \(N, 5, C\).*got \(2, 6, 4\)\."):
        gram_terms(student, teacher, scales=(1, 2))
    with pytest.raises(ValueError, match=r"`scale_weights` must hold one weight a scale \(2\), got 1\."):
        gram_terms(student[:, :5], teacher[:, :5], scales=(1, 2), scale_weights=(1.0,))
