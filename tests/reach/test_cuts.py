"""Blocks are found in every family of models, and both sides get the same number of them."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn

import logitkd.models  # noqa: F401 (registers the CIFAR networks)
from logitkd.reach.cuts import Blocks, find_blocks, pair_cuts

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


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("resnet18", ("layer1", "layer2", "layer3", "layer4")),
        ("mobilenet_v2", ("features.1", "features.3", "features.6", "features.13", "features.18")),
        ("shufflenet_v2_x0_5", ("stage2", "stage3", "stage4")),
    ],
)
def test_torchvision_models_are_cut_where_the_resolution_falls(name: str, paths: tuple[str, ...]) -> None:
    model = torchvision.models.get_model(name, num_classes=5)
    if name.startswith("shuffle"):  # its stages stand beside each other, in no list: they have to be named
        found = find_blocks(model, torch.randn(2, 3, 64, 64))
        assert set(found.paths) != set(paths)
    else:
        assert find_blocks(model, IMAGES) == Blocks(paths, equal=False)


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
