import warnings

import pytest
import torch
from torch import nn

from logitkd.data import Batch
from logitkd.tasks.classification import ClassMeter
from logitkd.tasks.task import Stopped, measure
from run_parts import blank_task

CPU = torch.device("cpu")


class Fixed(nn.Module):
    """Gives its inputs back as logits; notes the mode it ran in."""

    def __init__(self):
        super().__init__()
        self.modes = []

    def forward(self, images):
        self.modes.append((self.training, torch.is_grad_enabled()))
        return images


def evaluate_classifier(model, batches, classes, device, teacher_predictions=None, stop=lambda: False):
    """The metrics of a model over batches of a thousand examples at most."""
    return measure(model, batches, ClassMeter(classes, 1000, device, teacher_predictions), stop).compute()


def batches(logits, labels, size):
    rows = torch.arange(len(labels))
    return [Batch(logits[i : i + size], labels[i : i + size], rows[i : i + size]) for i in range(0, len(labels), size)]


def naive(logits, labels, teacher):
    """Loops: loss, top-1, top-5, calibration error in 15 bins, agreement."""
    total, bins = len(labels), [[] for _ in range(15)]
    loss = hits = hits5 = agreed = 0
    for row, label, other in zip(logits.tolist(), labels.tolist(), teacher.tolist(), strict=True):
        p = torch.tensor(row, dtype=torch.float64).softmax(0)
        order = sorted(range(len(row)), key=lambda c: -row[c])
        loss -= p[label].log().item()
        hits += order[0] == label
        hits5 += label in order[:5]
        agreed += order[0] == other
        bins[min(int(p.max().item() * 15), 14)].append((p.max().item(), order[0] == label))
    ece = sum(abs(sum(c for c, _ in b) - sum(h for _, h in b)) for b in bins) / total
    return {
        "loss": loss / total,
        "top1": 100 * hits / total,
        "top5": 100 * hits5 / total,
        "calibration_error": ece,
        "agreement": 100 * agreed / total,
    }


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_against_loops(size):
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(200, 8), torch.randint(8, (200,))
    logits[torch.arange(200), labels] += 2
    teacher = torch.randint(8, (200,))
    model = Fixed()
    found = evaluate_classifier(model, batches(logits, labels, size), 8, CPU, teacher_predictions=teacher)
    assert found == pytest.approx(naive(logits, labels, teacher), rel=1e-5)
    assert model.modes[0] == (False, False)
    assert model.training


def test_by_hand():
    """Two of three right; every confidence is 1, so a third of them is misplaced."""
    logits = 1000 * torch.eye(3)
    found = evaluate_classifier(Fixed(), batches(logits, torch.tensor([0, 1, 1]), 2), 3, CPU)
    assert found == {"loss": pytest.approx(1000 / 3), "top1": 200 / 3, "calibration_error": pytest.approx(1 / 3)}


def test_top5_needs_five_classes():
    for classes, there in ((4, False), (5, True)):
        found = evaluate_classifier(Fixed(), batches(torch.randn(6, classes), torch.zeros(6).long(), 6), classes, CPU)
        assert ("top5" in found) == there


def test_half_precision_logits_are_widened():
    logits, labels = torch.randn(50, 6), torch.randint(6, (50,))
    rounded = logits.bfloat16()
    both = [evaluate_classifier(Fixed(), batches(z, labels, 8), 6, CPU) for z in (rounded, rounded.float())]
    assert both[0] == both[1]


def test_stop_leaves_the_mode_as_it_was():
    model = Fixed()
    with pytest.raises(Stopped):
        evaluate_classifier(model, batches(torch.randn(9, 3), torch.zeros(9).long(), 3), 3, CPU, stop=lambda: True)
    assert model.training
    assert not model.modes


def test_each_module_keeps_its_own_mode():
    """A batch norm that the user froze in eval mode stays so."""
    model = nn.Sequential(nn.BatchNorm1d(3).eval(), nn.Dropout(0.5))
    model[0].running_mean += 1
    evaluate_classifier(model, batches(torch.randn(9, 3), torch.zeros(9).long(), 3), 3, CPU)
    assert [module.training for module in model.modules()] == [True, False, True]


def test_answers_follow_the_split_whatever_the_order():
    logits = torch.randn(20, 4)
    order = torch.randperm(20)
    shuffled = [Batch(logits[rows], rows % 4, rows) for rows in order.split(6)]
    meter = measure(lambda images: images, shuffled, ClassMeter(4, 20, CPU))
    assert torch.equal(meter.answers, logits.argmax(1))


def rated(labels, answers, classes):
    """What a task says of a teacher that gives these answers."""
    task = blank_task(classes)
    task.classes = tuple("abcdefghij")[:classes]
    logits = torch.nn.functional.one_hot(answers, classes).float()
    return task.rate_teacher(measure(lambda images: images, batches(logits, labels, 50), ClassMeter(classes, len(labels), CPU)))


@pytest.mark.parametrize(
    ("classes", "right", "useless"),
    [(10, 15, True), (10, 16, False), (2, 60, True), (2, 61, False), (4, 35, True), (4, 36, False)],
)
def test_a_teacher_near_chance_is_told_of(classes, right, useless):
    """At most half as often again as by chance, and within ten points of it."""
    labels = torch.arange(100) % classes
    answers = torch.where(torch.arange(100) < right, labels, (labels + 1) % classes)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert rated(labels, answers, classes) == right
    assert [f"own top-1 on the evaluation split, {right}.00, is near chance" in str(one.message) for one in said] == [
        True
    ] * useless


def test_a_teacher_of_one_class_is_told_of():
    labels = torch.tensor([3] * 9 + [1])
    with pytest.warns(UserWarning, match=r"90\.00, comes of one class given to all images, `d`"):
        rated(labels, torch.full((10,), 3), 10)
