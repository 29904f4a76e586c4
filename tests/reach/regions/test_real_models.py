"""Regions of many architectures, at small resolution: each cell by hand, or the refusal's words."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from logitkd.models.from_transformers import TransformersClassifier
from logitkd.reach import RegionModel

Head = Callable[[Any, Tensor], Tensor]

TIMM: dict[str, tuple[str, dict[str, Any], int]] = {  # name: (timm name, options, image side)
    "resnet18": ("resnet18", {}, 64),
    "resnet50": ("resnet50", {}, 64),
    "convnext_atto": ("convnext_atto", {}, 64),
    "mobilenetv3_small_100": ("mobilenetv3_small_100", {}, 64),
    "efficientnet_lite0": ("efficientnet_lite0", {}, 64),
    "regnetx_002": ("regnetx_002", {}, 64),
    "densenet121": ("densenet121", {}, 64),
    "vit_tiny": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2}, 32),
    "vit_tiny, mean": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2, "global_pool": "avg"}, 32),
    "vit, registers": ("vit_small_patch16_dinov3", {"img_size": 64, "depth": 1}, 64),
    "deit_tiny": ("deit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2}, 32),
    "deit_tiny_distilled": ("deit_tiny_distilled_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2}, 32),
    "eva02_tiny": ("eva02_tiny_patch14_224", {"img_size": 56, "depth": 2}, 56),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
        64,
    ),
    "mixer": ("mixer_s32_224", {"img_size": 64}, 64),
    "poolformer_s12": ("poolformer_s12", {}, 64),
    "repvgg_a0": ("repvgg_a0", {}, 64),
    "ghostnet_050": ("ghostnet_050", {}, 64),
    "xcit_nano": ("xcit_nano_12_p16_224", {"img_size": 64, "depth": 2}, 64),
    "cait_xxs24": ("cait_xxs24_224", {"img_size": 64, "depth": 2}, 64),
    "levit_128s": ("levit_128s", {"img_size": 128}, 128),
    "coatnet_pico": ("coatnet_pico_rw_224", {"img_size": 64}, 64),
    "maxvit_pico": ("maxvit_pico_rw_256", {"img_size": 64}, 64),
    "volo, a class token untold": ("volo_d1_224", {"img_size": 64, "use_aux_head": False}, 64),
    "convit_tiny": ("convit_tiny", {"img_size": 64}, 64),
    "twins_svt_small": ("twins_svt_small", {}, 64),
    "mobilevit_xxs": ("mobilevit_xxs", {}, 64),
    "mambaout_femto, NHWC": ("mambaout_femto", {}, 64),
}


def parts_of(grid: Tensor) -> list[Tensor]:
    """Return the quarters of maps ``(N, D, H, W)`` of even sides, row by row."""
    assert grid.shape[2] % 2 == grid.shape[3] % 2 == 0
    return [part for rows in grid.chunk(2, 2) for part in rows.chunk(2, 3)]


def check_regions(signals: Any, logits: Tensor, quarters: list[Tensor]) -> None:
    assert torch.equal(signals.logits, logits)
    assert torch.equal(signals.regions[:, 0], logits)
    expected = torch.stack(quarters, 1)
    scale = expected.abs().max().item()
    torch.testing.assert_close(signals.regions[:, 1:], expected, rtol=1e-4, atol=1e-4 * scale)
    assert (expected - expected[:, :1]).abs().max() > 1e-3 * scale  # the quarters differ, or this test could not fail


@torch.no_grad()
def enliven(model: nn.Module, images: Tensor) -> None:
    """Make random weights tell images apart: fit the batch norms' statistics, and no head of zeros."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = None
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight)
    model.train()
    model(images)
    model.eval()


@pytest.mark.parametrize("key", TIMM)
@torch.no_grad()
def test_timm(key: str) -> None:
    """The model's own head pools each quarter by itself."""
    name, options, side = TIMM[key]
    torch.manual_seed(0)
    with warnings.catch_warnings(action="ignore"):
        model = timm.create_model(name, num_classes=5, **options).eval()
    images = torch.randn(2, 3, side, side)
    enliven(model, images)
    features, logits = model.forward_features(images), model(images)
    signals = RegionModel(model, (1, 2))(images)
    if features.ndim == 3:
        prefix = getattr(model, "num_prefix_tokens", 1 if name.startswith("volo") else 0)
        side = round((features.shape[1] - prefix) ** 0.5)
        cells = parts_of(features[:, prefix:].transpose(1, 2).unflatten(2, (side, side)))
        inputs = [torch.cat([*[cell.mean((2, 3))[:, None]] * prefix, cell.flatten(2).transpose(1, 2)], 1) for cell in cells]
    elif getattr(model, "output_fmt", "") == "NHWC":
        inputs = [part.movedim(1, 3) for part in parts_of(features.movedim(3, 1))]
    else:
        inputs = parts_of(features)
    check_regions(signals, logits, [model.forward_head(part) for part in inputs])


def tv(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(torchvision.models, name)(num_classes=5, **options)


def classifier(model: Any, cell: Tensor) -> Tensor:
    return model.classifier(cell.mean((2, 3)))


def fc(model: Any, cell: Tensor) -> Tensor:
    return model.fc(cell.mean((2, 3)))


def features(model: Any, images: Tensor) -> Tensor:
    return model.features(images)


def up_to(stop: str) -> Head:
    """Return the map before the module called ``stop``, of a model that runs its children in order."""

    def run(model: Any, images: Tensor) -> Tensor:
        for name, child in model.named_children():
            if name == stop:
                return images
            images = child(images)
        raise AssertionError(stop)

    return run


def swin_map(model: Any, images: Tensor) -> Tensor:
    return model.norm(model.features(images)).permute(0, 3, 1, 2)


def class_scores(model: Any, images: Tensor) -> Tensor:
    return torch.relu(model.classifier[1](model.features(images)))


TORCHVISION: dict[str, tuple[Callable[[], nn.Module], Head, Head]] = {  # name: (make, map, head of a part of it)
    "resnet18": (tv("resnet18"), up_to("avgpool"), fc),
    "mobilenet_v2": (tv("mobilenet_v2"), features, classifier),
    "mobilenet_v3_small": (tv("mobilenet_v3_small"), features, classifier),
    "densenet121": (tv("densenet121"), lambda m, x: F.relu(m.features(x)), classifier),
    "squeezenet1_1": (tv("squeezenet1_1"), class_scores, lambda m, part: part.mean((2, 3))),
    "shufflenet_v2_x0_5": (tv("shufflenet_v2_x0_5"), up_to("fc"), fc),
    "efficientnet_b0": (tv("efficientnet_b0"), features, classifier),
    "swin": (
        lambda: torchvision.models.SwinTransformer([4, 4], 24, [1, 1, 1], [1, 2, 4], [4, 4], num_classes=5),
        swin_map,
        lambda m, part: m.head(part.mean((2, 3))),
    ),
    "regnet_y_400mf": (tv("regnet_y_400mf"), lambda m, x: m.trunk_output(m.stem(x)), fc),
    "mnasnet0_5": (tv("mnasnet0_5"), lambda m, x: m.layers(x), classifier),
    "googlenet": (tv("googlenet", aux_logits=False, init_weights=False), up_to("avgpool"), fc),
    "convnext": (
        lambda: torchvision.models.ConvNeXt(
            [torchvision.models.convnext.CNBlockConfig(16, 32, 1), torchvision.models.convnext.CNBlockConfig(32, None, 1)],
            num_classes=5,
        ),
        features,
        lambda m, part: m.classifier(part.mean((2, 3), keepdim=True)),
    ),
}


@pytest.mark.parametrize("name", TORCHVISION)
@torch.no_grad()
def test_torchvision(name: str) -> None:
    make, last_map, head = TORCHVISION[name]
    torch.manual_seed(0)
    model = make().eval()
    side = 80 if name.startswith("squeeze") else 64
    images = torch.randn(2, 3, side, side)
    enliven(model, images)
    logits, cells = model(images), parts_of(last_map(model, images))
    check_regions(RegionModel(model, (1, 2))(images), logits, [head(model, cell) for cell in cells])


@torch.no_grad()
def test_torchvisions_vision_transformer() -> None:
    """Its head is all zeros as initialised: the logits alone would prove nothing."""
    model = torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=5).eval()
    images = torch.randn(2, 3, 32, 32)
    wrapped = RegionModel(model, (1, 2))
    wrapped.check(images)
    assert not wrapped(images).regions.any()
    nn.init.normal_(model.heads.head.weight)
    tokens: list[Tensor] = []
    handle = model.encoder.register_forward_hook(lambda *call: tokens.append(call[2]))
    logits = model(images)
    handle.remove()
    cells = parts_of(tokens[0][:, 1:].transpose(1, 2).unflatten(2, (4, 4)))
    check_regions(wrapped(images), logits, [model.heads(cell.mean((2, 3))) for cell in cells])


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 8, 16], "depths": [1, 1, 1]}
TRANSFORMERS: dict[str, tuple[type, dict[str, Any], int, str, int | None, Head]] = {
    # name: (class, configuration, image side, module that puts out the map, prefix tokens, head of a part of it)
    "vit": (transformers.ViTForImageClassification, SMALL, 32, "vit.layernorm", 1, lambda m, c: m.classifier(c.mean((2, 3)))),
    "deit, two heads": (
        transformers.DeiTForImageClassificationWithTeacher,
        SMALL,
        32,
        "deit.layernorm",
        2,
        lambda m, c: (m.cls_classifier(c.mean((2, 3))) + m.distillation_classifier(c.mean((2, 3)))) / 2,
    ),
    "dinov2, class token and mean": (
        transformers.Dinov2ForImageClassification,
        SMALL,
        32,
        "dinov2.layernorm",
        1,
        lambda m, c: m.classifier(c.mean((2, 3)).repeat(1, 2)),
    ),
    "resnet": (
        transformers.ResNetForImageClassification,
        STAGES,
        64,
        "resnet.encoder.stages.2",
        None,
        lambda m, c: m.classifier(c.mean((2, 3), keepdim=True)),
    ),
    "convnext, a mean inside": (
        transformers.ConvNextForImageClassification,
        {"hidden_sizes": [8, 8, 16], "depths": [1, 1, 1], "num_stages": 3},
        64,
        "convnext.encoder.stages.2",
        None,
        lambda m, c: m.classifier(m.convnext.layernorm(c.mean((2, 3)))),
    ),
    "swin, channels first": (
        transformers.SwinForImageClassification,
        {"image_size": 64, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 2, 2], "window_size": 4},
        64,
        "swin.layernorm",
        0,
        lambda m, c: m.classifier(c.mean((2, 3))),
    ),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
@torch.no_grad()
def test_transformers(name: str) -> None:
    kind, options, side, path, prefix, head = TRANSFORMERS[name]
    torch.manual_seed(0)
    net = kind(kind.config_class(num_labels=5, **options)).eval()
    model, images = TransformersClassifier(net), torch.randn(2, 3, side, side)
    maps: list[Tensor] = []
    handle = net.get_submodule(path).register_forward_hook(lambda *call: maps.append(call[2]))
    logits = model(images)
    handle.remove()
    grid = maps[0]
    if prefix is not None:
        rows = round((grid.shape[1] - prefix) ** 0.5)
        grid = grid[:, prefix:].transpose(1, 2).unflatten(2, (rows, rows))
    check_regions(RegionModel(model, (1, 2))(images), logits, [head(net, cell) for cell in parts_of(grid)])


# timm's, where `forward_features` is not the last map.


def head_of(model: Any, name: str) -> tuple[nn.Module, Head]:
    """Return the module that takes the last map, and what follows on a part of it."""
    if name.startswith("lowformer"):
        return model.global_pool, lambda m, part: m.classifier(m.pre_classifier(part.mean((2, 3))))
    if name.startswith("cpubone"):
        return model.head.global_pool, lambda m, part: m.head.classifier(m.head.pre_classifier(part.mean((2, 3))))
    if name == "vgg":
        return model.head.global_pool, lambda m, part: m.head.fc(part.mean((2, 3)))
    return model.head.global_pool, lambda m, part: m.head.classifier(part.mean((2, 3)))


@pytest.mark.parametrize(
    "name", ["efficientvit_b0", "efficientvit_b0, fresh", "efficientvit_l1", "cpubone_nano", "lowformer_b0", "vgg"]
)
@torch.no_grad()
def test_timms_heads_that_change_the_map_before_they_average_it(name: str) -> None:
    """Fresh weights put out maps that hardly differ from their mean; what was found on them must hold when they are trained."""
    torch.manual_seed(0)
    name, _, fresh = name.partition(", ")
    if name == "vgg":
        model = timm.models.vgg.VGG([8, "M", 8, "M", 8, "M", 8], 5).eval()
    else:
        model = timm.create_model(name, num_classes=5).eval()
    side = 64 if name in ("efficientvit_l1", "vgg") else 128  # of 128 a quarter is several cells
    images = torch.randn(2, 3, side, side)
    wrapped = RegionModel(model, (1, 2))
    if fresh:
        wrapped.check(images)
    enliven(model, images)
    pool, head = head_of(model, name)
    maps: list[Tensor] = []
    handle = pool.register_forward_pre_hook(lambda _, taken: maps.append(taken[0]))
    logits = model(images)
    handle.remove()
    check_regions(wrapped(images), logits, [head(model, part) for part in parts_of(maps[0])])


@pytest.mark.parametrize("name", ["pit_ti_224", "pit_ti_distilled_224"])
@torch.no_grad()
def test_features_that_are_the_class_token_alone(name: str) -> None:
    """The patch tokens are those that the last blocks put out beside it."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, depth=(1, 1, 1)).eval()
    images = torch.randn(2, 3, 224, 224)
    tokens: list[Tensor] = []
    handle = model.transformers[2].blocks.register_forward_hook(lambda *call: tokens.append(call[2]))
    logits = model(images)
    handle.remove()
    prefix = 2 if "distilled" in name else 1
    grid = tokens[0][:, prefix:].transpose(1, 2).unflatten(2, (7, 7))
    cells = [grid[:, :, rows, columns].mean((2, 3)) for rows in HALVES for columns in HALVES]
    expected = [model.forward_head(model.norm(cell[:, None].expand(-1, prefix, -1))) for cell in cells]
    check_regions(RegionModel(model, (1, 2))(images), logits, expected)


HALVES = (slice(0, 4), slice(3, 7))  # of seven


# Tokens of images that are no square.


@pytest.mark.parametrize(
    ("name", "options", "size", "grid"),
    [
        ("twins_pcpvt_small", {"depths": (1, 1, 1, 1), "embed_dims": (8, 16, 40, 64)}, (288, 512), (9, 16)),
        ("twins_svt_small", {"depths": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 128)}, (64, 256), (2, 8)),
        ("xcit_nano_12_p16_224", {"depth": 1}, (144, 256), (9, 16)),
    ],
)
@torch.no_grad()
def test_token_grids_of_images_that_are_no_square(
    name: str, options: dict[str, Any], size: tuple[int, int], grid: tuple[int, int]
) -> None:
    """As many tokens as a square would have, of which the number alone says nothing."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **options).eval()
    images = torch.randn(2, 3, *size)
    enliven(model, images)
    prefix = 1 if name.startswith("xcit") else 0
    tokens = model.forward_features(images)
    assert round((tokens.shape[1] - prefix) ** 0.5) ** 2 == tokens.shape[1] - prefix == grid[0] * grid[1]
    cells = F.adaptive_avg_pool2d(tokens[:, prefix:].transpose(1, 2).unflatten(2, grid), 2).flatten(2).unbind(2)
    expected = [model.forward_head(cell[:, None].expand(-1, prefix + 1, -1)) for cell in cells]
    check_regions(RegionModel(model, (1, 2))(images), model(images), expected)


@torch.no_grad()
def test_tokens_of_images_of_another_size() -> None:
    """Their grid is looked for again, also where they are as many."""
    torch.manual_seed(0)
    model = timm.create_model("xcit_nano_12_p16_224", num_classes=5, depth=1).eval()
    wrapped = RegionModel(model, (1, 2))
    for height, width in ((6, 6), (4, 9), (6, 6)):
        images = torch.randn(2, 3, 16 * height, 16 * width)
        tokens = model.forward_features(images)[:, 1:].transpose(1, 2).unflatten(2, (height, width))
        corner = tokens[:, :, -(-height // 2) :, -(-width // 2) - width % 2 :].mean((2, 3))[:, None]  # lower right
        expected = model.forward_head(corner.expand(-1, 2, -1))
        torch.testing.assert_close(wrapped(images).regions[:, 4], expected)


# What is refused.

VIT = ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 1})
SMALL_VIT = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 48, "num_heads": 3}


def attention(**options: Any) -> nn.Module:
    return timm.create_model(VIT[0], num_classes=5, class_token=False, global_pool="map", **VIT[1], **options)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {  # name: (make, words)
    "timm max": (lambda: timm.create_model("resnet10t", num_classes=5, global_pool="max"), "Build it with `global_pool='avg'`"),
    "timm mixed": (lambda: timm.create_model("resnet10t", num_classes=5, global_pool="catavgmax"), "it has 'catavgmax'"),
    "timm attention": (
        attention,
        r"no part of VisionTransformer was found to\. Build it with `global_pool='avg'` \(timm\), it has 'map'\. Pass `pool=`,"
        r" .*`head=`.* Tried the output \(2, 16, 192\) of `forward_features`: the logits change by .* when it is replaced by"
        r" its mean; .*`norm`.* do not pass either",
    ),
    "timm volo": (  # the largest class score of its patches
        lambda: timm.create_model("volo_d1_224", num_classes=5, img_size=64),
        r"no part of VOLO was found to\. Pass `pool=`.*, or `head=`.* do not pass either",
    ),
    "timm list": (
        lambda: timm.create_model("coat_tiny", num_classes=5, img_size=64, serial_depths=(1, 1, 1, 1), parallel_depth=1),
        r"Pass `pool=`.*, or `head=`.* Tried `forward_features`: it must return a map .*, got list; .* do not pass either",
    ),
    "torchvision alexnet": (
        lambda: torchvision.models.alexnet(num_classes=5),
        r"`classifier` of AlexNet reads every one of the 256 x 6 x 6 numbers of it, there is no pooling",
    ),
}


@pytest.mark.parametrize("key", REFUSED)
def test_refused(key: str) -> None:
    make, words = REFUSED[key]
    torch.manual_seed(0)
    model = make()
    side = 32 if "attention" in key else 64
    with pytest.raises(ValueError, match=words) as caught:
        RegionModel(model)(torch.randn(2, 3, side, side))
    assert model.training
    advised = "Build it with" in str(caught.value)
    assert advised == (key in ("timm max", "timm mixed", "timm attention"))  # not where it averages already


class GeM(nn.Module):
    """The cube root of the mean cube."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Conv2d(3, 16, 3, 2, 1), nn.Linear(16, 5)

    def forward_features(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.body(images))

    def forward_head(self, maps: Tensor) -> Tensor:
        return self.fc(maps.pow(3).mean((2, 3)).pow(1 / 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


@pytest.mark.parametrize("weights", [False, True], ids=["autocast", "weights"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: timm.create_model("vit_base_patch16_siglip_224", num_classes=5, **SMALL_VIT),
        lambda: timm.create_model("naflexvit_base_patch16_map", num_classes=5, depth=1, embed_dim=48, num_heads=3),
        GeM,
    ],
    ids=["siglip", "naflexvit", "GeM"],
)
def test_half_precision_hides_nothing(make: Callable[[], nn.Module], weights: bool) -> None:
    """The proof runs in float32, whatever autocast and the weights are; these come back as they were."""
    torch.manual_seed(0)
    model, images = make(), torch.randn(2, 3, 32, 32)
    if weights:
        model, images = model.bfloat16(), images.bfloat16()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=not weights),
        pytest.raises(ValueError, match="need a model that averages its last map"),
    ):
        RegionModel(model)(images)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "side", "larger"),
    [
        ("resnet18", 32, 64),
        ("mobilenetv3_small_100", 32, 64),
        ("convnext_atto", 32, 64),
        ("starnet_s050", 32, 64),
        ("selecsls42", 64, 128),
        ("shvit_s1", 64, 128),
        ("inception_v3", 96, 192),
        ("inception_v4", 96, 192),
        ("inception_resnet_v2", 96, 192),
        ("vit_tiny_patch16_224", 16, None),
        ("torchvision resnet18", 16, 64),
    ],
)
def test_a_map_of_one_cell_is_refused(name: str, side: int, larger: int | None) -> None:
    """Every region would be the image: the method would be another one."""
    if name.startswith("torchvision"):
        model = torchvision.models.resnet18(num_classes=5)
    else:
        model = timm.create_model(name, num_classes=5, **({"img_size": 16, "depth": 1} if name.startswith("vit") else {}))
    with pytest.raises(ValueError, match="a single cell") as caught:
        RegionModel(model)(torch.randn(2, 3, side, side))
    size = f" ({larger} x {larger})" if larger else ""
    assert str(caught.value) == (
        f"region logits need a model that averages a last map of several cells: on images of {side} x {side}, that of "
        f"{type(model).__name__} is a single cell, without regions. Give larger images{size}, take a network made for small "
        "ones, or choose a method that reads plain logits."
    )


@torch.no_grad()
def test_a_map_that_shrinks_to_one_cell_is_refused() -> None:
    wrapped = RegionModel(timm.create_model("resnet10t", num_classes=5).eval(), (1, 2))
    wrapped(torch.randn(2, 3, 64, 64))
    with pytest.raises(ValueError, match="several cells, got a single one on images of 32 x 32"):
        wrapped(torch.randn(2, 3, 32, 32))


def test_a_map_smaller_than_the_finest_grid_warns_of_the_scales_that_fit() -> None:
    model, images = timm.create_model("resnet10t", num_classes=5), torch.randn(2, 3, 64, 64)
    with pytest.warns(UserWarning, match=r"the last map of ResNet has 2 x 2 cells on images of 64 x 64, so .* 4 x 4") as caught:
        RegionModel(model, (1, 2, 4))(images)
    assert 'Scales that fit: (1, 2) (`scales=(1, 2)`, `--method.scales "[1, 2]"`)' in str(caught[0].message)
    with warnings.catch_warnings(action="error"):
        RegionModel(model, (1, 2))(images)
