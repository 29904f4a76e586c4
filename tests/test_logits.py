"""The tensor algebra against loops on plain floats."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from logitkd.logits import filled_ranks, group_kl, remove_, standardize, temper, top_classes, widen
from naive import between, directed, draw, kd, masses, mean, quick, ranked, seeds, softmax, temperatures


@pytest.mark.parametrize(
    ("came", "computed"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_computed_in_float32_or_wider(came: torch.dtype, computed: torch.dtype) -> None:
    logits = torch.tensor([[0.5, -2.0]], dtype=came)
    assert widen(logits).dtype == computed
    assert widen(logits).tolist() == logits.tolist()
    assert group_kl(logits, logits).kl.dtype == computed
    assert standardize(logits).dtype == computed


def test_temper_divides_and_cuts_the_teacher_off() -> None:
    student, teacher, _ = draw(0, 2, 3)
    soft_student, soft_teacher = temper(student.requires_grad_(), teacher.requires_grad_(), 4.0)
    assert soft_student.tolist() == (student / 4).tolist()
    assert soft_teacher.tolist() == (teacher / 4).tolist()
    assert soft_student.requires_grad
    assert not soft_teacher.requires_grad


def test_temper_gives_both_one_dtype() -> None:
    student, teacher = torch.zeros(1, 3, dtype=torch.float16), torch.zeros(1, 3, dtype=torch.float64)
    assert {logits.dtype for logits in temper(student, teacher, 2.0)} == {torch.float64}


@pytest.mark.parametrize("as_mask", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_removed_classes_have_probability_zero_and_stay_finite(as_mask: bool, dtype: torch.dtype) -> None:
    logits = 1e4 * draw(1, 3, 6)[0].to(dtype)
    classes = torch.tensor([[0, 2], [1, 5], [4, 3]])
    mask = torch.zeros(3, 6, dtype=torch.bool).scatter_(1, classes, True)
    kept = logits[~mask].tolist()
    changed = logits.clone()
    remove_(changed, mask if as_mask else classes)
    assert changed.isfinite().all()
    assert changed[~mask].tolist() == kept
    assert changed.softmax(-1)[mask].tolist() == [0.0] * 6
    assert (changed[mask] - changed[mask]).tolist() == [0.0] * 6


@quick
@given(c=st.integers(1, 9), k=st.integers(1, 9), largest=st.booleans(), seed=seeds)
def test_top_classes_are_ordered(c: int, k: int, largest: bool, seed: int) -> None:
    logits = draw(seed, 3, c)[0]
    order = [ranked(z) if largest else ranked(z)[::-1] for z in logits.tolist()]
    assert top_classes(logits, min(k, c), largest=largest).tolist() == [classes[:k] for classes in order]


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("spare", [0, 1])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_classes_are_among_those_there_are(largest: bool, spare: int, k: int) -> None:
    logits = draw(6, 5, 5)[0]
    for n in range(5):
        logits[n, torch.randperm(5, generator=torch.Generator().manual_seed(n))[:n]] = -math.inf
    classes = top_classes(logits, k, largest=largest, spare=spare)
    filled = filled_ranks(classes)
    for n, z in enumerate(logits.tolist()):
        order = [c for c in (ranked(z) if largest else ranked(z)[::-1]) if z[c] > -math.inf]
        expected = order[: max(min(k, len(order) - spare), 1)]
        assert classes[n][filled[n]].tolist() == expected
        assert filled[n].sum() == len(expected)
        assert classes[n][~filled[n]].tolist() == [expected[0]] * (k - len(expected))


@pytest.mark.parametrize("kl_type", ["forward", "reverse", "both", "cross"])
def test_a_class_that_only_the_student_lacks_makes_it_infinite_not_huge(kl_type: str) -> None:
    """Where nobody looks at values, on a GPU, an overflowed student must not pass for a masked class."""
    student, teacher, _ = draw(7, 3, 5)
    student[1, 2] = -math.inf
    kl = group_kl(student.float(), teacher.float(), 4.0, kl_type=kl_type).kl
    if kl_type == "reverse":  # the student's probability of that class is 0, and 0 times anything is 0
        assert kl.isfinite().all()
    else:
        assert kl.isfinite().tolist() == [True, False, True]


@quick
@given(
    c=st.integers(2, 9),
    removed=st.integers(0, 8),
    temperature=temperatures,
    kl_type=st.sampled_from(["forward", "reverse", "both"]),
    as_mask=st.booleans(),
    seed=seeds,
)
def test_group_kl_equals_the_definition(c, removed, temperature, kl_type, as_mask, seed) -> None:
    student, teacher, _ = draw(seed, 3, c)
    chosen = [ranked(t)[: min(removed, c - 1)] for t in teacher.tolist()]
    without: Tensor = torch.tensor(chosen, dtype=torch.int64)
    if as_mask:
        without = torch.zeros(3, c, dtype=torch.bool).scatter_(1, without, True)
    result = group_kl(student, teacher, temperature, without=without if chosen[0] else None, kl_type=kl_type)
    for n, (s, t) in enumerate(zip(student.tolist(), teacher.tolist(), strict=True)):
        inside = [[z[k] for k in range(c) if k not in chosen[n]] for z in (s, t)]
        ps, pt = (softmax(z, temperature) for z in inside)
        log_mass = [math.log(sum(math.exp(v / temperature) for v in z)) for z in inside]
        assert result.kl[n].item() == pytest.approx(directed(ps, pt, kl_type), rel=1e-9, abs=1e-12)
        assert result.student_mass[n].item() == pytest.approx(log_mass[0], rel=1e-9, abs=1e-12)
        assert result.teacher_mass[n].item() == pytest.approx(log_mass[1], rel=1e-9, abs=1e-12)


def test_group_kl_by_hand() -> None:
    """Over classes 0 and 2 of (3, 9, 1) / 13 against (1, 9, 1) / 11: (3/4, 1/4) against (1/2, 1/2)."""
    teacher = torch.tensor([[3.0, 9.0, 1.0]], dtype=torch.float64).log()
    student = torch.tensor([[1.0, 9.0, 1.0]], dtype=torch.float64).log()
    result = group_kl(student, teacher, without=torch.tensor([[1]]))
    assert result.kl.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert result.student_mass.item() == pytest.approx(math.log(2))
    assert result.teacher_mass.item() == pytest.approx(math.log(4))


@quick
@given(temperature=temperatures, seed=seeds, cut=st.integers(1, 5))
def test_chain_rule_of_masses(temperature: float, seed: int, cut: int) -> None:
    """``KL = KL(groups) + sum_G bt_G * KL(within G)``, with the masses as the groups' logits."""
    student, teacher, _ = draw(seed, 2, 6)
    order = torch.tensor([ranked(t) for t in teacher.tolist()])
    groups = [group_kl(student, teacher, temperature, without=order[:, part]) for part in (slice(cut, None), slice(cut))]
    masses_s, masses_t = (torch.stack(m, -1) for m in zip(*[(g.student_mass, g.teacher_mass) for g in groups], strict=True))
    group = group_kl(masses_s, masses_t).kl
    for n, (s, t) in enumerate(zip(student.tolist(), teacher.tolist(), strict=True)):
        split = [ranked(t)[:cut], ranked(t)[cut:]]
        assert group[n].item() == pytest.approx(between(s, t, split, temperature) / temperature**2, rel=1e-9, abs=1e-12)
        inner = sum(b * g.kl[n].item() for b, g in zip(masses(t, split, temperature), groups, strict=True))
        assert group[n].item() + inner == pytest.approx(kd(s, t, temperature) / temperature**2, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kl_type", ["forward", "reverse", "both"])
@pytest.mark.parametrize("temperature", [0.5, 3.0])
@pytest.mark.parametrize("removed", [0, 2])
def test_the_written_gradient_is_that_of_the_formula(kl_type: str, temperature: float, removed: int) -> None:
    student, teacher, _ = draw(2, 3, 6)
    student.requires_grad_(), teacher.requires_grad_()
    without = top_classes(teacher, removed) if removed else None
    mask = torch.zeros(3, 6, dtype=torch.bool)
    if without is not None:
        mask = mask.scatter(1, without, True)
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    ours = group_kl(student, teacher, temperature, without=without, kl_type=kl_type)
    total = (weight * (ours.kl + 3 * ours.student_mass)).sum()
    ours_gradient = torch.autograd.grad(total, [student, teacher], allow_unused=True)
    soft = [(z / temperature).masked_fill(mask, float("-inf")) for z in (student, teacher.detach())]
    a, b = (torch.stack([row[~m].log_softmax(-1) for row, m in zip(z, mask, strict=True)]) for z in soft)
    forward, reverse = (b.exp() * (b - a)).sum(-1), (a.exp() * (a - b)).sum(-1)
    kl = {"forward": forward, "reverse": reverse, "both": (forward + reverse) / 2}[kl_type]
    expected = torch.autograd.grad((weight * (kl + 3 * soft[0].logsumexp(-1))).sum(), student)[0]
    torch.testing.assert_close(ours_gradient[0], expected, rtol=1e-10, atol=1e-12)
    assert ours_gradient[1] is None or not ours_gradient[1].any()


def test_a_group_of_one_class_is_exactly_zero() -> None:
    student, teacher, _ = draw(3, 2, 4)
    result = group_kl(student.requires_grad_(), teacher, without=torch.tensor([[0, 1, 2], [1, 2, 3]]))
    assert result.kl.tolist() == [0, 0]
    assert torch.autograd.grad(result.kl.sum(), student)[0].tolist() == [[0] * 4] * 2


def test_inputs_are_left_as_they_came() -> None:
    student, teacher, _ = draw(4, 2, 4)
    before = student.tolist(), teacher.tolist()
    group_kl(student, teacher, 2.0, without=torch.tensor([[0], [1]]))
    standardize(student)
    assert (student.tolist(), teacher.tolist()) == before


@quick
@given(n=st.integers(1, 4), c=st.integers(2, 11), eps=st.sampled_from([1e-7, 2**-7]), seed=seeds)
def test_standardize_equals_the_definition(n: int, c: int, eps: float, seed: int) -> None:
    logits = draw(seed, n, c)[0]
    for row, z in zip(standardize(logits, eps).tolist(), logits.tolist(), strict=True):
        std = math.sqrt(sum((v - mean(z)) ** 2 for v in z) / (c - 1))
        assert row == pytest.approx([(v - mean(z)) / (std + eps) for v in z], rel=1e-9, abs=1e-12)


def test_standardize_adds_eps_in_the_precision_of_the_logits() -> None:
    """(0, 2, 1) / 100 has an unbiased std of 1/100, so with eps 1/100 the largest becomes 1/2."""
    logits = torch.tensor([[0.0, 0.02, 0.01]], dtype=torch.float64)
    assert standardize(logits, eps=0.01)[0, 1].item() == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -1234.5])
def test_standardize_only_centres_a_constant_row(dtype: torch.dtype, value: float) -> None:
    logits = torch.full((1, 7), value, dtype=dtype, requires_grad=True)
    result = standardize(logits)
    assert result.abs().max() < 1e-3
    for c in range(7):
        gradient = torch.autograd.grad(result[0, c], logits, retain_graph=True)[0]
        assert gradient.abs().max() <= 1
        assert gradient.sum().abs() < 1e-6


def test_standardize_takes_no_overflow_for_a_mask() -> None:
    """Three times 3e38 is beyond float32: a mean of infinity would turn every logit into -inf, which is a masked class."""
    assert standardize(torch.full((1, 3), 3e38)).isnan().all()


def test_standardize_keeps_rows_apart() -> None:
    """A constant row among others changes neither them nor their gradient."""
    logits = draw(5, 3, 6)[0]
    logits[1] = 2.0
    expected = standardize(logits[[0, 2]]).tolist()
    result = standardize(logits.requires_grad_())
    assert result[[0, 2]].tolist() == expected
    assert torch.autograd.grad(result.square().mul(result).sum(), logits)[0].isfinite().all()
