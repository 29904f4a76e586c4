"""LDRLD against its definition, with the loop over pairs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitkd.losses import LDRLDLoss, ldrld_terms
from naive import assert_terms, assert_value, batches, draw, kd, mean, quick, ranked, seeds, temperatures, within


def reference(student, teacher, depth, temperature, rank_by="student", delta=2.0, decay=0.05, eps=1.5):
    terms: dict[str, list[float]] = {"pairs": [], "llki": [], "rntk": []}
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        order = ranked(s if rank_by == "student" else t)
        pairs = 0.0
        for i in range(1, depth + 1):
            for j in range(i + 1, depth + 1):
                irw = 1 / (abs(i - j) + eps)
                erd = delta * math.exp(-decay * (i + j))
                pairs += irw * erd * within(s, t, [order[i - 1], order[j - 1]], temperature)
        combinations = len(list(itertools.combinations(range(depth), 2))) + 1  # every pair, and all of them together
        terms["pairs"].append(pairs / combinations)
        together = within(s, t, order[:depth], temperature)
        terms["llki"].append((together if depth > 2 else pairs) / combinations)  # two classes are a pair, and weigh as one
        terms["rntk"].append(within(s, t, order[depth:], temperature) if depth < len(s) else 0.0)
    return terms


@st.composite
def sizes(draw_: st.DrawFn) -> tuple[int, int]:
    """C and a depth in [2, C], with the ends drawn often."""
    c = draw_(st.integers(2, 13))
    return c, draw_(st.sampled_from([2, max(2, c - 1), c]) | st.integers(2, c))


@quick
@given(
    n=batches,
    size=sizes(),
    temperature=temperatures,
    rank_by=st.sampled_from(["student", "teacher"]),
    weights=st.tuples(st.floats(0, 9), st.floats(0, 9)),
    pair=st.tuples(st.floats(0.1, 4), st.floats(0, 1), st.floats(0.1, 4)),
    seed=seeds,
)
def test_equals_the_definition(n, size, temperature, rank_by, weights, pair, seed) -> None:
    c, depth = size
    student, teacher, _ = draw(seed, n, c)
    expected = reference(student, teacher, depth, temperature, rank_by, *pair)
    options = dict(
        zip(("delta", "decay", "rank_eps"), pair, strict=True), depth=depth, temperature=temperature, rank_by=rank_by
    )
    assert_terms(ldrld_terms(student, teacher, **options), expected)
    alpha, beta = weights
    total = alpha * (mean(expected["pairs"]) + mean(expected["llki"])) + beta * mean(expected["rntk"])
    assert_value(LDRLDLoss(alpha, beta, **options)(student, teacher), total)


def test_the_paper_s_pair_weights_are_the_default() -> None:
    student, teacher, _ = draw(0, 3, 9)
    assert_terms(ldrld_terms(student, teacher, depth=4), reference(student, teacher, 4, 4.0, "student", 2.0, 0.05, 1.5))


def test_by_hand() -> None:
    """Student ranks 2, 0, 1; the pair (2, 0) is (3/4, 1/4) for the teacher and (2/3, 1/3) for the student."""
    student = torch.tensor([[2.0, 1.0, 4.0]], dtype=torch.float64).log()
    teacher = torch.tensor([[1.0, 5.0, 3.0]], dtype=torch.float64).log()
    pair = 3 / 4 * math.log(9 / 8) + 1 / 4 * math.log(3 / 4)
    weight = 2.0 * math.exp(-0.05 * 3) / (1 + 1.5)  # ranks 1 and 2
    expected = {"pairs": [weight * pair / 2], "llki": [weight * pair / 2], "rntk": [0.0]}  # one pair, and both together
    assert_terms(ldrld_terms(student, teacher, depth=2, temperature=1.0), expected)


def test_two_classes_are_one_pair() -> None:
    student, teacher, _ = draw(1, 3, 2)
    expected = [kd(s, t, 4.0) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    weight = 2.0 * math.exp(-0.15) / 2.5
    terms = ldrld_terms(student, teacher, depth=2)
    half = [weight * v / 2 for v in expected]
    assert_terms(terms, {"pairs": half, "llki": half, "rntk": [0.0] * 3})


@pytest.mark.parametrize("rank_by", ["student", "teacher"])
def test_at_full_depth_the_classes_together_are_kd_and_nothing_remains(rank_by: str) -> None:
    student, teacher, _ = draw(2, 3, 6)
    student.requires_grad_()
    terms = ldrld_terms(student, teacher, depth=6, rank_by=rank_by)
    expected = [kd(s, t, 4.0) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert terms["rntk"].tolist() == [0, 0, 0]
    assert_terms({"llki": 16 * terms["llki"]}, {"llki": expected})  # 15 pairs and all together
    gradient = torch.autograd.grad(LDRLDLoss(depth=6, rank_by=rank_by)(student, teacher), student)[0]
    assert gradient.isfinite().all()


def test_one_class_left_has_nothing_to_learn() -> None:
    student, teacher, _ = draw(3, 3, 6)
    assert ldrld_terms(student, teacher, depth=5)["rntk"].tolist() == [0, 0, 0]


def test_student_and_teacher_rank_differently() -> None:
    student, teacher, _ = draw(4, 3, 9)
    by_student = LDRLDLoss(depth=3)(student, teacher).item()
    assert LDRLDLoss(depth=3, rank_by="teacher")(student, teacher).item() != pytest.approx(by_student, rel=1e-3)


def test_ranked_by_the_teacher_the_rest_does_not_touch_pairs_or_local_term() -> None:
    """What makes a cache of the teacher's first classes enough for them."""
    student, teacher, _ = draw(5, 2, 8)
    before = ldrld_terms(student, teacher, depth=3, rank_by="teacher")
    changed = teacher.clone()
    for row in range(2):
        changed[row, ranked(teacher[row].tolist())[3:]] -= 20
    after = ldrld_terms(student, changed, depth=3, rank_by="teacher")
    for name in ("pairs", "llki"):
        assert_terms({name: after[name]}, {name: before[name].tolist()})


def test_ties_are_finite() -> None:
    student = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    value = LDRLDLoss(depth=3)(student, torch.zeros(2, 6, dtype=torch.float64))
    assert value.item() == 0
    assert torch.autograd.grad(value, student)[0].isfinite().all()


@pytest.mark.parametrize("left", [1, 2, 3, 5])
def test_an_example_with_fewer_classes_than_depth_has_as_many_ranks_and_combinations(left: int) -> None:
    student, teacher, _ = draw(8, 3, 6)
    whole = [torch.full((3, 8), -torch.inf, dtype=torch.float64) for _ in range(2)]
    for logits, source in zip(whole, (student, teacher), strict=True):
        logits[:, 1 : 1 + left] = source[:, :left]
    terms = ldrld_terms(*whole, depth=4)
    if left == 1:  # nothing to compare
        assert {name: value.tolist() for name, value in terms.items()} == {"pairs": [0] * 3, "llki": [0] * 3, "rntk": [0] * 3}
    else:
        few = (logits[:, :left] for logits in (student, teacher))
        assert_terms(terms, reference(*few, min(4, left), 4.0))


def test_in_bfloat16_only_examples_that_change_ranks_are_far_off() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (scale * torch.randn(1024, 100, generator=generator) for scale in (2, 3))

    def gradient(dtype):
        logits = student.to(dtype).requires_grad_()
        return torch.autograd.grad(LDRLDLoss()(logits, teacher.to(dtype)), logits)[0].float()

    def error(rows):
        return ((exact - rounded)[rows].norm() / exact[rows].norm()).item()

    exact, rounded = gradient(torch.float32), gradient(torch.bfloat16)
    moved = (student.topk(7).indices != student.bfloat16().float().topk(7).indices).any(-1)
    assert 0.05 < moved.float().mean() < 0.2
    assert error(~moved) < 0.01
    assert error(moved) > 0.05


@pytest.mark.parametrize("depth", [11, 100])
def test_depth_beyond_the_classes_is_refused(depth: int) -> None:
    student, teacher, _ = draw(6, 2, 10)
    with pytest.raises(ValueError, match=rf"^`depth` must be in \[2, 10\] \(num_classes\), got {depth}\.$"):
        LDRLDLoss(depth=depth)(student, teacher)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 1}, r"`depth` must be .*2.*, got 1\."),
        ({"rank_by": "label"}, r"`rank_by` must be one of 'student', 'teacher', got 'label'"),
        ({"temperature": 0.0}, r"`temperature` must be above 0, got 0\.0\."),
        ({"rank_eps": -2.0}, r"`rank_eps` must be"),
        ({"decay": float("nan")}, r"`decay` must be at least 0, got nan"),
    ],
)
def test_refused_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        LDRLDLoss(**options)
