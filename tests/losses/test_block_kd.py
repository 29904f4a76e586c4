"""Block-KD against its definition: the shares of the stones, and the ensemble that teaches but does not learn."""

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
    LogitLoss,
    SDDLoss,
    Standardized,
    block_kd_terms,
)
from naive import assert_terms, assert_value, batches, ce, draw, kd, mean, quick, seeds, temperatures


def inputs(seed: int, n: int, c: int, count: int) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    student, teacher, labels = draw(seed, n, c)
    return student, teacher, labels, list(draw(seed + 1, count, n, c)[0])


def reference(student, teacher, labels, stones, d, decay=2.0, task=True):
    """``d(a, b, label)`` is the distance of one example, teacher first as in the paper."""
    terms: dict[str, list[float]] = {"task": [], "distill": [], "cross": []}
    count = len(stones)
    for n, (s, t, y) in enumerate(zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True)):
        rows = [stone[n].tolist() for stone in stones]
        ensemble = [mean(v) for v in zip(*rows, strict=True)]
        share = [decay ** -(count - i) for i in range(1, count + 1)]
        each = list(zip(share, rows, strict=True))
        terms["task"].append(ce(s, y) + sum(w * ce(r, y) for w, r in each) if task else 0.0)
        terms["distill"].append(d(t, s, y) + sum(w * d(t, r, y) for w, r in each))
        terms["cross"].append(d(ensemble, s, y) + sum(d(ensemble, r, y) for r in rows))
    return terms


def distance_by(loss: LogitLoss):
    """The distance of one example by a loss that has its own tests."""

    def d(a, b, label):
        a, b = (torch.tensor([z], dtype=torch.float64) for z in (a, b))
        return loss(b, a, torch.tensor([label])).item()

    return d


@quick
@given(
    n=batches,
    c=st.integers(2, 11),
    count=st.integers(1, 4),
    temperature=temperatures,
    decay=st.sampled_from([1.0, 2.0, 3.5]),
    weights=st.tuples(st.floats(0.1, 5), st.floats(0, 5), st.floats(0, 5)),
    seed=seeds,
)
def test_equals_the_definition(n, c, count, temperature, decay, weights, seed) -> None:
    student, teacher, labels, stones = inputs(seed, n, c, count)
    expected = reference(student, teacher, labels, stones, lambda a, b, _: kd(b, a, temperature), decay)
    d = KDLoss(temperature)
    assert_terms(block_kd_terms(student, teacher, labels, stones=stones, d=d, decay=decay), expected)
    loss = BlockKDLoss(d, *weights, decay)
    total = sum(w * mean(values) for w, values in zip(weights, expected.values(), strict=True))
    assert_value(loss(student, teacher, labels, stones=stones), total)


@pytest.mark.parametrize(
    "d", [DKDLoss(), GDKDLoss(top_k=3), Standardized(GDKDLoss(top_k=2))], ids=lambda loss: type(loss).__name__
)
def test_any_loss_on_logits_is_a_distance(d: LogitLoss) -> None:
    student, teacher, labels, stones = inputs(0, 4, 6, 3)
    expected = reference(student, teacher, labels, stones, distance_by(d))
    loss = BlockKDLoss(d=d)
    assert_terms(loss.terms(student, teacher, labels, stones=stones), expected)
    assert_value(loss(student, teacher, labels, stones=stones), sum(mean(v) for v in expected.values()))


def test_by_hand() -> None:
    """Two classes, uniform student and stones but the last, temperature 1, label 0, teacher (3/4, 1/4)."""
    sure, uniform = torch.tensor([[[math.log(3), 0.0]], [[0.0, 0.0]]], dtype=torch.float64)
    terms = block_kd_terms(uniform, sure, torch.tensor([0]), stones=[uniform, uniform, sure], d=KDLoss(1.0))
    log2, log43 = math.log(2), math.log(4 / 3)
    task = log2 + log2 / 4 + log2 / 2 + log43
    one = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)  # KL(sure || uniform)
    distill = one + one / 4 + one / 2 + 0
    root = 3 ** (1 / 3)  # the ensemble's logits are (log 3 / 3, 0)
    p = root / (root + 1)
    to_uniform = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    to_sure = p * math.log(p / 0.75) + (1 - p) * math.log((1 - p) / 0.25)
    assert_terms(terms, {"task": [task], "distill": [distill], "cross": [3 * to_uniform + to_sure]})


def test_an_earlier_stone_counts_less() -> None:
    """1 for the deepest, halved for each block before it; the ensemble's term knows no depth."""
    student, teacher, labels, stones = inputs(1, 2, 5, 3)
    loss = BlockKDLoss()
    before = loss.terms(student, teacher, labels, stones=stones)
    for i, share in enumerate([0.25, 0.5, 1.0]):
        moved = [teacher if j == i else stone for j, stone in enumerate(stones)]
        after = loss.terms(student, teacher, labels, stones=moved)
        own = KDLoss().example_losses(stones[i], teacher)
        torch.testing.assert_close(before["distill"] - after["distill"], share * own, rtol=1e-9, atol=1e-11)


def test_the_ensemble_is_held_constant() -> None:
    """A stone learns from the ensemble, never through it: its gradient is that of one KD with a fixed teacher."""
    student, teacher, labels, stones = inputs(2, 3, 5, 3)
    student.requires_grad_()
    leaves = [stone.clone().requires_grad_() for stone in stones]
    cross = block_kd_terms(student, teacher, labels, stones=leaves, d=KDLoss(), task=False)["cross"].sum()
    gradients = torch.autograd.grad(cross, [student, *leaves])
    ensemble = torch.stack(stones).mean(0)
    for leaf, gradient in zip([student, *leaves], gradients, strict=True):
        expected = torch.autograd.grad(KDLoss()(leaf, ensemble) * 3, leaf)[0]
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_student_and_every_stone_learn_and_the_teacher_does_not() -> None:
    student, teacher, labels, stones = inputs(3, 3, 5, 2)
    leaves = [student, teacher, *stones]
    for leaf in leaves:
        leaf.requires_grad_()
    gradients = torch.autograd.grad(BlockKDLoss()(student, teacher, labels, stones=stones), leaves, allow_unused=True)
    assert gradients[1] is None or not gradients[1].any()
    assert all(gradients[i] is not None and gradients[i].any() for i in (0, 2, 3))


def test_without_the_task_no_labels_are_needed() -> None:
    student, teacher, labels, stones = inputs(4, 3, 5, 2)
    expected = reference(student, teacher, labels, stones, lambda a, b, _: kd(b, a, 4.0), task=False)
    off = BlockKDLoss(alpha=0.0)
    assert not off.needs_labels
    assert BlockKDLoss().needs_labels
    assert_value(off(student, teacher, stones=stones), mean(expected["distill"]) + mean(expected["cross"]))
    assert_terms(block_kd_terms(student, teacher, None, stones=stones, d=KDLoss(), task=False), expected)
    with pytest.raises(ValueError, match=r"Block-KD.* needs `labels`"):
        BlockKDLoss()(student, teacher, stones=stones)


def test_a_distance_that_needs_labels_still_needs_them_without_the_task() -> None:
    student, teacher, _, stones = inputs(5, 3, 5, 2)
    loss = BlockKDLoss(d=DKDLoss(), alpha=0.0)
    assert loss.needs_labels
    with pytest.raises(ValueError, match="needs `labels`"):
        loss(student, teacher, stones=stones)


def test_stones_may_come_as_one_tensor() -> None:
    student, teacher, labels, stones = inputs(6, 3, 5, 2)
    expected = BlockKDLoss()(student, teacher, labels, stones=stones).item()
    assert_value(BlockKDLoss()(student, teacher, labels, stones=torch.stack(stones)), expected)


def test_defaults() -> None:
    loss = BlockKDLoss()
    assert loss.term_weights == {"task": 1.0, "distill": 1.0, "cross": 1.0}
    assert loss.reads == "stones"
    assert loss.unscaled_terms == {"task"}
    assert loss.per_example
    assert not BlockKDLoss(d=DISTLoss()).per_example


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockKDLoss(d=SDDLoss(KDLoss())), r"`d` must read logits, got SDDLoss, which reads regions\."),
        (lambda: BlockKDLoss(d=ICDLoss(KDLoss())), r"`d` must read logits, got ICDLoss, which reads regions\."),
        (lambda: BlockKDLoss(d=BlockKDLoss()), r"`d` must read logits, got BlockKDLoss, which reads stones\."),
        (lambda: BlockKDLoss(decay=0.0), r"`decay` must be above 0, got 0\.0\."),
        (lambda: BlockKDLoss(gamma=-1.0), r"`gamma` must be .*at least 0, got -1\.0\."),
    ],
)
def test_refused_compositions_and_options(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_refused_stones() -> None:
    student, teacher, labels, stones = inputs(7, 3, 5, 2)
    with pytest.raises(ValueError, match=r"`stones` must hold .*at least one stepping stone, got none\."):
        BlockKDLoss()(student, teacher, labels, stones=[])
    with pytest.raises(ValueError, match="must have the same number of classes, got"):
        BlockKDLoss()(student, teacher, labels, stones=[stones[0], stones[1][:, :4]])
    with pytest.raises(ValueError, match="must have the same shape, got"):
        BlockKDLoss()(student, teacher, labels, stones=[stones[0], stones[1][:2]])


def test_an_example_without_a_label_has_no_task() -> None:
    student, teacher, labels, stones = inputs(8, 3, 5, 2)
    expected = reference(student, teacher, labels, stones, lambda a, b, _: kd(b, a, 4.0))
    expected["task"][1] = 0.0
    labels[1] = -1
    assert_terms(BlockKDLoss().terms(student, teacher, labels, stones=stones), expected)


def test_mixed_labels() -> None:
    student, teacher, labels, stones = inputs(9, 3, 5, 2)
    other = (labels + 2) % 5
    first, second = (reference(student, teacher, y, stones, lambda a, b, _: kd(b, a, 4.0)) for y in (labels, other))
    mixed = 0.3 * torch.nn.functional.one_hot(labels, 5).double() + 0.7 * torch.nn.functional.one_hot(other, 5).double()
    expected = {**first, "task": [0.3 * a + 0.7 * b for a, b in zip(first["task"], second["task"], strict=True)]}
    assert_terms(BlockKDLoss().terms(student, teacher, mixed, stones=stones), expected)
    assert not BlockKDLoss().needs_hard_labels
    assert BlockKDLoss(d=DKDLoss()).needs_hard_labels


def test_mixed_labels_beside_masked_classes_and_weights_of_0() -> None:
    student, teacher, labels = draw(6, 4, 5)
    stones = draw(7, 2, 4, 5)[0]
    mixed = 0.75 * torch.eye(5, dtype=torch.float64)[labels] + 0.25 * torch.eye(5, dtype=torch.float64)[2]
    keep, weights = torch.tensor([0, 2, 3, 4]), torch.tensor([1.0, 2.0, 0.0, 1.0])
    mixed[:, 1] = 0
    mixed /= mixed.sum(1, keepdim=True)
    few = BlockKDLoss()(student[:, keep], teacher[:, keep], mixed[:, keep], stones=stones[..., keep], weights=weights)
    student, teacher, stones = (z.index_fill(-1, torch.tensor([1]), -math.inf) for z in (student, teacher, stones))
    mixed[2] = math.nan  # never read
    value = BlockKDLoss()(student.requires_grad_(), teacher, mixed, stones=stones, weights=weights)
    torch.testing.assert_close(value, few, rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient.isfinite().all()
    assert not gradient[:, 1].any()
    assert not gradient[2].any()
