"""MLKD against its definition, with each way to mask."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitkd.losses import MLKDLoss, mlkd_terms
from naive import assert_terms, assert_value, draw, kd, mean, quick, seeds, softmax

QUANTILES = [0.0, 0.3, 0.5, 1.0]


def at_or_below(values: list[float], q: float) -> list[float]:
    """1 for each value at or below the (linearly interpolated) quantile, else 0."""
    place = q * (len(values) - 1)
    low = sorted(values)[math.floor(place)]
    high = sorted(values)[math.ceil(place)]
    limit = low + (high - low) * (place - math.floor(place)) + 1e-12
    return [float(v <= limit) for v in values]


def gram(a: list[list[float]], x: int, y: int) -> float:
    return sum(u * v for u, v in zip(a[x], a[y], strict=True))


def reference(student, teacher, temperatures, masking="rows", confidence=0.5, class_confidence=0.5):
    n = len(student)
    there = [k for k in range(student.shape[1]) if student[:, k].isfinite().any()]  # a class that no example has is none
    c = len(there)
    rows, classes = [1.0] * n, [1.0] * c
    if masking != "none":
        sure = [softmax(t) for t in teacher.tolist()]  # at temperature 1
        rows = at_or_below([max(p) for p in sure], confidence)
        classes = at_or_below([sum(p[k] for p in sure) for k in there], class_confidence)
    if masking == "share":
        rows, classes = [mean(rows)] * n, [mean(classes)] * c
    terms = {"kd": [0.0] * n, "bc": [0.0] * n, "cc": [0.0] * n}
    for temperature in temperatures:
        ps, pt = ([softmax(z, temperature) for z in logits.tolist()] for logits in (student, teacher))
        columns_s, columns_t = ([[row[k] for row in p] for k in there] for p in (ps, pt))
        cc = sum(classes[a] * (gram(columns_t, a, b) - gram(columns_s, a, b)) ** 2 for a in range(c) for b in range(c))
        for i in range(n):
            own = [[v for v in z[i].tolist() if v > -math.inf] for z in (student, teacher)]
            terms["kd"][i] += rows[i] * kd(*own, temperature)
            terms["bc"][i] += rows[i] * sum((gram(pt, i, m) - gram(ps, i, m)) ** 2 for m in range(n))
            terms["cc"][i] += cc / c
    return terms


@quick
@given(
    n=st.integers(1, 5),
    c=st.integers(2, 9),
    temperatures=st.lists(st.sampled_from([1.0, 2.0, 3.5, 6.0]), min_size=1, max_size=3),
    masking=st.sampled_from(["rows", "share", "none"]),
    confidence=st.sampled_from(QUANTILES),
    class_confidence=st.sampled_from(QUANTILES),
    seed=seeds,
)
def test_equals_the_definition(n, c, temperatures, masking, confidence, class_confidence, seed) -> None:
    student, teacher, _ = draw(seed, n, c)
    expected = reference(student, teacher, temperatures, masking, confidence, class_confidence)
    options = {"masking": masking, "confidence": confidence, "class_confidence": class_confidence}
    assert_terms(mlkd_terms(student, teacher, temperatures=temperatures, **options), expected)
    assert_value(MLKDLoss(temperatures, **options)(student, teacher), sum(mean(v) for v in expected.values()))


@pytest.mark.parametrize("masking", ["rows", "share", "none"])
def test_a_masked_class_has_no_probability_and_one_that_no_example_has_is_none(masking) -> None:
    missing = torch.tensor([[0, 0, 1, 1, 0, 1], [1, 0, 0, 1, 0, 1], [0, 0, 0, 0, 1, 1]]).bool()
    student, teacher = (z.masked_fill(missing, -math.inf) for z in draw(2, 3, 6)[:2])
    for class_confidence in QUANTILES:
        options = {"masking": masking, "class_confidence": class_confidence}
        expected = reference(student, teacher, [2.0], **options)
        assert_terms(mlkd_terms(student, teacher, temperatures=[2.0], **options), expected)


def test_by_hand() -> None:
    """Teacher rows (3/4, 1/4) and (1/4, 3/4), a uniform student, temperature 1, nothing masked.

    Teacher Gram of examples (5/8, 3/8; 3/8, 5/8), the student's all 1/2: four squares of 1/8; the Gram of classes is the
    same by symmetry. Neither carries a temperature squared.
    """
    teacher = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]], dtype=torch.float64)
    student = torch.zeros_like(teacher)
    divergence = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)
    expected = {"kd": [divergence] * 2, "bc": [2 / 64] * 2, "cc": [4 / 64 / 2] * 2}
    assert_terms(mlkd_terms(student, teacher, temperatures=(1.0,), masking="none"), expected)
    assert_value(MLKDLoss((1.0,), "none")(student, teacher), divergence + 2 / 64 + 2 / 64)


def test_gram_terms_carry_no_temperature_squared() -> None:
    student, teacher, _ = draw(0, 3, 4)
    warm = mlkd_terms(3 * student, 3 * teacher, temperatures=(3.0,), masking="none")
    plain = mlkd_terms(student, teacher, temperatures=(1.0,), masking="none")
    assert_terms(warm, {"kd": (9 * plain["kd"]).tolist(), "bc": plain["bc"].tolist(), "cc": plain["cc"].tolist()})


def test_defaults_are_the_paper_s() -> None:
    student, teacher, _ = draw(1, 5, 6)
    expected = reference(student, teacher, (2.0, 3.0, 4.0, 5.0, 6.0))
    assert_terms(mlkd_terms(student, teacher), expected)
    assert_value(MLKDLoss()(student, teacher), sum(mean(v) for v in expected.values()))
    assert not MLKDLoss().per_example


def test_rows_masks_the_examples_the_teacher_is_sure_of() -> None:
    teacher = torch.tensor([[9.0, 0.0, 0.0], [1.0, 0.9, 0.0], [8.0, 0.0, 1.0]], dtype=torch.float64)
    student, _, _ = draw(2, 3, 3)
    terms = mlkd_terms(student, teacher, confidence=0.0)
    assert [v > 0 for v in terms["kd"].tolist()] == [False, True, False]
    assert [v > 0 for v in terms["bc"].tolist()] == [False, True, False]


def test_share_scales_every_term_by_the_share_of_kept_entries() -> None:
    student, teacher, _ = draw(3, 4, 5)
    share, whole = (mlkd_terms(student, teacher, masking=masking) for masking in ("share", "none"))
    scale = {"kd": 2 / 4, "bc": 2 / 4, "cc": 3 / 5}  # half of 4 examples; 3 of 5 classes are at or below the median
    assert_terms(share, {name: (scale[name] * whole[name]).tolist() for name in whole})


def test_keeping_everything_is_no_mask() -> None:
    student, teacher, _ = draw(4, 4, 5)
    kept = mlkd_terms(student, teacher, confidence=1.0, class_confidence=1.0)
    assert_terms(kept, {k: v.tolist() for k, v in mlkd_terms(student, teacher, masking="none").items()})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"masking": "row"},
            r"`masking` must be one of 'rows', 'share', 'none', got 'row'\. Did you mean `rows`\?",
        ),
        ({"temperatures": ()}, r"`temperatures` must be a list of at least one temperature, got \(\)\."),
        ({"temperatures": (2.0, 0.0)}, r"`temperatures` must be above 0, got 0\.0\."),
        ({"confidence": 1.5}, r"`confidence` must be in \[0, 1\] \(a quantile\), got 1\.5\."),
        ({"class_confidence": -0.5}, r"`class_confidence` must be in \[0, 1\] \(a quantile\), got -0\.5\."),
    ],
)
def test_refused_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        MLKDLoss(**options)
