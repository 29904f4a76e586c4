"""Blocks are found in every family of models, and both sides get the same number of them."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn

import logitkd.models  # noqa: F401 (registers the CIFAR networks)
from logitkd.reach.replay.flow import follow
from logitkd.reach.replay.replay import Replay
from logitkd.reach.stones.blocks import Blocks
from logitkd.reach.stones.cuts import find_blocks, pair_cuts

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("cifar_resnet8x4", ("layer1", "layer2", "layer3")),
        ("cifar_vgg8", ("act0", "act1", "act2", "act3", "act4")),
        ("cifar_wrn_16_2", ("block1", "block2", "relu")),
        ("resnet18", ("layer1", "layer2", "layer3", "layer4")),
        ("convnext_atto", ("stages.0", "stages.1", "stages.2", "stages.3")),
        ("mobilenetv3_small_100", ("blocks.0", "blocks.1", "blocks.3", "blocks.5")),
    ],
)
def test_timm_models_are_cut_behind_their_stages_not_their_stem(name: str, paths: tuple[str, ...]) -> None:
    found = find_blocks(timm.create_model(name, num_classes=5).eval(), IMAGES)
    if name == "cifar_vgg8":  # a first block of one layer counts as a stem
        paths = paths[1:]
    assert found == Blocks(paths, equal=False)


def test_a_vision_transformer_has_equal_layers() -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32, depth=6)
    assert find_blocks(model, IMAGES) == Blocks(tuple(f"blocks.{i}" for i in range(6)), equal=True)


class Logits(nn.Module):
    """A transformers classifier as a plain one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).logits


def test_transformers_encoder_layers_are_equal_blocks() -> None:
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=6, num_attention_heads=2, intermediate_size=8, image_size=32, patch_size=8
    )
    found = find_blocks(Logits(transformers.ViTForImageClassification(config)), IMAGES)
    assert found.equal
    assert len(found.paths) == 6
    assert all(path.endswith(str(number)) for number, path in enumerate(found.paths))


def test_transformers_stages_are_blocks() -> None:
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8, 8], depths=[1, 1, 1], layer_type="basic")
    found = find_blocks(Logits(transformers.ResNetForImageClassification(config)), IMAGES)
    assert found.paths == tuple(f"model.resnet.encoder.stages.{i}" for i in range(3))


class Wrapped(nn.Module):
    """One's own classifier around a network of a library; ``named``: that says where its stages are, or hides it."""

    def __init__(self, name: str, named: bool | None) -> None:
        super().__init__()
        self.backbone = timm.create_model(name, num_classes=5)
        if not named:
            self.backbone.feature_info = None
        if named is False:
            for layer in [n for n, _ in self.backbone.named_children() if n.startswith("layer")]:
                setattr(self.backbone, f"part{layer[-1]}", self.backbone._modules.pop(layer))
        self.named = named

    def forward(self, images: Tensor) -> Tensor:
        if self.named is not False:
            return self.backbone(images)
        net = self.backbone
        x = net.maxpool(net.act1(net.bn1(net.conv1(images))))
        return net.fc(net.global_pool(net.part4(net.part3(net.part2(net.part1(x))))))


def pool_former() -> nn.Module:
    config = transformers.PoolFormerConfig(depths=[1, 1, 2, 1], hidden_sizes=[8, 16, 32, 64], num_labels=5)
    return Logits(transformers.PoolFormerForImageClassification(config))


def pvt() -> nn.Module:
    config = transformers.PvtConfig(image_size=64, depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 40, 64], num_labels=5)
    return Logits(transformers.PvtForImageClassification(config))


def deep_pvt() -> nn.Module:
    config = transformers.PvtConfig(
        hidden_sizes=[16, 32, 48, 64], num_attention_heads=[1, 2, 3, 4], image_size=64, num_labels=5
    )
    return Logits(transformers.PvtForImageClassification(config))


def vision(name: str) -> nn.Module:
    more = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, num_classes=5, **more)


class Stages(nn.Module):
    """Patch embeddings and blocks in lists of their own, most of the work in the first stages."""

    def __init__(self, positions: bool) -> None:
        super().__init__()
        self.embeds, self.blocks = nn.ModuleList(), nn.ModuleList()
        for stage, (width, before) in enumerate(((16, 3), (24, 16), (32, 24), (40, 32)), start=1):
            self.embeds.append(Embedding(before, width, 64 // 2**stage, positions))
            self.blocks.append(nn.Sequential(*(self.block(width) for _ in range(2))))
        self.fc = nn.Linear(40, 5)

    @staticmethod
    def block(width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for embed, block in zip(self.embeds, self.blocks, strict=True):
            x = block(embed(x))
        return self.fc(x.mean((2, 3)))


class Embedding(nn.Conv2d):
    """A patch embedding, with or without a table of positions."""

    def __init__(self, before: int, width: int, side: int, positions: bool) -> None:
        super().__init__(before, width, 2, 2)
        self.positions = nn.Parameter(torch.randn(1, width, side, side)) if positions else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = super().forward(x)
        return x if self.positions is None else x + self.positions


LAYERS = ["layer1", "layer2", "layer3", "layer4"]
BLOCKS = ["0.0", "1.0", "2.1", "3.0"]
BUILT = {
    "resnet18 inside": (lambda: Wrapped("resnet18", named=True), 32, [f"backbone.{layer}" for layer in LAYERS]),
    "resnet14t inside": (lambda: Wrapped("resnet14t", named=True), 32, [f"backbone.{layer}" for layer in LAYERS]),
    "resnet18 unnamed": (lambda: Wrapped("resnet18", named=False), 32, [f"backbone.part{n}" for n in (1, 2, 3, 4)]),
    "resnet14t unnamed": (lambda: Wrapped("resnet14t", named=False), 32, [f"backbone.part{n}" for n in (1, 2, 3, 4)]),
    "hgnetv2_b0 inside": (lambda: Wrapped("hgnetv2_b0", named=True), 64, [f"backbone.stages.{n}" for n in range(4)]),
    "shufflenet_v2_x0_5": (lambda: vision("shufflenet_v2_x0_5"), 64, ["stage2", "stage3", "conv5"]),
    "resnet18": (lambda: vision("resnet18"), 32, LAYERS),
    "mobilenet_v2": (lambda: vision("mobilenet_v2"), 32, [f"features.{n}" for n in (3, 6, 13, 18)]),
    "PoolFormer": (pool_former, 64, [f"model.poolformer.encoder.block.{n}" for n in BLOCKS]),
    "Pvt": (pvt, 64, [f"model.pvt.encoder.block.{n}.0" for n in range(4)]),
    "googlenet": (lambda: vision("googlenet"), 96, ["inception3a", "inception4b", "inception5b"]),
    "xception41": (lambda: timm.create_model("xception41", num_classes=5), 64, [f"blocks.{n}" for n in (1, 4, 8, 12)]),
    "hrnet_w18_small": (lambda: timm.create_model("hrnet_w18_small", num_classes=5), 64, ["final_layer"]),
    "efficientvit_b0 unnamed": (
        lambda: Wrapped("efficientvit_b0", named=None),
        64,
        [f"backbone.stages.{n}" for n in (1, 2, 3)],
    ),
    "stages": (lambda: Stages(positions=False), 64, ["blocks.0.0", "blocks.0.1", "blocks.1.1", "blocks.3"]),
    "stages with positions": (lambda: Stages(positions=True), 64, ["blocks.0.0", "blocks.0.1", "blocks.1.1", "blocks.3"]),
    "Pvt with positions": (deep_pvt, 64, [f"model.pvt.encoder.block.{n}" for n in ("0.0", "1.0", "1.1", "3.1")]),
    "tnt": (lambda: timm.create_model("tnt_s_legacy_patch16_224", num_classes=5, img_size=32, depth=2), 32, ["norm"]),
}


@pytest.mark.parametrize("name", BUILT)
def test_cuts_end_blocks_that_share_the_work_evenly(name: str) -> None:
    """Without names at the top they lay in the last stage, in a shortcut or a patch embedding; or were refused."""
    build, size, paths = BUILT[name]
    torch.manual_seed(0)
    model, images = build().eval(), torch.randn(2, 3, size, size)
    blocks = find_blocks(model, images)
    cuts = blocks.take(blocks.best(4))
    assert list(cuts) == paths
    flow = follow(model, images)
    assert all(flow.of(flow.once()[cut]).alone for cut in cuts)
    shares = [flow.share(cut) for cut in cuts]
    assert all(abs(share / shares[-1] - number / len(cuts)) <= 0.5 / len(cuts) for number, share in enumerate(shares, 1)), (
        shares
    )
    replay = Replay(model, cuts, images)
    replay.check(images)


def test_a_model_of_two_streams_has_no_end_on_which_the_rest_depends_alone() -> None:
    model = timm.create_model("crossvit_tiny_240", num_classes=5)
    with pytest.raises(ValueError, match=r"no blocks were found in CrossVit: .*must depend on what one puts out alone"):
        find_blocks(model, torch.randn(2, 3, 240, 240))


def test_a_refused_end_is_left_out() -> None:
    found = find_blocks(vit(6), IMAGES, refused=["blocks.3"])
    assert [path for path in found.paths if path.startswith("blocks")] == [f"blocks.{n}" for n in (0, 1, 2, 4, 5)]


def test_a_model_without_rows_of_blocks_needs_paths() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))
    with pytest.raises(ValueError, match=r"no blocks were found in Sequential: give the module paths.*`0`, `1`"):
        find_blocks(model, IMAGES)


def vit(depth: int) -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32, depth=depth, embed_dim=12, num_heads=2)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ("resnet18", "mobilenetv3_small_100", (4, 4)),
        ("cifar_resnet8x4", "resnet18", (3, 3)),
        (6, "resnet18", (4, 4)),
        ("resnet18", 2, (2, 2)),
        (12, 6, (4, 4)),
        (3, 12, (3, 3)),
    ],
)
def test_both_sides_get_the_same_number_of_cuts(student: str | int, teacher: str | int, expected: tuple[int, int]) -> None:
    models = [vit(m) if isinstance(m, int) else timm.create_model(m, num_classes=5).eval() for m in (student, teacher)]
    cuts = pair_cuts(models[0], models[1], IMAGES, IMAGES)
    assert (len(cuts[0]), len(cuts[1])) == expected
    for model, name, paths in zip(models, (student, teacher), cuts, strict=True):
        last = f"blocks.{name - 1}" if isinstance(name, int) else find_blocks(model, IMAGES).paths[-1]
        assert paths[-1] == last


def test_the_side_whose_cuts_are_missing_gets_as_many_as_the_other() -> None:
    found = pair_cuts(vit(6), vit(6), IMAGES, IMAGES, student_cuts=["blocks.1", "blocks.5"])
    assert found == (("blocks.1", "blocks.5"), ("blocks.2", "blocks.5"))


def test_more_cuts_than_the_other_side_has_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same number of places, got 3 \(.*\) and 2 \(blocks.0, blocks.1\)"):
        pair_cuts(vit(6), vit(2), IMAGES, IMAGES, student_cuts=["blocks.1", "blocks.3", "blocks.5"])
