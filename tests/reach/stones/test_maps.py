"""Stepping stones of dense networks: maps, cut in the backbone where that can be, else behind it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from logitkd.data import Batch
from logitkd.losses import BlockKDLoss
from logitkd.reach import LabelMap, PairOptions, StoneModel, Teacher, Tutor, Wants, make_pair, resize_map
from map_networks import DeepLab, Flat, LowAndHigh, Pyramid, trained

CLASSES, WANTS = 5, Wants("stones")


def batch_of(seed: int, size: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 16, 24, generator=generator)
    return Batch(images, torch.randint(CLASSES, (size, 16, 24), generator=generator), torch.arange(size))


EXAMPLE, BATCH = batch_of(0), batch_of(1, 3)


def network(kind: type[nn.Module], seed: int, **options: object) -> nn.Module:
    torch.manual_seed(seed)
    return trained(kind(CLASSES, **options))


def teacher(model: nn.Module, **options: object) -> Teacher:
    return Teacher(model, num_classes=CLASSES, dense=True, **options)  # type: ignore[arg-type]


LAYERS = [f"backbone.layer{n}" for n in (1, 2, 3, 4)]
FOUND = {  # student and teacher -> cuts
    "DeepLab": (DeepLab, {}, DeepLab, {"width": 6}, [*zip(LAYERS, LAYERS, strict=True)]),
    "DeepLab, the auxiliary map first": (
        DeepLab,
        {"aux_first": True},
        DeepLab,
        {"aux_first": True},
        [*zip(LAYERS, LAYERS, strict=True)],
    ),
    "DeepLab of another stride": (DeepLab, {"stride": 2, "aux": False}, DeepLab, {}, [*zip(LAYERS, LAYERS, strict=True)]),
    "SegFormer": (Pyramid, {}, Pyramid, {"width": 6}, [("head.fuse", "head.fuse")]),
}


@pytest.mark.parametrize("case", FOUND)
def test_stones_are_found_and_every_one_has_a_gradient(case: str) -> None:
    student_kind, own, teacher_kind, theirs, cuts = FOUND[case]
    student, model = network(student_kind, 0, **own), network(teacher_kind, 1, **theirs)
    tutor = Tutor(teacher(model), WANTS)
    pair = make_pair(WANTS, student, tutor, EXAMPLE, PairOptions(grid="coarser"))
    assert pair.inner._stones[0].cuts == cuts  # type: ignore[union-attr,index,operator]
    signals, taught = pair.train()(BATCH, tutor.teach(BATCH, 1))
    assert taught is not None
    assert signals.stones is not None
    grid = taught.logits.shape[1:3]
    for number, stone in enumerate(signals.stones):
        assert stone.shape == signals.logits.shape == (3, *grid, CLASSES)
        pair.zero_grad()
        stone.square().sum().backward(retain_graph=True)
        first = next(student.parameters()).grad
        connector = next(pair.trained()["connectors"][number].parameters()).grad  # type: ignore[index]
        assert first is not None
        assert first.abs().max() > 0
        assert connector.abs().max() > 0
        assert all(parameter.grad is None for parameter in model.parameters())
    labels = BATCH.labels[:, :: 16 // grid[0], :: 24 // grid[1]]
    loss = BlockKDLoss()(signals.logits, taught.logits, labels, stones=signals.stones)
    loss.backward()
    assert loss.isfinite()


class FirstLayers(nn.Module):
    """The network up to a layer, put together by hand."""

    def __init__(self, network: DeepLab, layers: int) -> None:
        super().__init__()
        backbone = network.backbone
        self.layers = nn.Sequential(backbone.stem, *[getattr(backbone, f"layer{n}") for n in range(1, layers + 1)])

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def test_a_stone_is_the_networks_put_together_by_hand() -> None:
    student, model = network(DeepLab, 0, width=4, stride=2), network(DeepLab, 1, width=6)
    tutor = Tutor(teacher(model, label_map=LabelMap([4, 3, 2, 1, 0], CLASSES)), WANTS)
    options = PairOptions(student_cuts=["backbone.layer2"], teacher_cuts=["backbone.layer3"], grid="student")
    pair = make_pair(WANTS, student, tutor, EXAMPLE, options).eval()
    signals, taught = pair(BATCH, tutor.teach(BATCH, 1))
    entering = pair.trained()["connectors"][0](FirstLayers(student, 2)(BATCH.inputs))  # type: ignore[index,arg-type]
    stone = model.classifier(model.backbone.layer4(entering)).permute(0, 2, 3, 1).flip(-1)  # type: ignore[operator,union-attr]
    assert signals.stones is not None
    torch.testing.assert_close(signals.stones[0], resize_map(stone, (8, 12)))
    mine = student(BATCH.inputs)
    torch.testing.assert_close(signals.streams["own"], mine["out"].permute(0, 2, 3, 1))
    torch.testing.assert_close(signals.streams["aux"], mine["aux"].permute(0, 2, 3, 1))
    assert taught is not None
    theirs = model(BATCH.inputs)["out"].permute(0, 2, 3, 1).flip(-1)
    torch.testing.assert_close(taught.logits, resize_map(theirs, (8, 12)))


def test_stones_without_a_pair_are_maps_too() -> None:
    student, model = network(DeepLab, 0), network(DeepLab, 1)
    stones = StoneModel(student, teacher(model), EXAMPLE.inputs, use="last")
    taught = stones.teach(BATCH.inputs)
    assert taught.logits.shape == (3, 4, 6, CLASSES)
    assert set(taught.streams) == {"aux"}
    signals = stones(BATCH.inputs)
    assert signals.logits.shape == (3, 4, 6, CLASSES)
    assert [stone.shape for stone in signals.stones] == [(3, 4, 6, CLASSES)]


def test_of_a_network_whose_last_layer_reads_an_early_map_only_what_lies_before_it_is_cut() -> None:
    """Its stones end where the low map leaves the backbone; a cut behind it is refused with what to do."""
    student, model = network(LowAndHigh, 0), network(LowAndHigh, 1)
    stones = StoneModel(student, teacher(model), EXAMPLE.inputs)
    assert stones.cuts == [(LAYERS[0], LAYERS[0]), (LAYERS[2], LAYERS[2])]
    stones.export()
    with pytest.raises(
        ValueError, match=r"teacher cut `backbone.layer4` of LowAndHigh must put out all .* Choose another path"
    ):
        StoneModel(student, teacher(model), EXAMPLE.inputs, student_cuts=["backbone.layer4"], teacher_cuts=["backbone.layer4"])


def test_a_network_without_blocks_is_refused_with_what_to_name() -> None:
    with pytest.raises(ValueError, match="no blocks were found in Flat: give the module paths of their ends"):
        StoneModel(network(Flat, 0), teacher(network(DeepLab, 1)), EXAMPLE.inputs)
