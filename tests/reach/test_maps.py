"""Dense networks of any two strides on one grid: what a pair yields is what is composed by hand, or it is refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from logitkd.data import Batch
from logitkd.reach import (
    Ensemble,
    LabelMap,
    Pair,
    PairOptions,
    Renormalize,
    Signals,
    Teacher,
    Tutor,
    Wants,
    make_pair,
    resize_map,
)
from logitkd.reach.inputs import ByNetwork
from map_networks import DeepLab, Flat, trained

CLASSES = 5
MAPPED = LabelMap([4, 3, 2, 1, 0], CLASSES)


def batch_of(seed: int, size: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 16, 24, generator=generator)
    return Batch(images, torch.randint(CLASSES, (size, 16, 24), generator=generator), torch.arange(size))


EXAMPLE, BATCH = batch_of(0), batch_of(1, 3)


def network(kind: type[nn.Module], seed: int, **options: int) -> nn.Module:
    torch.manual_seed(seed)
    return trained(kind(CLASSES, **options))


def teacher(model: nn.Module, **options: object) -> Teacher:
    return Teacher(model, num_classes=CLASSES, dense=True, **options)  # type: ignore[arg-type]


def joined(
    student: nn.Module, taught_by: Teacher | Ensemble | None, grid: str, reads: str = "logits"
) -> tuple[Pair, Tutor | None]:
    tutor = None if taught_by is None else Tutor(taught_by, Wants(reads))
    return make_pair(Wants(reads), student, tutor, EXAMPLE, PairOptions(grid=grid, seed=3)), tutor  # type: ignore[arg-type]


def signals_of(student: nn.Module, taught_by: Teacher | Ensemble, grid: str, reads: str = "logits") -> tuple[Signals, Signals]:
    pair, tutor = joined(student, taught_by, grid, reads)
    assert tutor is not None
    found, theirs = pair(BATCH, tutor.teach(BATCH, 1))
    assert theirs is not None
    return found, theirs


def last(logits: Tensor) -> Tensor:
    return logits.permute(0, 2, 3, 1)


GRIDS = [  # strides of student and teacher -> the grid of images of 16 x 24
    ("coarser", 2, 4, (4, 6)),
    ("coarser", 4, 2, (4, 6)),
    ("coarser", 4, 4, (4, 6)),
    ("student", 2, 4, (8, 12)),
    ("student", 4, 2, (4, 6)),
    ("labels", 4, 2, (16, 24)),
]


@pytest.mark.parametrize(("grid", "mine", "theirs", "size"), GRIDS)
@pytest.mark.parametrize("reads", ["logits", "maps"])
def test_both_networks_are_brought_onto_one_grid(reads: str, grid: str, mine: int, theirs: int, size: tuple[int, int]) -> None:
    student, model = network(Flat, 0, stride=mine), network(Flat, 1, stride=theirs)
    found, taught = signals_of(student, teacher(model), grid, reads)
    own = last(student(BATCH.inputs))
    assert torch.equal(found.logits, resize_map(own, size))
    assert torch.equal(taught.logits, resize_map(last(model(BATCH.inputs)), size))
    assert torch.equal(found.streams["own"], own)
    assert (found.logits is found.streams["own"]) == (own.shape == found.logits.shape)
    assert not taught.logits.requires_grad
    assert found.logits.requires_grad


@pytest.mark.parametrize("teacher_aux", [True, False])
def test_auxiliary_maps_are_streams_on_the_grid(teacher_aux: bool) -> None:
    student, model = network(DeepLab, 0, stride=2), network(DeepLab, 1, stride=4, aux=teacher_aux)
    found, taught = signals_of(student.eval(), teacher(model), "coarser")
    mine, theirs = student(BATCH.inputs), model(BATCH.inputs)
    assert set(found.streams) == {"aux", "own", "own_aux"}
    assert torch.equal(found.streams["own_aux"], last(mine["aux"]))
    assert torch.equal(found.streams["aux"], resize_map(last(mine["aux"]), (4, 6)))
    assert torch.equal(found.logits, resize_map(last(mine["out"]), (4, 6)))
    assert set(taught.streams) == ({"aux"} if teacher_aux else set())
    for name, value in taught.streams.items():
        assert torch.equal(value, last(theirs[name]))


def test_without_a_teacher_the_student_stays_on_its_own_grid() -> None:
    student = network(DeepLab, 0)
    found, taught = joined(student, None, "labels")[0](BATCH, None)
    assert taught is None
    assert found.logits.shape == (3, 4, 6, CLASSES)
    assert found.logits is found.streams["own"]
    assert found.streams["aux"] is found.streams["own_aux"]


def test_a_label_map_and_a_normalisation_work_on_maps() -> None:
    student, model, renormalize = network(Flat, 0), network(DeepLab, 1), Renormalize([0.5] * 3, [0.2] * 3, [0.1] * 3, [0.4] * 3)
    mapped = teacher(model, label_map=MAPPED, renormalize=renormalize)
    _, taught = signals_of(student, mapped, "coarser")
    raw = model(renormalize(BATCH.inputs))
    assert torch.equal(taught.logits, last(raw["out"]).flip(-1))
    assert torch.equal(taught.streams["aux"], last(raw["aux"]).flip(-1))
    assert torch.equal(mapped.logits(BATCH.inputs), raw["out"].flip(1))


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="the teacher must have 6 classes, as the data, got 5: it was trained for other"):
        Teacher(network(Flat, 0), num_classes=6, dense=True)(BATCH.inputs)
    with pytest.raises(ValueError, match="the teacher must have 2 classes, as its label map, got 5"):
        Teacher(network(Flat, 0), num_classes=2, dense=True, label_map=LabelMap([1, 0], 2))(BATCH.inputs)


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_several_teachers_are_averaged_on_the_coarsest_grid(combine: str) -> None:
    models = [network(Flat, 1, stride=2), network(DeepLab, 2), network(Flat, 3, stride=4)]
    several = Ensemble([teacher(models[0], label_map=MAPPED), teacher(models[1]), teacher(models[2])], combine)  # type: ignore[arg-type]
    _, taught = signals_of(network(Flat, 0, stride=2), several, "coarser")
    maps = [last(models[0](BATCH.inputs)).flip(-1), last(models[1](BATCH.inputs)["out"]), last(models[2](BATCH.inputs))]
    maps = [resize_map(each, (4, 6)) for each in maps]
    mean = torch.stack([each.softmax(-1) for each in maps]).mean(0).log() if combine == "probabilities" else sum(maps) / 3  # type: ignore[arg-type]
    torch.testing.assert_close(taught.logits, mean)
    assert taught.streams == {}
    torch.testing.assert_close(several.logits(BATCH.inputs), mean.permute(0, 3, 1, 2))


def test_dense_teachers_beside_others_are_refused() -> None:
    with pytest.raises(ValueError, match="several teachers must all be dense, or none, got dense, one answer an example"):
        Ensemble([teacher(network(Flat, 1)), Teacher(network(Flat, 2), num_classes=CLASSES)])


def test_a_pair_trains_and_gives_back_what_its_inner_pair_does() -> None:
    student = network(DeepLab, 0)
    pair, _ = joined(student, teacher(network(DeepLab, 1)), "coarser", "stones")
    parts = pair.trained()
    assert list(parts) == ["student", "connectors"]
    listed = [parameter for part in parts.values() for parameter in part.parameters()]
    assert [id(parameter) for parameter in pair.parameters()] == [id(parameter) for parameter in listed]
    assert pair.stored() == {}
    assert "layer4" in pair.note()
    assert pair.close() is student
    assert all("forward" not in vars(module) for module in student.modules())


@pytest.mark.parametrize(
    ("reads", "grid", "dense", "message"),
    [
        ("regions", "coarser", True, "`grid` must be None where regions are read, got coarser: SDD and iCD divide"),
        ("maps", None, False, "`grid` must be given where maps are read, got None: the loss needs a map of logits an example"),
        ("logits", None, True, r"`grid` must be given for a dense teacher, got None: `Teacher\(..., dense=False\)`"),
        ("logits", "coarser", False, "`grid` must be None for a teacher that answers once an example, got coarser"),
        ("logits", "finer", True, "`grid` must be one of 'coarser', 'student', 'labels', got 'finer'"),
    ],
)
def test_what_does_not_fit_a_grid_is_refused(reads: str, grid: str | None, dense: bool, message: str) -> None:
    wants = Wants(reads)
    tutor = Tutor(Teacher(network(Flat, 1), num_classes=CLASSES, dense=dense), wants)
    with pytest.raises(ValueError, match=message):
        make_pair(wants, network(Flat, 0), tutor, EXAMPLE, PairOptions(grid=grid))  # type: ignore[arg-type]


def test_regions_of_a_dense_teacher_and_the_grid_of_no_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`scales` must be None for a dense network, got \(1, 2\): regions are those of a"):
        Tutor(teacher(network(Flat, 1)), Wants("regions", (1, 2)))
    flat = EXAMPLE._replace(labels=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"`grid` must be coarser or student where labels are no maps .* got labels \(2,\)"):
        make_pair(Wants(), network(Flat, 0), None, flat, PairOptions(grid="labels"))


def test_inputs_may_have_names_and_be_each_network_s_own() -> None:
    student, model = network(Flat, 0), network(Flat, 1, stride=4)
    own = ByNetwork({"student": {"images": BATCH.inputs}, "teacher": {"images": BATCH.inputs.flip(3)}})
    for inputs, seen in (({"images": BATCH.inputs}, BATCH.inputs), (own, BATCH.inputs.flip(3))):
        pair, tutor = joined(student, teacher(model), "coarser")
        batch = BATCH._replace(inputs=inputs)
        assert tutor is not None
        found, taught = pair(batch, tutor.teach(batch, 1))
        assert torch.equal(found.streams["own"], last(student(BATCH.inputs)))
        assert taught is not None
        assert torch.equal(taught.logits, last(model(seen)))
