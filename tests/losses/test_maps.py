"""Every method of maps: each cell is an example, an ignored one is none, and what is kept for the gradient is little."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from logitkd import methods
from logitkd.data import Batch
from logitkd.losses import LogitLoss
from logitkd.objective import Measured, Objective, Targets
from logitkd.reach import PairOptions, Signals, Teacher, Tutor, Wants, make_pair
from logitkd.reach.maps import Grid
from map_networks import DeepLab, Flat, trained

N, H, W, C = 3, 4, 5, 11
ROWS = [
    name
    for name in methods.names()
    if (loss := methods.get(name).loss) is not None and loss.per_example and loss.reads in ("logits", "maps", "stones")
]
CROSS_ENTROPIES = {"target", "nontarget", "task"}  # of these a student that is its teacher has some left
rows = pytest.mark.parametrize("name", ROWS)


def loss_of(name: str) -> LogitLoss:
    loss = methods.get(name).loss
    assert loss is not None
    return loss


class Maps:
    """Maps of a student, its stones and a teacher, labels and which cells count; ``fill`` stands in the others."""

    def __init__(self, dtype: torch.dtype = torch.float32, fill: float | None = None, label: int = -1) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weights = (torch.rand(N, H, W, generator=generator) > 0.3).float()
        ignored = self.weights == 0

        def draw() -> Tensor:
            logits = (3 * torch.randn(N, C, H, W, generator=generator)).to(dtype)  # as a network puts it out
            if fill is not None:
                noise = torch.randn(N, 1, H, W, generator=torch.Generator().manual_seed(int(fill)))
                logits = torch.where(ignored.unsqueeze(1), (fill * noise).to(dtype), logits)
            return logits

        self.student, self.teacher, self.stone = draw().requires_grad_(), draw(), draw().requires_grad_()
        self.labels = torch.where(ignored, label, torch.randint(C, (N, H, W), generator=generator))
        self.leaves = [self.student]

    def measure(self, loss: LogitLoss, times: int = 1) -> Measured:
        def last(logits: Tensor) -> Tensor:
            return torch.cat([logits] * times).movedim(1, -1)

        labels, weights = (torch.cat([each] * times) for each in (self.labels, self.weights))
        if loss.reads == "stones":
            self.leaves = [self.student, self.stone]
        signals = Signals(last(self.student), stones=[last(self.stone)])
        return Objective(loss, ce_weight=0.0).measure(
            signals, Signals(last(self.teacher)), Targets(labels, weights, weights), 1
        )


@rows
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_ignored_cells_have_no_influence_on_value_and_gradient(name: str, dtype: torch.dtype) -> None:
    """Bit for bit, whatever stands in both logits and in the labels."""
    plain = Maps(dtype)
    expected = plain.measure(loss_of(name)).total()
    gradients = torch.autograd.grad(expected, plain.leaves)
    for fill, label in ((1.0, 255), (1e4, -2)):
        maps = Maps(dtype, fill, label)
        found = maps.measure(loss_of(name)).total()
        assert torch.equal(found, expected)
        for ours, theirs in zip(torch.autograd.grad(found, maps.leaves), gradients, strict=True):
            assert torch.equal(ours, theirs)
            assert not ours.movedim(1, -1)[maps.weights == 0].any()
            assert ours.any()


@rows
def test_a_value_is_the_mean_over_the_cells_that_count(name: str) -> None:
    loss, maps = loss_of(name), Maps()
    if loss.reads != "logits":
        pytest.skip("its own file compares it with loops")
    keep = maps.weights > 0
    student, teacher = maps.student.movedim(1, -1)[keep], maps.teacher.movedim(1, -1)[keep]
    torch.testing.assert_close(maps.measure(loss).total(), loss(student, teacher, maps.labels[keep]))


@rows
def test_a_batch_twice_has_the_same_loss(name: str) -> None:
    maps = Maps(torch.float64)
    torch.testing.assert_close(maps.measure(loss_of(name), 2).total(), maps.measure(loss_of(name)).total())


@rows
def test_a_copy_of_the_teacher_learns_nothing(name: str) -> None:
    maps, loss = Maps(torch.float64), loss_of(name)
    with torch.no_grad():
        maps.student.copy_(maps.teacher)
        maps.stone.copy_(maps.teacher)
    measured = maps.measure(loss)
    for term in set(measured.terms) - CROSS_ENTROPIES:
        assert abs(measured.terms[term].mean()) < 1e-12
        (gradient,) = torch.autograd.grad(measured.terms[term].sum, maps.student, retain_graph=True)
        assert gradient.abs().max() < 1e-12


@rows
def test_a_batch_of_ignored_cells_adds_nothing(name: str) -> None:
    maps = Maps()
    maps.weights.zero_()
    total = maps.measure(loss_of(name)).total()
    assert total == 0
    assert not any(gradient.any() for gradient in torch.autograd.grad(total, maps.student))


def kept_maps(name: str, mine: int, theirs: int, **options: int) -> float:
    """Return what lies between the networks' outputs and the total for the gradient, in maps of the distillation grid."""
    held: dict[int, tuple[Tensor, int]] = {}

    def note(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage()._cdata] = tensor, tensor.untyped_storage().nbytes()
        return tensor

    loss = methods.get(name).replace(**options).loss
    assert loss is not None
    student, wants = Flat(C, mine), Wants(loss.reads)
    tutor = Tutor(Teacher(Flat(C, theirs), num_classes=C, dense=True), wants)
    images, index = torch.randn(2, 3, 32, 48), torch.arange(2)
    batch = Batch(images, torch.zeros(2, 32, 48, dtype=torch.int64), index)
    pair = make_pair(wants, student, tutor, batch, PairOptions(grid="coarser"))
    taught = tutor.teach(batch, 1)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        signals, teacher = pair(batch, taught)
        of_network = set(held) - {signals.streams["own"].untyped_storage()._cdata}
        cells = signals.logits.shape[:-1]
        labels, weights = torch.randint(C, cells), torch.randint(2, cells).float()
        total = Objective(loss, ce_weight=0.0).measure(signals, teacher, Targets(labels, weights, weights), 1).total()
    assert total.requires_grad
    for logits in (signals.logits, teacher.logits) if loss.recompute else ():  # terms are computed once more, from these
        note(logits)
    bytes_kept = sum(size for storage, (_, size) in held.items() if storage not in of_network)
    return bytes_kept / (signals.logits.numel() * signals.logits.element_size())


@pytest.mark.parametrize(("mine", "theirs"), [(4, 4), (2, 4), (4, 2)])
@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in ROWS if loss_of(name).reads != "stones"), ("gdkd", {"top_k": 3}), ("ldrld", {"depth": 4})],
    ids=str,
)
def test_what_is_kept_for_the_gradient_is_at_most_three_maps(
    name: str, options: dict[str, int], mine: int, theirs: int
) -> None:
    assert 2 <= kept_maps(name, mine, theirs, **options) <= 3


@pytest.mark.parametrize("name", ["kd", "gdkd", "ls-gdkd", "cwd", "dkd"])
@pytest.mark.parametrize("grid", ["coarser", "labels"])
def test_a_student_that_is_a_copy_of_its_teacher_gets_no_gradient_through_a_pair(name: str, grid: Grid) -> None:
    """Of its auxiliary head neither; half of the cells are ignored, and of the labels one in eight is seen on the grid."""
    torch.manual_seed(0)
    model = trained(DeepLab(C)).double()
    student, wants = copy.deepcopy(model), methods.get(name).wants
    images, labels = torch.randn(2, 3, 16, 24, dtype=torch.float64), torch.randint(C, (2, 16, 24))
    batch = Batch(images, labels, torch.arange(2))
    tutor = Tutor(Teacher(model, num_classes=C, dense=True), wants)
    pair = make_pair(wants, student, tutor, batch, PairOptions(grid=grid)).eval()
    signals, teacher = pair(batch, tutor.teach(batch, 1))
    step = 16 // signals.logits.shape[1]
    labels, weights = labels[:, ::step, ::step], torch.randint(2, (2, 16, 24))[:, ::step, ::step].double()
    objective = Objective(methods.get(name).loss, ce_weight=0.0, streams={"aux": 0.4})
    measured = objective.measure(signals, teacher, Targets(labels, weights, weights), 1)
    assert {term.removesuffix("_aux") for term in measured.terms if term.endswith("_aux")} <= set(measured.terms)
    assert all(term.mean().abs() < 1e-10 and term.mass > 0 for term in measured.terms.values())
    measured.total().backward()
    assert all(parameter.grad.abs().max() < 1e-9 for parameter in student.parameters() if parameter.grad is not None)
    assert next(student.parameters()).grad is not None
