"""GDKD and GDKD3 against their definitions; the chain rule that makes them KD."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitkd.losses import GDKD3Loss, GDKDLoss, KDLoss, gdkd3_terms, gdkd_terms
from naive import (
    assert_terms,
    assert_value,
    batches,
    between,
    draw,
    kd,
    masses,
    mean,
    quick,
    ranked,
    seeds,
    softmax,
    temperatures,
    within,
)

kl_types = st.sampled_from(["forward", "reverse", "both"])
scalings = st.sampled_from(["none", "top", "rest", "both"])
three = st.tuples(st.floats(0, 9), st.floats(0, 9), st.floats(0, 9))


def nucleus(teacher: list[float], top_mass: float, temperature: float) -> int:
    """The fewest best classes whose probability reaches ``top_mass``: at least 1, at most C - 1."""
    p, reached = softmax(teacher, temperature), 0.0
    for size, c in enumerate(ranked(teacher), start=1):
        reached += p[c]
        if reached >= top_mass:
            return min(size, len(teacher) - 1)
    return len(teacher) - 1


def reference(student, teacher, top_k, temperature, strategy="best", kl_type="forward", scaling="none", top_mass=None):
    terms: dict[str, list[float]] = {"group": [], "top": [], "rest": []}
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        order = ranked(t) if strategy == "best" else ranked(t)[::-1]
        k = top_k if top_mass is None else nucleus(t, top_mass, temperature)
        groups = {"top": order[:k], "rest": order[k:]}
        terms["group"].append(between(s, t, list(groups.values()), temperature))  # forward whatever `kl_type`
        for name, group in groups.items():
            scale = masses(t, [group], temperature)[0] if scaling in (name, "both") else 1.0
            terms[name].append(scale * within(s, t, group, temperature, kl_type))
    return terms


@st.composite
def sizes(draw_: st.DrawFn) -> tuple[int, int]:
    """C and a top_k in [1, C - 1], with both ends drawn often."""
    c = draw_(st.integers(2, 13))
    return c, draw_(st.sampled_from([1, c - 1]) | st.integers(1, c - 1))


@quick
@given(
    n=batches,
    size=sizes(),
    temperature=temperatures,
    strategy=st.sampled_from(["best", "worst"]),
    kl_type=kl_types,
    scaling=scalings,
    weights=three,
    seed=seeds,
)
def test_equals_the_definition(n, size, temperature, strategy, kl_type, scaling, weights, seed) -> None:
    c, top_k = size
    student, teacher, _ = draw(seed, n, c)
    expected = reference(student, teacher, top_k, temperature, strategy, kl_type, scaling)
    options = {"top_k": top_k, "temperature": temperature, "strategy": strategy, "kl_type": kl_type, "teacher_mass": scaling}
    assert_terms(gdkd_terms(student, teacher, **options), expected)
    total = sum(w * mean(values) for w, values in zip(weights, expected.values(), strict=True))
    assert_value(GDKDLoss(*weights, **options)(student, teacher), total)


@quick
@given(
    n=batches,
    c=st.integers(2, 13),
    temperature=temperatures,
    top_mass=st.floats(0.01, 0.99),
    kl_type=kl_types,
    scaling=scalings,
    seed=seeds,
)
def test_group_size_by_mass_equals_the_definition(n, c, temperature, top_mass, kl_type, scaling, seed) -> None:
    student, teacher, _ = draw(seed, n, c)
    expected = reference(student, teacher, None, temperature, kl_type=kl_type, scaling=scaling, top_mass=top_mass)
    options = {"temperature": temperature, "kl_type": kl_type, "teacher_mass": scaling, "top_mass": top_mass}
    assert_terms(gdkd_terms(student, teacher, **options), expected)


@pytest.mark.parametrize(("top_mass", "size"), [(0.3, 1), (0.49, 1), (0.51, 2), (0.74, 2), (0.76, 3), (0.99, 3)])
def test_group_size_by_mass_by_hand(top_mass: float, size: int) -> None:
    """Probabilities (1/4, 1/2, 1/8, 1/8): cumulative 1/2, 3/4, 7/8, 1; never all four."""
    teacher = torch.tensor([[2.0, 4.0, 1.01, 0.99]], dtype=torch.float64).log()
    student = draw(0, 1, 4)[0]
    by_mass = gdkd_terms(student, teacher, temperature=1.0, top_mass=top_mass)
    by_size = gdkd_terms(student, teacher, temperature=1.0, top_k=size)
    assert_terms(by_mass, {name: values.tolist() for name, values in by_size.items()})


def test_group_size_by_mass_differs_between_examples() -> None:
    teacher = torch.tensor([[9.0, 0.0, 0.1, 0.2, 0.3], [0.5, 0.4, 0.3, 0.2, 0.1]], dtype=torch.float64)
    assert [nucleus(t, 0.5, 1.0) for t in teacher.tolist()] == [1, 3]
    student = draw(1, 2, 5)[0]
    expected = reference(student, teacher, None, 1.0, top_mass=0.5)
    assert_terms(gdkd_terms(student, teacher, temperature=1.0, top_mass=0.5), expected)


def test_by_hand() -> None:
    """Teacher (4, 2, 1, 1) / 8, student (1, 1, 2, 4) / 8 at temperature 2, two best classes."""
    teacher = 2 * torch.tensor([[4.0, 2.0, 1.0, 1.0]], dtype=torch.float64).log()
    student = 2 * torch.tensor([[1.0, 1.0, 2.0, 4.0]], dtype=torch.float64).log()
    group = 4 * (0.75 * math.log(3) + 0.25 * math.log(1 / 3))  # (3/4, 1/4) against (1/4, 3/4)
    top = 4 * (2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3))  # (2/3, 1/3) against (1/2, 1/2)
    rest = 4 * (0.5 * math.log(3 / 2) + 0.5 * math.log(3 / 4))  # (1/2, 1/2) against (1/3, 2/3)
    terms = gdkd_terms(student, teacher, top_k=2, temperature=2.0)
    assert_terms(terms, {"group": [group], "top": [top], "rest": [rest]})
    assert_value(GDKDLoss(top_k=2, temperature=2.0)(student, teacher), group + top + 8 * rest)


@quick
@given(size=sizes(), temperature=temperatures, strategy=st.sampled_from(["best", "worst"]), seed=seeds)
def test_weighed_by_the_teacher_s_masses_it_is_kd(size, temperature, strategy, seed) -> None:
    """The chain rule, for every top_k: by the option, and by multiplying with the masses by hand."""
    c, top_k = size
    student, teacher, _ = draw(seed, 3, c)
    expected = [kd(s, t, temperature) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    loss = GDKDLoss(1.0, 1.0, 1.0, top_k, temperature, strategy, teacher_mass="both")
    assert_value(loss(student, teacher), mean(expected))
    terms = gdkd_terms(student, teacher, top_k=top_k, temperature=temperature, strategy=strategy)
    for n, t in enumerate(teacher.tolist()):
        order = ranked(t) if strategy == "best" else ranked(t)[::-1]
        top, rest = masses(t, [order[:top_k], order[top_k:]], temperature)
        assert_value(terms["group"][n] + top * terms["top"][n] + rest * terms["rest"][n], expected[n])


@pytest.mark.parametrize("top_k", [1, 3, 6])
def test_weighed_by_the_teacher_s_masses_its_gradient_is_that_of_kd(top_k: int) -> None:
    student, teacher, _ = draw(2, 4, 7)
    student.requires_grad_()
    loss = GDKDLoss(1.0, 1.0, 1.0, top_k, teacher_mass="both")
    ours = torch.autograd.grad(loss(student, teacher), student)[0]
    theirs = torch.autograd.grad(KDLoss()(student, teacher), student)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_chain_rule_holds_with_a_group_size_per_example() -> None:
    student, teacher, _ = draw(3, 6, 9)
    loss = GDKDLoss(1.0, 1.0, 1.0, top_mass=0.6, teacher_mass="both")
    assert_value(loss(student, teacher), KDLoss()(student, teacher).item())


def test_a_single_class_has_nothing_to_learn_inside() -> None:
    student, teacher, _ = draw(4, 3, 7)
    assert gdkd_terms(student, teacher, top_k=1)["top"].tolist() == [0, 0, 0]
    assert gdkd_terms(student, teacher, top_k=6)["rest"].tolist() == [0, 0, 0]


def test_two_classes_are_kd() -> None:
    student, teacher, _ = draw(5, 3, 2)
    terms = gdkd_terms(student, teacher, top_k=1)
    assert_value(terms["group"].mean(), KDLoss()(student, teacher).item())
    assert terms["top"].tolist() == terms["rest"].tolist() == [0, 0, 0]


def test_worst_of_k_is_best_of_the_others_with_the_groups_exchanged() -> None:
    student, teacher, _ = draw(6, 3, 8)
    worst, best = gdkd_terms(student, teacher, top_k=3, strategy="worst"), gdkd_terms(student, teacher, top_k=5)
    swapped = {"group": worst["group"], "top": worst["rest"], "rest": worst["top"]}
    assert_terms(swapped, {name: values.tolist() for name, values in best.items()})


def test_tied_teacher_logits_still_split_into_top_k_and_the_rest() -> None:
    """Whichever of the tied classes are chosen, the group of k has k classes: its mass is k / C."""
    student, _, _ = draw(7, 1, 6)
    terms = gdkd_terms(torch.zeros_like(student), torch.zeros_like(student), top_k=4)
    assert_terms(terms, {"group": [0.0], "top": [0.0], "rest": [0.0]})
    uneven = gdkd_terms(student, torch.zeros_like(student), top_k=4, temperature=1.0, teacher_mass="both")
    assert_value(sum(uneven.values()).sum(), kd(student.tolist()[0], [0.0] * 6, 1.0))


def test_labels_are_not_used() -> None:
    student, teacher, labels = draw(8, 3, 7)
    loss = GDKDLoss(top_k=2)
    assert not loss.needs_labels
    assert_value(loss(student, teacher, labels), loss(student, teacher).item())


def test_defaults_are_the_paper_s() -> None:
    student, teacher, _ = draw(9, 3, 11)
    given_ = GDKDLoss(
        w_group=1, w_top=1, w_rest=8, top_k=5, temperature=4, strategy="best", kl_type="forward", teacher_mass="none"
    )
    assert_value(GDKDLoss()(student, teacher), given_(student, teacher).item())
    given3 = GDKD3Loss(w_group=1, w_top=1, w_rest=8, top_k=4, temperature=4)
    assert_value(GDKD3Loss()(student, teacher), given3(student, teacher).item())


def test_top_k_of_all_classes_is_refused() -> None:
    student, teacher, _ = draw(10, 2, 10)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared whole
        GDKDLoss(top_k=10)(student, teacher)
    assert str(caught.value) == "`top_k` must be in [1, 9] (num_classes - 1), got 10."


@pytest.mark.parametrize("top_k", [0, -3])
def test_top_k_below_one_is_refused(top_k: int) -> None:
    with pytest.raises(ValueError, match=rf"`top_k` must be .*1.*, got {top_k}\."):
        GDKDLoss(top_k=top_k)


@pytest.mark.parametrize("top_k", [1.5, True, "3"])
def test_top_k_must_be_an_integer(top_k: object) -> None:
    with pytest.raises(TypeError, match=r"`top_k` must be an integer, got"):
        GDKDLoss(top_k=top_k)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "bst"}, r"`strategy` must be one of 'best', 'worst', got 'bst'\. Did you mean `best`\?"),
        ({"kl_type": "backward"}, r"`kl_type` must be one of 'forward', 'reverse', 'both', got 'backward'"),
        ({"teacher_mass": "all"}, r"`teacher_mass` must be one of 'none', 'top', 'rest', 'both', got 'all'"),
        ({"top_mass": 1.5}, r"`top_mass` must be in .*0, 1.*, got 1\.5\."),
        ({"top_mass": 0.5, "strategy": "worst"}, r"`top_mass` chooses among the best classes, got strategy='worst'\."),
        ({"w_rest": -1.0}, r"`w_rest` must be .*at least 0, got -1\.0\."),
    ],
)
def test_refused_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        GDKDLoss(**options)


@pytest.mark.parametrize("top_mass", [0.0, 1.0])
def test_mass_at_the_ends_is_refused(top_mass: float) -> None:
    with pytest.raises(ValueError, match="`top_mass` must be"):
        GDKDLoss(top_mass=top_mass)


@st.composite
def sizes3(draw_: st.DrawFn) -> tuple[int, int]:
    """C and a top_k in [2, C - 1]."""
    c = draw_(st.integers(3, 13))
    return c, draw_(st.sampled_from([2, c - 1]) | st.integers(2, c - 1))


@quick
@given(n=batches, size=sizes3(), temperature=temperatures, weights=three, seed=seeds)
def test_gdkd3_equals_the_definition(n, size, temperature, weights, seed) -> None:
    c, top_k = size
    student, teacher, _ = draw(seed, n, c)
    expected: dict[str, list[float]] = {"group": [], "top": [], "rest": []}
    whole = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        order = ranked(t)
        groups = [order[:1], order[1:top_k], order[top_k:]]
        expected["group"].append(between(s, t, groups, temperature))
        expected["top"].append(within(s, t, groups[1], temperature))
        expected["rest"].append(within(s, t, groups[2], temperature))
        whole.append(masses(t, groups, temperature))
    terms = gdkd3_terms(student, teacher, top_k=top_k, temperature=temperature)
    assert_terms(terms, expected)
    total = sum(w * mean(values) for w, values in zip(weights, expected.values(), strict=True))
    assert_value(GDKD3Loss(*weights, top_k, temperature)(student, teacher), total)
    for n_, (_, top, rest) in enumerate(whole):  # the chain rule with three groups: the singleton adds nothing
        chained = terms["group"][n_] + top * terms["top"][n_] + rest * terms["rest"][n_]
        assert_value(chained, kd(student[n_].tolist(), teacher[n_].tolist(), temperature))


def test_gdkd3_by_hand() -> None:
    """Teacher (4, 2, 1, 1) / 8, student (1, 1, 2, 4) / 8, groups {0}, {1, 2}, {3}."""
    teacher = torch.tensor([[4.0, 2.0, 1.0, 0.999999]], dtype=torch.float64).log()
    student = torch.tensor([[1.0, 1.0, 2.0, 4.0]], dtype=torch.float64).log()
    terms = gdkd3_terms(student, teacher, top_k=3, temperature=1.0)
    group = 1 / 2 * math.log(4) + 3 / 8 * math.log(1) + 1 / 8 * math.log(1 / 4)
    top = 2 / 3 * math.log(2) + 1 / 3 * math.log(1 / 2)
    assert terms["group"].item() == pytest.approx(group, abs=1e-6)
    assert terms["top"].item() == pytest.approx(top, abs=1e-6)
    assert terms["rest"].item() == 0


def test_gdkd3_edges_of_top_k() -> None:
    student, teacher, _ = draw(11, 2, 10)
    assert gdkd3_terms(student, teacher, top_k=2)["top"].tolist() == [0, 0]
    assert gdkd3_terms(student, teacher, top_k=9)["rest"].tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"`top_k` must be .*2.*, got 1\."):
        GDKD3Loss(top_k=1)(student, teacher)
    with pytest.raises(ValueError, match=r"`top_k` must be in \[2, 9\] \(num_classes - 1.*\), got 10\."):
        GDKD3Loss(top_k=10)(student, teacher)
    with pytest.raises(ValueError, match="at least 3 classes"):
        GDKD3Loss(top_k=2)(student[:, :2], teacher[:, :2])
