"""The objective: its weights, its warm-up, what it reports and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from logitkd.losses import BlockKDLoss, DISTLoss, DKDLoss, GDKDLoss, ICDLoss, KDLoss, LogitLoss, MLKDLoss, SDDLoss
from logitkd.objective import Objective, Targets, cross_entropy_term
from logitkd.reach import Signals
from naive import ce, draw, mean


def signals(n: int = 4, c: int = 6) -> tuple[Signals, Signals, Tensor]:
    """Student and teacher with logits, 21 regions and (student) two stones."""
    student, teacher, labels = draw(0, n, c)
    regions = draw(1, n, 21, c)
    stones = draw(2, 2, n, c)[0]
    return Signals(student, regions[0], list(stones)), Signals(teacher, regions[1]), labels


def cross_entropy(student: Signals, labels: Tensor) -> float:
    return mean(ce(z, y) for z, y in zip(student.logits.tolist(), labels.tolist(), strict=True))


@pytest.mark.parametrize("loss", [KDLoss(), DKDLoss(beta=2.0), GDKDLoss(top_k=2), DISTLoss()], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize(("ce_weight", "kd_weight"), [(1.0, 1.0), (0.1, 0.9), (0.0, 3.0), (2.0, 0.0)])
def test_total_is_the_weighted_sum(loss: LogitLoss, ce_weight: float, kd_weight: float) -> None:
    student, teacher, labels = signals()
    total, _ = Objective(loss, ce_weight, kd_weight)(student, teacher, labels, epoch=1)
    distilled = loss(student.logits, teacher.logits, labels).item()
    assert total.shape == ()
    assert total.item() == pytest.approx(ce_weight * cross_entropy(student, labels) + kd_weight * distilled, rel=1e-9)


@pytest.mark.parametrize(("epoch", "share"), [(1, 0.05), (2, 0.1), (10, 0.5), (19, 0.95), (20, 1.0), (21, 1.0), (240, 1.0)])
def test_warmup_counts_epochs_from_1(epoch: int, share: float) -> None:
    student, teacher, labels = signals()
    objective = Objective(KDLoss(), 1.0, 0.9, warmup_epochs=20)
    assert objective.warmup(epoch) == pytest.approx(share)
    total, terms = objective(student, teacher, labels, epoch)
    expected = cross_entropy(student, labels) + share * 0.9 * KDLoss()(student.logits, teacher.logits).item()
    assert total.item() == pytest.approx(expected, rel=1e-9)
    assert terms["kd"].item() == pytest.approx(KDLoss()(student.logits, teacher.logits).item(), rel=1e-9)


@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_without_warmup_the_first_epoch_has_the_full_weight(warmup_epochs: int) -> None:
    assert Objective(KDLoss(), warmup_epochs=warmup_epochs).warmup(1) == 1.0


def test_defaults_weigh_one_and_do_not_warm_up() -> None:
    student, teacher, labels = signals()
    total, _ = Objective(KDLoss())(student, teacher, labels, epoch=1)
    expected = cross_entropy(student, labels) + KDLoss()(student.logits, teacher.logits).item()
    assert total.item() == pytest.approx(expected, rel=1e-9)


def test_the_gram_term_is_neither_weighed_nor_warmed_up() -> None:
    student, teacher, labels = signals()
    loss = ICDLoss(SDDLoss(DKDLoss()), gram_weight=8.0)
    total, terms = Objective(loss, 0.5, 0.3, warmup_epochs=10)(student, teacher, labels, epoch=2)
    parts = {k: v.mean().item() for k, v in loss.terms(student.regions, teacher.regions, labels).items()}
    distilled = parts["tckd"] + 8 * parts["nckd"]
    expected = 0.5 * cross_entropy(student, labels) + 0.2 * 0.3 * distilled + 8 * parts["gram"]
    assert total.item() == pytest.approx(expected, rel=1e-9)
    assert {k: v.item() for k, v in terms.items()} == pytest.approx({"ce": cross_entropy(student, labels), **parts}, rel=1e-9)


def test_block_kd_s_task_is_neither_weighed_nor_warmed_up() -> None:
    student, teacher, labels = signals()
    loss = BlockKDLoss(alpha=0.7, beta=2.0, gamma=3.0)
    total, terms = Objective(loss, 0.0, 0.4, warmup_epochs=4)(student, teacher, labels, epoch=1)
    parts = loss.terms(student.logits, teacher.logits, labels, stones=student.stones)
    parts = {k: v.mean().item() for k, v in parts.items()}
    expected = 0.7 * parts["task"] + 0.25 * 0.4 * (2 * parts["distill"] + 3 * parts["cross"])
    assert total.item() == pytest.approx(expected, rel=1e-9)
    assert {k: terms[k].item() for k in parts} == pytest.approx(parts, rel=1e-9)


@pytest.mark.parametrize(
    ("loss", "names"),
    [
        (KDLoss(), {"ce", "kd"}),
        (GDKDLoss(top_k=2), {"ce", "group", "top", "rest"}),
        (SDDLoss(DKDLoss()), {"ce", "tckd", "nckd"}),
        (ICDLoss(SDDLoss(KDLoss())), {"ce", "kd", "gram"}),
        (BlockKDLoss(), {"ce", "task", "distill", "cross"}),
        (DISTLoss(), {"ce", "inter", "intra"}),
    ],
    ids=lambda x: type(x).__name__,
)
def test_the_report_holds_unweighted_detached_means(loss: LogitLoss, names: set[str]) -> None:
    student, teacher, labels = signals()
    student.logits.requires_grad_()
    total, terms = Objective(loss, 0.25, 0.125, warmup_epochs=8)(student, teacher, labels, epoch=3)
    read = (student.regions, teacher.regions) if loss.reads == "regions" else (student.logits, teacher.logits)
    options = {"stones": student.stones} if loss.reads == "stones" else {}
    expected = {k: v.mean().item() for k, v in loss.terms(*read, labels, **options).items()}
    expected["ce"] = cross_entropy(student, labels)
    assert set(terms) == names
    assert {k: v.item() for k, v in terms.items()} == pytest.approx(expected, rel=1e-9)
    assert all(v.shape == () and not v.requires_grad for v in terms.values())
    assert total.requires_grad


def test_gradient_is_that_of_the_total() -> None:
    student, teacher, labels = signals()
    student.logits.requires_grad_(), teacher.logits.requires_grad_()
    total, _ = Objective(KDLoss(), 0.1, 0.9, warmup_epochs=2)(student, teacher, labels, epoch=1)
    ours = torch.autograd.grad(total, [student.logits, teacher.logits], allow_unused=True)
    n, c = student.logits.shape
    p, onehot = student.logits.softmax(-1), torch.nn.functional.one_hot(labels, c)
    soft = 4 * ((student.logits / 4).softmax(-1) - (teacher.logits / 4).softmax(-1))
    torch.testing.assert_close(ours[0], ((0.1 * (p - onehot) + 0.45 * soft) / n).detach(), rtol=1e-9, atol=1e-12)
    assert ours[1] is None or not ours[1].any()


def test_labels_alone() -> None:
    """Without a loss there is no teacher to give."""
    student, _, labels = signals()
    total, terms = Objective(None, ce_weight=0.5)(student, None, labels, epoch=1)
    assert total.item() == pytest.approx(0.5 * cross_entropy(student, labels), rel=1e-9)
    assert set(terms) == {"ce"}


def test_without_cross_entropy_a_loss_that_needs_no_labels_gets_none() -> None:
    student, teacher, _ = signals()
    total, _ = Objective(KDLoss(), ce_weight=0.0)(student, teacher, None, epoch=1)
    assert total.item() == pytest.approx(KDLoss()(student.logits, teacher.logits).item(), rel=1e-9)


@pytest.mark.parametrize(
    ("loss", "change", "message"),
    [
        (KDLoss(), "teacher", r"`teacher` must be given for KDLoss, got None\."),
        (KDLoss(), "labels", r"cross-entropy .* needs `labels`"),
        (SDDLoss(KDLoss()), "student regions", "SDDLoss reads region logits.*RegionModel"),
        (SDDLoss(KDLoss()), "teacher regions", "SDDLoss reads region logits.*RegionModel"),
        (BlockKDLoss(), "stones", r"BlockKDLoss reads stepping stones: .*stones"),
    ],
)
def test_missing_signals_are_named(loss: LogitLoss, change: str, message: str) -> None:
    student, teacher, labels = signals()
    given_teacher: Signals | None = teacher
    if change == "teacher":
        given_teacher = None
    elif change == "student regions":
        student = Signals(student.logits)
    elif change == "teacher regions":
        given_teacher = Signals(teacher.logits)
    elif change == "stones":
        student = Signals(student.logits)
    with pytest.raises(ValueError, match=message):
        Objective(loss)(student, given_teacher, None if change == "labels" else labels, epoch=1)


def test_a_loss_that_needs_labels_asks_for_them_without_cross_entropy() -> None:
    student, teacher, _ = signals()
    with pytest.raises(ValueError, match=r"DKD.* needs `labels`"):
        Objective(DKDLoss(), ce_weight=0.0)(student, teacher, None, epoch=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"ce_weight": -1.0}, ValueError, r"`ce_weight` must be .*at least 0, got -1\.0\."),
        ({"kd_weight": float("nan")}, ValueError, r"`kd_weight` must be .*got nan\."),
        ({"warmup_epochs": -1}, ValueError, r"`warmup_epochs` must be .*at least 0, got -1\."),
        ({"warmup_epochs": 2.5}, TypeError, r"`warmup_epochs` must be an integer, got 2\.5 \(float\)\."),
    ],
)
def test_refused_options(options, error, message) -> None:
    with pytest.raises(error, match=message):
        Objective(KDLoss(), **options)


def test_an_objective_that_trains_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`ce_weight` must be above 0 where there is no distillation loss, got 0"):
        Objective(None, ce_weight=0)


@pytest.mark.parametrize("epoch", [0, -1])
def test_epochs_below_1_are_refused(epoch: int) -> None:
    """Counting from 0 is the likely slip: it would train the first epoch without the loss and warm up late, silently."""
    student, teacher, labels = signals()
    with pytest.raises(ValueError, match="`epoch` must be"):
        Objective(KDLoss(), warmup_epochs=10)(student, teacher, labels, epoch)


def test_extra_leading_dimensions() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, 5, generator=generator) for _ in range(2))
    labels = torch.randint(5, (2, 3), generator=generator)
    objective = Objective(KDLoss(), ce_weight=0.5)
    total, _ = objective(Signals(student), Signals(teacher), labels, epoch=1)
    flat = Signals(student.view(6, 5)), Signals(teacher.view(6, 5)), labels.view(6)
    torch.testing.assert_close(total, objective(*flat, epoch=1)[0])


def test_cross_entropy_of_labels_that_are_all_there_is_torch_s() -> None:
    student, _, labels = signals(n=37)
    for logits in (student.logits, student.logits.float()):
        logits = logits.clone().requires_grad_()
        ours, theirs = cross_entropy_term(logits, labels).mean(), torch.nn.functional.cross_entropy(logits, labels)
        assert torch.equal(ours, theirs)
        assert torch.equal(*(torch.autograd.grad(value, logits)[0] for value in (ours, theirs)))


def test_missing_labels_are_left_out_of_the_cross_entropy_and_of_nothing_else() -> None:
    student, teacher, labels = signals()
    labels[1] = labels[3] = -1
    total, terms = Objective(KDLoss(), 0.5)(student, teacher, labels, epoch=1)
    known = mean(ce(student.logits[i].tolist(), int(labels[i])) for i in (0, 2))
    assert terms["ce"].item() == pytest.approx(known, rel=1e-9)
    kd = KDLoss()(student.logits, teacher.logits).item()
    assert total.item() == pytest.approx(0.5 * known + kd, rel=1e-9)


@pytest.mark.parametrize("class_weights", [None, torch.ones(6)])
def test_a_batch_without_labels_trains_on_the_teacher(class_weights: Tensor | None) -> None:
    student, teacher, labels = signals()
    student.logits.requires_grad_()
    nothing = torch.full_like(labels, -1)
    total, terms = Objective(KDLoss(), class_weights=class_weights)(student, teacher, nothing, epoch=1)
    assert terms["ce"].item() == 0
    alone = KDLoss()(student.logits, teacher.logits)
    assert total.item() == alone.item()
    torch.testing.assert_close(*(torch.autograd.grad(value, student.logits)[0] for value in (total, alone)))


def test_a_loss_that_needs_labels_refuses_missing_ones() -> None:
    student, teacher, labels = signals()
    labels[0] = -1
    with pytest.raises(ValueError, match="got -1"):
        Objective(DKDLoss())(student, teacher, labels, epoch=1)


def test_mixed_labels() -> None:
    student, teacher, labels = signals()
    other = labels.roll(1)
    share = torch.tensor([0.25, 1.0, 0.5, 0.0], dtype=torch.float64)
    onehot = [torch.nn.functional.one_hot(y, 6).double() for y in (labels, other)]
    mixed = share[:, None] * onehot[0] + (1 - share[:, None]) * onehot[1]
    _, terms = Objective(KDLoss())(student, teacher, mixed, epoch=1)
    pairs = zip(student.logits.tolist(), labels.tolist(), other.tolist(), share.tolist(), strict=True)
    assert terms["ce"].item() == pytest.approx(mean(s * ce(z, a) + (1 - s) * ce(z, b) for z, a, b, s in pairs), rel=1e-9)
    with pytest.raises(TypeError, match="DKD with target='label' needs hard labels"):
        Objective(DKDLoss())(student, teacher, mixed, epoch=1)


@pytest.mark.parametrize("class_weights", [None, torch.tensor([0.5, 2.0, 1.0, 3.0, 1.0, 0.25])])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_cross_entropy_with_masked_classes_is_that_of_the_others(mixed: bool, class_weights: Tensor | None) -> None:
    student, teacher, labels = signals()
    keep, masked = torch.tensor([0, 2, 3, 5]), torch.tensor([1, 4])
    labels = keep[labels % 4]
    small = (labels[:, None] == keep).int().argmax(1)
    if mixed:
        labels = 0.75 * torch.nn.functional.one_hot(labels, 6).double() + 0.25 * torch.eye(6)[2]
        small = labels[:, keep]
    logits = student.logits.index_fill(1, masked, -torch.inf).requires_grad_()
    few = student.logits[:, keep].requires_grad_()
    taught = teacher.logits.index_fill(1, masked, -torch.inf)
    ours, terms = Objective(KDLoss(), class_weights=class_weights)(Signals(logits), Signals(taught), labels, epoch=1)
    weights = None if class_weights is None else class_weights[keep]
    theirs, expected = Objective(KDLoss(), class_weights=weights)(Signals(few), Signals(taught[:, keep]), small, epoch=1)
    torch.testing.assert_close(terms, expected, rtol=1e-9, atol=1e-12)
    gradient, few_gradient = torch.autograd.grad(ours, logits)[0], torch.autograd.grad(theirs, few)[0]
    torch.testing.assert_close(gradient[:, keep], few_gradient, rtol=1e-9, atol=1e-12)
    assert not gradient[:, masked].any()
    if not mixed:
        labels[0] = 4
        with pytest.raises(ValueError, match="`labels` must be classes that are not masked"):
            Objective(None)(Signals(logits), None, labels, epoch=1)


def test_class_weights_are_torch_s_and_the_same_for_a_class_and_its_one_hot_row() -> None:
    student, _, labels = signals()
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0, 1.0, 0.25], dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(student.logits, labels, weights)
    objective = Objective(None, class_weights=weights)
    assert objective(student, None, labels, epoch=1)[0].item() == pytest.approx(expected.item(), rel=1e-12)
    onehot = torch.nn.functional.one_hot(labels, 6).double()
    assert objective(student, None, onehot, epoch=1)[0].item() == pytest.approx(expected.item(), rel=1e-12)
    partly = labels.clone()
    partly[2] = -1
    expected = torch.nn.functional.cross_entropy(student.logits, partly, weights, ignore_index=-1)
    assert objective(student, None, partly, epoch=1)[0].item() == pytest.approx(expected.item(), rel=1e-12)
    assert not objective.state_dict()  # they are the run's, not the checkpoint's


def test_the_cross_entropy_compiles_whole_and_takes_half_precision() -> None:
    student, teacher, labels = signals()
    labels[1] = -1
    objective = torch.compile(Objective(KDLoss(), class_weights=torch.rand(6) + 0.5), backend="eager", fullgraph=True)
    half = Signals(student.logits.bfloat16()), Signals(teacher.logits.bfloat16())
    assert objective(*half, labels, epoch=1)[0].dtype == torch.float32


LOSSES = [KDLoss(), DKDLoss(beta=2.0), GDKDLoss(top_k=2), SDDLoss(DKDLoss()), ICDLoss(SDDLoss(KDLoss())), BlockKDLoss(), None]
KEEP = torch.tensor([1.0, 0, 1, 0, 1, 1, 0, 1])


def rows(of: Signals, chosen: Tensor) -> Signals:
    """The signals of some examples."""
    stones = None if of.stones is None else [stone[chosen] for stone in of.stones]
    return Signals(of.logits[chosen], None if of.regions is None else of.regions[chosen], stones)


def missing(labels: Tensor, loss: LogitLoss | None) -> Tensor:
    """Labels, some missing where the loss can do without."""
    return (
        labels if loss is not None and loss.needs_hard_labels else torch.where(torch.arange(len(labels)) % 3 == 1, -1, labels)
    )


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: type(x).__name__)
def test_two_batches_added_are_the_batch_of_both(loss: LogitLoss | None) -> None:
    """Whatever is missing or masked in one of them: sums and masses are added before anything is divided."""
    student, teacher, labels = signals(8)
    student.logits.requires_grad_()
    labels = missing(labels, loss)
    objective = Objective(loss, 0.5, 0.25, warmup_epochs=2)
    whole = objective.measure(student, teacher, Targets(labels, KEEP.flip(0), KEEP), 1)
    parts = [slice(0, 3), slice(3, 8)]
    added = [
        objective.measure(rows(student, p), rows(teacher, p), Targets(labels[p], KEEP.flip(0)[p], KEEP[p]), 1) for p in parts
    ]
    total = (added[0] + added[1]).total()
    torch.testing.assert_close(total, whole.total(), rtol=1e-9, atol=1e-12)
    ours, theirs = (torch.autograd.grad(value, student.logits, retain_graph=True)[0] for value in (total, whole.total()))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


def test_what_is_of_another_epoch_is_not_added() -> None:
    student, teacher, labels = signals()
    objective = Objective(KDLoss(), warmup_epochs=4)
    first, second = (objective.measure(student, teacher, labels, epoch) for epoch in (1, 2))
    with pytest.raises(ValueError, match=r"the same weights, \{'ce': 1\.0, 'kd': 0\.25\}, got .*'kd': 0\.5"):
        first + second


@pytest.mark.parametrize(
    "loss", [*LOSSES[:-1], DISTLoss(), MLKDLoss(), BlockKDLoss(DISTLoss())], ids=lambda x: type(x).__name__
)
def test_examples_of_weight_0_are_as_if_they_were_not_there(loss: LogitLoss) -> None:
    """Their labels are not read, their logits may be anything; batch-coupled losses are given the others alone."""
    student, teacher, labels = signals(8)
    there = KEEP.bool()
    labels = torch.where(there, labels, 255)
    student.logits.requires_grad_()
    targets = Targets(labels, KEEP, KEEP)
    total, terms = Objective(loss, 0.5)(student, teacher, targets, epoch=1)
    expected, few = Objective(loss, 0.5)(rows(student, there), rows(teacher, there), labels[there], epoch=1)
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-12)
    assert {k: v.item() for k, v in terms.items()} == pytest.approx({k: v.item() for k, v in few.items()}, rel=1e-9)
    (gradient,) = torch.autograd.grad(total, student.logits)
    assert not gradient[~there].any()


def test_padded_tokens_count_nowhere() -> None:
    """Sequences of tokens (N, T, C): what is padding counts neither in the cross-entropy nor in distillation."""
    student, teacher, labels = draw(3, 12, 5)
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]])
    shaped = Signals(student.view(3, 4, 5)), Signals(teacher.view(3, 4, 5)), Targets(labels.view(3, 4), mask, mask)
    there = mask.flatten().bool()
    for loss in (KDLoss(), GDKDLoss(top_k=2), DISTLoss()):
        total, _ = Objective(loss)(*shaped, epoch=1)
        expected, _ = Objective(loss)(Signals(student[there]), Signals(teacher[there]), labels[there], epoch=1)
        torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-12)


def test_distillation_reads_examples_without_a_label_and_cross_entropy_does_not() -> None:
    student, teacher, labels = signals(8)
    half = torch.where(KEEP.bool(), labels, -1)
    _, terms = Objective(KDLoss())(student, teacher, half, epoch=1)
    assert terms["kd"].item() == pytest.approx(KDLoss()(student.logits, teacher.logits).item(), rel=1e-9)
    there = KEEP.bool()
    assert terms["ce"].item() == pytest.approx(cross_entropy(rows(student, there), labels[there]), rel=1e-9)


def test_block_kd_s_task_is_the_mean_over_the_labelled() -> None:
    student, teacher, labels = signals(8)
    there = KEEP.bool()
    _, terms = Objective(BlockKDLoss(), 0.0)(student, teacher, torch.where(there, labels, -1), epoch=1)
    _, few = Objective(BlockKDLoss(), 0.0)(rows(student, there), rows(teacher, there), labels[there], epoch=1)
    assert terms["task"].item() == pytest.approx(few["task"].item(), rel=1e-9)
    assert terms["distill"].item() != pytest.approx(few["distill"].item(), rel=1e-3)
    alone = BlockKDLoss(beta=0.0, gamma=0.0)
    own = alone(student.logits, teacher.logits, torch.where(there, labels, -1), stones=student.stones)
    assert own.item() == pytest.approx(few["task"].item(), rel=1e-9)


def test_a_batch_of_which_nothing_counts_trains_nothing() -> None:
    student, teacher, labels = signals(8)
    student.logits.requires_grad_()
    nothing = torch.zeros(8)
    for loss in (DISTLoss(), KDLoss(), SDDLoss(DKDLoss())):
        total, terms = Objective(loss)(student, teacher, Targets(labels, nothing, nothing), epoch=1)
        (gradient,) = torch.autograd.grad(total, student.logits)
        assert total.item() == 0
        assert not gradient.any()
        assert not any(value.item() for value in terms.values())


def test_a_part_of_an_example_cannot_be_selected() -> None:
    student, teacher, labels = signals(8)
    with pytest.raises(ValueError, match=r"`example_weights` must be 0 or 1 for DISTLoss.*got 0\.0 to 0\.5"):
        Objective(DISTLoss())(student, teacher, Targets(labels, None, KEEP / 2), epoch=1)


def with_aux(has_aux: bool = True) -> tuple[Signals, Signals, Tensor]:
    """Student and teacher with an auxiliary head, the teacher's only where ``has_aux``."""
    student, teacher, labels = signals()
    aux = draw(3, 4, 6)
    mine = Signals(student.logits, student.regions, student.stones, {"aux": aux[0], "own": aux[1]})
    return mine, Signals(teacher.logits, teacher.regions, streams={"aux": aux[1]} if has_aux else {}), labels


@pytest.mark.parametrize("has_aux", [True, False])
def test_a_stream_is_trained_likewise_times_its_number(has_aux: bool) -> None:
    student, teacher, labels = with_aux(has_aux)
    loss = DKDLoss(alpha=3.0, beta=2.0)
    plain = Objective(loss, 0.5, 0.3, warmup_epochs=4)
    measured = Objective(loss, 0.5, 0.3, warmup_epochs=4, streams={"aux": 0.4}).measure(student, teacher, labels, epoch=1)
    main = plain.measure(student, teacher, labels, epoch=1)
    theirs = teacher.streams["aux"] if has_aux else teacher.logits
    head = plain.measure(Signals(student.streams["aux"]), Signals(theirs), labels, epoch=1)
    assert list(measured.terms) == ["ce", "ce_aux", "tckd", "nckd", "tckd_aux", "nckd_aux"]
    for name in main.terms:
        assert measured.weights[name] == main.weights[name]
        assert measured.weights[f"{name}_aux"] == pytest.approx(0.4 * main.weights[name])
        assert measured.terms[name] == main.terms[name]
        assert measured.terms[f"{name}_aux"] == head.terms[name]
    assert measured.total().item() == pytest.approx(main.total().item() + 0.4 * head.total().item(), rel=1e-9)


def test_a_task_s_own_term_of_a_stream_weighs_likewise() -> None:
    student, teacher, labels = with_aux()
    own = {"ce": Targets(labels).cross_entropy(student.logits), "ce_aux": Targets(labels).cross_entropy(student.logits)}
    weights = Objective(KDLoss(), 0.5, streams={"aux": 0.4}).measure(student, teacher, labels, 1, own).weights
    assert weights == {"ce": 0.5, "ce_aux": 0.2, "kd": 1.0, "kd_aux": 0.4}
    assert Objective(KDLoss(), 0.5).measure(student, teacher, labels, 1, own).weights == {"ce": 0.5, "ce_aux": 0.5, "kd": 1.0}


def test_a_stream_that_the_student_does_not_have_changes_nothing() -> None:
    student, teacher, labels = signals()
    plain = Objective(KDLoss()).measure(student, teacher, labels, 1)
    measured = Objective(KDLoss(), streams={"aux": 0.4}).measure(student, teacher, labels, 1)
    assert measured == plain
    with pytest.raises(ValueError, match=r"`streams\['aux'\]` must be at least 0, got -1"):
        Objective(KDLoss(), streams={"aux": -1})


def test_of_a_stream_block_kd_measures_the_distance_to_the_teacher_alone() -> None:
    student, teacher, labels = with_aux()
    loss = BlockKDLoss(DKDLoss(beta=2.0), alpha=0.7, beta=5.0, gamma=3.0)
    measured = Objective(loss, 0.0, 0.5, streams={"aux": 0.4}).measure(student, teacher, labels, 1)
    assert list(measured.terms) == ["task", "distill", "cross", "distill_aux"]
    assert measured.weights["distill_aux"] == pytest.approx(5.0 * 0.5 * 0.4)
    expected = DKDLoss(beta=2.0)(student.streams["aux"], teacher.streams["aux"], labels)
    assert measured.terms["distill_aux"].mean() == pytest.approx(expected.item())
