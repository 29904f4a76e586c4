import pytest
import torch

from logitkd.losses.base import Term
from logitkd.training.epoch_log import NonFiniteLossError, StepLog, epoch_line
from logitkd.training.pupil import StepOutput


def output(total, terms, student, teacher=None, right=0, labelled=None):
    """A step's: each term's mean times what it counts, the examples unless it is ``ce``."""
    count = len(student)
    labelled = count if labelled is None else labelled
    masses = {name: labelled if name == "ce" else count for name in terms}
    sums = {name: Term(torch.tensor(mean * masses[name]), torch.tensor(masses[name])) for name, mean in terms.items()}
    scores = {"top1": Term(torch.tensor(100 * right), torch.tensor(labelled))}
    return StepOutput(torch.tensor(total), sums, scores, count, student, teacher)


def add(log, step, ce, kd, student=None, teacher=None):
    student = torch.zeros(4, 3) if student is None else student
    return log.add(2, step, output(ce + kd, {"ce": ce, "kd": kd}, student, teacher, right=len(student) // 2))


def test_means_weigh_batches_by_their_size():
    log = StepLog(every=2)
    assert not add(log, 1, 1.0, 2.0)
    assert add(log, 2, 4.0, 5.0, student=torch.zeros(2, 3))
    log.read()
    assert log.means() == pytest.approx({"loss": (4 * 3 + 2 * 9) / 6, "ce": 2.0, "kd": 3.0})
    assert log.scores() == pytest.approx({"top1": 50.0})


def test_sums_go_on_and_do_not_depend_on_when_they_are_read():
    values = [(0.1 * i, 0.7 / (i + 1)) for i in range(9)]
    once = StepLog(every=100)
    for step, pair in enumerate(values):
        add(once, step, *pair)
    once.read()
    often = StepLog(every=100)
    for step, pair in enumerate(values):
        add(often, step, *pair)
        if step in (1, 2, 6):
            often.read()
            often = StepLog(every=100, sums=often.sums)
    often.read()
    assert once.sums == often.sums


def test_nothing_read_gives_no_means():
    assert StepLog(every=2).means() == {}


def test_large_logits_are_read_sooner():
    log = StepLog(every=100)
    assert add(log, 1, 1.0, 1.0, student=torch.zeros(1024, 16 * 1024 + 1))


def test_first_bad_step_and_term_are_named():
    log = StepLog(every=10)
    add(log, 1, 1.0, 2.0)
    student = torch.tensor([[1.0, 3.0, 2.0], [float("nan"), 2.0, float("inf")]])
    add(log, 2, 1.0, float("nan"), student=student, teacher=torch.tensor([[5.0, 7.0, 6.0]]))
    add(log, 3, float("inf"), float("nan"))
    with pytest.raises(NonFiniteLossError) as error:
        log.read()
    message = str(error.value)
    assert "the loss term `kd` must be finite, got nan at epoch 2, step 2 (loss nan, ce 1, kd nan)" in message
    assert "student logits: min 1, max 3, mean 2, 66.7 % finite" in message
    assert "teacher logits: min 5, max 7, mean 6, 100.0 % finite" in message
    assert "smaller `optim.lr`" in message
    assert log.sums["count"] == [4, 4]


def test_teacher_is_blamed_for_its_own_logits():
    log = StepLog(every=1)
    add(log, 1, 1.0, float("inf"), teacher=torch.full((4, 3), float("inf")))
    with pytest.raises(NonFiniteLossError, match="teacher's logits are not finite"):
        log.read()


def test_overflow_inside_the_loss_is_told_apart():
    log = StepLog(every=1)
    add(log, 1, 1.0, float("inf"), teacher=torch.zeros(4, 3))
    with pytest.raises(NonFiniteLossError, match="the loss itself overflowed"):
        log.read()


def test_missing_labels_count_for_neither_accuracy_nor_cross_entropy():
    log = StepLog(every=2)
    for step, (ce, correct, labelled) in enumerate([(2.0, 1, 1), (0.0, 0, 0), (1.0, 2, 3)]):
        out = output(ce + 4.0, {"ce": ce, "kd": 4.0}, torch.zeros(4, 3), right=correct, labelled=labelled)
        log.add(1, step, out)
    log.read()
    assert log.means() == pytest.approx({"loss": 5.0, "ce": (2 + 3 * 1) / 4, "kd": 4.0})
    assert log.scores() == {"top1": 75.0}


def test_without_any_label_there_is_no_accuracy():
    log = StepLog(every=2)
    log.add(1, 1, output(1.0, {"kd": 1.0}, torch.zeros(4, 3), labelled=0))
    log.read()
    assert log.means() == {"loss": 1.0, "kd": 1.0}
    assert log.scores() == {}


def test_masked_classes_are_nobodys_fault():
    """-inf in both: what refused the step, or overflowed, is something else."""
    masked = torch.tensor([[1.0, float("-inf"), 2.0]])
    log = StepLog(every=1)
    log.refuse(1, 1, masked, masked)
    add(log, 1, 1.0, float("inf"), student=masked, teacher=masked)
    with pytest.raises(NonFiniteLossError, match="the loss itself overflowed"):
        log.read()
    with pytest.raises(NonFiniteLossError, match="the student's logits must be finite"):
        log.refuse(1, 1, masked, torch.zeros(1, 3))


def test_an_epochs_line_holds_its_means_and_its_speed():
    sums = {"loss": [400.0, 200], "ce": [300.0, 100], "score.top1": [2500.0, 100], "count": [200, 200]}
    evaluation = {"split": "test", "eval": {"top1": 55.0}, "best": {"top1": 60.0, "epoch": 2}}
    line = epoch_line(3, 0.1, StepLog(1, sums), evaluation, 10.0, 2.0)
    assert (line["epoch"], line["lr"], line["loss"], line["terms"]) == (3, 0.1, 2.0, {"ce": 3.0})
    assert line["train"] == {"top1": 25.0}
    assert {key: line[key] for key in evaluation} == evaluation
    assert (line["seconds"], line["eval_seconds"], line["examples_per_second"]) == (10.0, 2.0, 20.0)
