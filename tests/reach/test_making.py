"""Every kind of pair with every kind of teacher: what it yields is what is composed by hand, or it is refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from logitkd.data import Batch
from logitkd.reach import (
    Ensemble,
    LabelMap,
    Pair,
    PairError,
    PairOptions,
    RegionModel,
    Renormalize,
    Signals,
    StoneModel,
    Taught,
    Teacher,
    Tutor,
    Wants,
    make_pair,
    making,
    register_pair,
)
from plain_network import Plain
from text_network import Text, texts

CLASSES = 5
SCALES = (1, 2)
WANTS = {"logits": Wants(), "regions": Wants("regions", SCALES), "stones": Wants("stones")}
CUTS = PairOptions(student_cuts=["first", "second"], teacher_cuts=["first", "second"], seed=3)


def batch_of(seed: int, size: int = 2) -> Batch:
    images = torch.randn(size, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Batch(images, torch.arange(size) % CLASSES, torch.arange(size))


EXAMPLE, BATCH = batch_of(0), batch_of(1, 4)


def network(seed: int) -> Plain:
    torch.manual_seed(seed)
    return Plain()


def alone() -> Teacher:
    return Teacher(network(1).eval(), num_classes=CLASSES)


def mapped(seed: int = 1) -> Teacher:
    return Teacher(network(seed).eval(), num_classes=CLASSES, label_map=LabelMap([4, 3, 2, 1, 0], CLASSES))


def renormalized(seed: int = 1) -> Teacher:
    renormalize = Renormalize([0.5] * 3, [0.2] * 3, [0.1] * 3, [0.4] * 3)
    return Teacher(network(seed).eval(), num_classes=CLASSES, renormalize=renormalize)


def several() -> Ensemble:
    return Ensemble([alone(), Teacher(network(2).eval(), num_classes=CLASSES)])


def several_unlike() -> Ensemble:
    return Ensemble([mapped(), renormalized(2)])


TEACHERS: dict[str, Callable[[], Teacher | Ensemble]] = {
    "one": alone,
    "label map": mapped,
    "another normalisation": renormalized,
    "several": several,
    "several, each with its own": several_unlike,
}


def by_hand(reads: str, student: Plain, teacher: Teacher | Ensemble) -> tuple[Signals, Signals]:
    """Return both networks' signals without a pair."""
    if reads == "logits":
        return Signals(student(BATCH.inputs)), teacher(BATCH.inputs)
    if reads == "regions":
        for member in teacher.members():
            member.yield_regions(SCALES)
        return RegionModel(student, SCALES)(BATCH.inputs), teacher(BATCH.inputs)
    assert isinstance(teacher, Teacher)
    torch.manual_seed(CUTS.seed)
    stones = StoneModel(student, teacher, EXAMPLE.inputs, student_cuts=CUTS.student_cuts, teacher_cuts=CUTS.teacher_cuts)
    taught = stones.teach(BATCH.inputs)
    return stones(BATCH.inputs), taught


def tensors_of(signals: Signals) -> dict[str, Tensor]:
    stones = {f"stone {number}": stone for number, stone in enumerate(signals.stones or [])}
    regions = {} if signals.regions is None else {"regions": signals.regions}
    return {"logits": signals.logits} | regions | stones


REFUSED = {("stones", "several"), ("stones", "several, each with its own")}


@pytest.mark.parametrize("reads", WANTS)
@pytest.mark.parametrize("teacher", TEACHERS)
def test_a_pair_yields_what_is_composed_by_hand_or_is_refused(reads: str, teacher: str) -> None:
    student, tutor = network(0), Tutor(TEACHERS[teacher](), WANTS[reads])
    if (reads, teacher) in REFUSED:
        with pytest.raises(ValueError, match="stepping stones enter the blocks of one teacher, got 2: give one, or choose"):
            make_pair(WANTS[reads], student, tutor, EXAMPLE, CUTS)
        return
    pair = make_pair(WANTS[reads], student, tutor, EXAMPLE, CUTS)
    taught = tutor.teach(BATCH, 1)
    tutor.teach(EXAMPLE, 1)  # what was taught last must not matter
    found = pair(BATCH, taught)
    for mine, expected in zip(found, by_hand(reads, network(0), TEACHERS[teacher]()), strict=True):
        torch.testing.assert_close(tensors_of(mine), tensors_of(expected), rtol=0, atol=0)
    assert not taught.signals.logits.requires_grad
    inputs = None if isinstance(tutor.teacher, Ensemble) else tutor.teacher.prepare(BATCH.inputs)
    torch.testing.assert_close(taught.inputs, inputs, rtol=0, atol=0)


TEXTS = Batch(texts([6, 6]), torch.arange(2), torch.arange(2))  # type: ignore[arg-type]


def test_plain_pairs_take_inputs_by_name_and_regions_do_not() -> None:
    """Stones: ``replay/test_named_inputs.py``."""
    student, model = Text(4), Text().eval()
    padded = TEXTS._replace(inputs=texts([2, 5], seed=1))
    tutor = Tutor(Ensemble([Teacher(model, num_classes=3), Teacher(Text().eval(), num_classes=3)]), Wants())
    found, taught = make_pair(Wants(), student, tutor, TEXTS)(padded, tutor.teach(padded, 1))
    torch.testing.assert_close(found.logits, student(**padded.inputs), rtol=0, atol=0)
    assert taught is not None
    torch.testing.assert_close(taught.logits, tutor.teacher.logits(padded.inputs), rtol=0, atol=0)
    tutor = Tutor(Teacher(model, num_classes=3), WANTS["regions"])
    with pytest.raises(PairError, match="the student has no regions: region logits need images, one tensor"):
        make_pair(WANTS["regions"], student, tutor, TEXTS)


def test_inputs_by_name_cannot_be_normalised_otherwise() -> None:
    renormalize = Renormalize([0.5] * 3, [0.2] * 3, [0.1] * 3, [0.4] * 3)
    tutor = Tutor(Teacher(Text().eval(), num_classes=3, renormalize=renormalize), Wants())
    with pytest.raises(TypeError, match=r"`renormalize` must be given images, .* by name \(input_ids, attention_mask"):
        tutor.teach(TEXTS, 1)


@pytest.mark.parametrize("reads", WANTS)
def test_what_is_trained_is_the_student_then_the_connectors(reads: str) -> None:
    student = network(0)
    pair = make_pair(WANTS[reads], student, Tutor(alone(), WANTS[reads]), EXAMPLE, CUTS)
    parts = pair.trained()
    assert list(parts) == ["student"] + ["connectors"] * (reads == "stones")
    assert parts["student"] is pair.student is student
    listed = [parameter for part in parts.values() for parameter in part.parameters()]
    assert [id(parameter) for parameter in pair.parameters()] == [id(parameter) for parameter in listed]
    assert pair.stored() == {}
    assert ("first" in pair.note()) == (reads == "stones")


@pytest.mark.parametrize("reads", WANTS)
def test_closed_both_networks_are_as_they_were_given(reads: str) -> None:
    student, teacher = network(0), alone()
    before = student(BATCH.inputs), teacher.logits(BATCH.inputs)
    tutor = Tutor(teacher, WANTS[reads])
    pair = make_pair(WANTS[reads], student, tutor, EXAMPLE, CUTS)
    pair(BATCH, tutor.teach(BATCH, 1))
    assert pair.close() is student
    torch.testing.assert_close((student(BATCH.inputs), teacher.logits(BATCH.inputs)), before, rtol=0, atol=0)
    for model in (student, teacher.model):
        assert all("forward" not in vars(module) for module in model.modules())


def test_a_student_without_a_teacher_learns_from_labels() -> None:
    student = network(0)
    found, taught = make_pair(Wants(), student, None, EXAMPLE)(BATCH, None)
    torch.testing.assert_close(found.logits, student(BATCH.inputs), rtol=0, atol=0)
    assert taught is None


@pytest.mark.parametrize("reads", ["regions", "stones"])
def test_where_a_teacher_is_needed_none_is_refused(reads: str) -> None:
    with pytest.raises(ValueError, match="`tutor` must be given where"):
        make_pair(WANTS[reads], network(0), None, EXAMPLE)


def test_two_pairs_of_one_tutor_do_not_disturb_each_other() -> None:
    def tutor() -> Tutor:
        return Tutor(Teacher(nn.Sequential(network(1), nn.Identity()), num_classes=CLASSES), WANTS["stones"])

    def pair(teacher: Tutor, cut: str) -> Pair:
        return make_pair(WANTS["stones"], network(0), teacher, EXAMPLE, PairOptions(None, None, ["first"], [cut]))

    def stone(joined: Pair, batch: Batch, taught: Taught) -> Tensor:
        return (joined(batch, taught)[0].stones or [])[0]

    shared, cuts = tutor(), ["0", "0.third"]  # one inside the other
    pairs = [pair(shared, cut) for cut in cuts]
    taught = [shared.teach(batch, 1) for batch in (BATCH, EXAMPLE)]
    found = [stone(joined, BATCH, taught[0]) for joined in pairs]
    pairs[0].close()
    found.append(stone(pairs[1], BATCH, shared.teach(BATCH, 1)))
    for cut, value in zip([*cuts, cuts[1]], found, strict=True):
        own = tutor()
        torch.testing.assert_close(value, stone(pair(own, cut), BATCH, own.teach(BATCH, 1)), rtol=0, atol=0)


class Flat(nn.Module):
    """Reads every number of its map: no average, no regions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images).flatten(1))


@pytest.mark.parametrize(
    ("student", "members", "member", "who"),
    [
        (Flat, [network(1)], None, "the student has no regions: "),
        (Plain, [Flat()], 0, "the teacher has no regions: "),
        (Plain, [network(1), Flat()], 1, r"the teacher \(number 1, counted from 0\) has no regions: "),
    ],
)
def test_a_network_without_regions_is_named(
    student: type[nn.Module], members: list[nn.Module], member: int | None, who: str
) -> None:
    teachers = [Teacher(each, num_classes=CLASSES) for each in copy.deepcopy(members)]
    tutor = Tutor(teachers[0] if len(teachers) == 1 else Ensemble(teachers), WANTS["regions"])
    with pytest.raises(PairError, match=who) as caught:
        make_pair(WANTS["regions"], student(), tutor, EXAMPLE)
    assert caught.value.member == member
    assert "there is no pooling" in caught.value.reason


def test_a_person_may_say_where_the_student_averages_its_map() -> None:
    student = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    tutor = Tutor(alone(), WANTS["regions"])
    pair = make_pair(WANTS["regions"], student, tutor, EXAMPLE, PairOptions(student_pool="1", student_head="3"))
    found, _ = pair(BATCH, tutor.teach(BATCH, 1))
    expected = RegionModel(copy.deepcopy(student), SCALES, pool="1", head="3")(BATCH.inputs)
    torch.testing.assert_close(found.regions, expected.regions, rtol=0, atol=0)
    for wrong, reason in (("3", "`pool` must be a module that takes a map"), ("7", "`pool` `7` is no module of Sequential")):
        with pytest.raises(PairError, match=f"the student has no regions: {reason}"):
            make_pair(WANTS["regions"], student, tutor, EXAMPLE, PairOptions(student_pool=wrong))


def test_networks_that_share_a_tensor_and_other_wants_are_refused() -> None:
    student = network(0)
    with pytest.raises(ValueError, match="student and teacher must not share tensors"):
        make_pair(Wants(), student, Tutor(Teacher(student, num_classes=CLASSES), Wants()), EXAMPLE)
    with pytest.raises(ValueError, match="`wants` must be what the tutor was made for"):
        make_pair(WANTS["regions"], student, Tutor(alone(), Wants()), EXAMPLE)
    with pytest.raises(ValueError, match="unknown way of reaching in `region`"):
        make_pair(Wants("region"), student, Tutor(alone(), Wants()), EXAMPLE)
    with pytest.raises(ValueError, match="`example` must be a batch of two, got 1"):
        make_pair(Wants(), student, None, batch_of(0, 1))


class Normed(nn.Module):
    """A convolution, its norm, and another: what may be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
        self.norm_two, self.head = nn.BatchNorm2d(4), nn.Linear(4, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm_two(self.two(self.norm(self.one(images)).relu())).mean((2, 3)))


@pytest.mark.parametrize(
    ("reads", "folded"), [("logits", ["norm", "norm_two"]), ("regions", ["norm", "norm_two"]), ("stones", ["norm_two"])]
)
def test_norms_are_folded_once_but_not_at_a_cut(reads: str, folded: list[str]) -> None:
    teacher = Teacher(Normed().eval(), num_classes=CLASSES)
    before = teacher.logits(BATCH.inputs)
    tutor = Tutor(teacher, WANTS[reads], fold=True)
    assert isinstance(teacher.model.norm, nn.BatchNorm2d)
    cuts = PairOptions(student_cuts=["first"], teacher_cuts=["one"])
    pair = make_pair(WANTS[reads], network(0), tutor, EXAMPLE, cuts)
    assert [name for name, module in teacher.model.named_children() if isinstance(module, nn.Identity)] == folded
    taught = tutor.teach(BATCH, 1)
    torch.testing.assert_close(taught.signals.logits, before)
    pair(BATCH, taught)
    if reads == "logits":
        with pytest.raises(ValueError, match="batch norms are folded once, and `one` was not kept"):
            tutor.settle(["one"])


class Banked(Pair):
    """A user's own way of reaching in: both networks' last maps, a projection that is trained, and a bank by index."""

    def __init__(self, student: nn.Module, tutor: Tutor, seed: int) -> None:
        super().__init__(student, tutor)
        torch.manual_seed(seed)
        self.project = nn.Linear(4, 4)
        self.bank = nn.Module()
        self.bank.register_buffer("features", torch.zeros(16, 4))

    def forward(self, batch: Batch, taught: Taught | None) -> tuple[Signals, Signals | None]:  # type: ignore[override]
        assert taught is not None
        seen: list[Tensor] = []
        handle = self.student.get_submodule("third").register_forward_hook(lambda *call: seen.append(call[2].mean((2, 3))))
        logits = self.student(batch.inputs)
        handle.remove()
        projected = self.project(seen[0])
        remembered = self.bank.get_buffer("features")[batch.index]
        self.bank.get_buffer("features")[batch.index] = projected.detach()
        return Signals(logits, streams={"now": projected, "before": remembered}), taught.signals

    def trained(self) -> dict[str, nn.Module]:
        return super().trained() | {"project": self.project}

    def stored(self) -> dict[str, nn.Module]:
        return {"bank": self.bank}


@pytest.fixture
def banked(monkeypatch: pytest.MonkeyPatch) -> Wants:
    monkeypatch.setattr(making, "_KINDS", dict(making._KINDS))

    def build(student: nn.Module, tutor: Tutor | None, example: object, options: PairOptions) -> Pair:
        assert tutor is not None
        return Banked(student, tutor, options.seed)

    register_pair("banked", build)
    return Wants("banked")


def test_another_way_of_reaching_in_is_one_class_and_one_call(banked: Wants) -> None:
    tutor = Tutor(alone(), banked)
    pair = make_pair(banked, network(0), tutor, EXAMPLE)
    optimizer = torch.optim.SGD(pair.parameters(), lr=0.1)
    assert len(optimizer.param_groups[0]["params"]) == len(list(network(0).parameters())) + 2
    streams = []
    for _ in range(2):
        student, teacher = pair(BATCH, tutor.teach(BATCH, 1))
        assert teacher is not None
        streams.append(student.streams)
        (student.streams["now"].square().sum() + (student.logits - teacher.logits).square().sum()).backward()
        optimizer.step()
    assert streams[0]["before"].eq(0).all()
    torch.testing.assert_close(streams[1]["before"], streams[0]["now"].detach(), rtol=0, atol=0)
    assert list(pair.trained()) == ["student", "project"]
    assert list(pair.stored()["bank"].state_dict()) == ["features"]


def test_a_taken_name_is_refused(banked: Wants) -> None:
    for name in ("logits", banked.reads):
        with pytest.raises(ValueError, match=f"`reads` must be a new name, got `{name}`, which is taken"):
            register_pair(name, making._KINDS["logits"])
