"""Region logits: against the authors' numbers, against slow oracles, and on every kind of network."""

import copy
import json
import os
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

import logitkd.models  # noqa: F401  (registers the CIFAR networks)
from logitkd.reach import RegionModel, Teacher, pool_cells
from naive import bounds

TESTS = Path(__file__).parents[2]
WHOLE = Path(os.environ.get("LOGITKD_GOLDEN", TESTS.parents[1] / "shared" / "golden"))
FOLDER = WHOLE if (WHOLE / "region_logits.safetensors").is_file() else TESTS / "golden" / "regions"
CASES = [c for c in json.loads((FOLDER / "index.json").read_text())["cases"] if c["method"].startswith("region_")]
POOLS = [c for c in CASES if c["method"] == "region_pool"]
NETWORKS = [c for c in CASES if c["method"] == "region_logits"]
OURS = {
    "resnet8x4_sdd": "cifar_resnet8x4",
    "resnet20_sdd": "cifar_resnet20",
    "mobile_half_sdd": "cifar_mobilenetv2",
    "vgg8_bn_sdd": "cifar_vgg8",
}

MODELS = {  # name: (timm name, options, image side)
    "resnet18": ("resnet18", {}, 64),
    "mobilenetv3": ("mobilenetv3_small_100", {}, 64),
    "efficientnet": ("efficientnet_b0", {}, 64),
    "convnext": ("convnext_atto", {}, 64),
    "vit": ("vit_tiny_patch16_224", {"img_size": 64, "depth": 3}, 64),
    "vit avg": ("vit_tiny_patch16_224", {"img_size": 64, "depth": 3, "global_pool": "avg"}, 64),
    "deit distilled": ("deit_tiny_distilled_patch16_224", {"img_size": 64, "depth": 3}, 64),
    "swin, NHWC": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
        64,
    ),
    "norm in the head": ("mobilenetv4_conv_small", {}, 64),
    "cifar_resnet8": ("cifar_resnet8", {}, 32),
    "cifar_resnet18": ("cifar_resnet18", {}, 32),
    "cifar_wrn_16_1": ("cifar_wrn_16_1", {}, 32),
    "cifar_vgg8": ("cifar_vgg8", {}, 32),
    "cifar_mobilenetv2": ("cifar_mobilenetv2", {}, 32),
    "cifar_shufflenetv1": ("cifar_shufflenetv1", {}, 32),
    "cifar_shufflenetv2": ("cifar_shufflenetv2", {}, 32),
}


@pytest.fixture(params=MODELS)
def made(request):
    """A network in eval mode, and two images for it, in float64."""
    name, options, side = MODELS[request.param]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **options).double().eval()
    return model, torch.randn(2, 3, side, side, dtype=torch.float64)


# The authors' numbers.


def assert_gradient(value, stored):
    """Large gradients are stored in float32."""
    rtol = 1e-7 if stored.dtype == torch.float32 else 0
    torch.testing.assert_close(value, stored.double(), rtol=rtol, atol=1e-12 * stored.abs().max().item())


@pytest.mark.parametrize("case", POOLS, ids=lambda c: f"{c['id']} {c['hyper']['M']} {c['shape']['feature_map'][2:]}")
def test_nested_pooling_is_the_authors(case):
    stored = load_file(FOLDER / case["expected_file"])
    features = stored[case["inputs"]["keys"]["feature_map"]].double().requires_grad_()
    pooled = pool_cells(features, json.loads(case["hyper"]["M"]), nested=True).transpose(1, 2)
    torch.testing.assert_close(pooled, stored[case["expected_keys"]["pooled"]], rtol=0, atol=1e-12)
    (pooled * stored[case["inputs"]["keys"]["cotangent"]].double()).sum().backward()
    assert_gradient(features.grad, stored[case["expected_keys"]["grad_feature_map"]])


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("case", NETWORKS, ids=lambda c: f"{c['id']} {c['source']['function'].split()[0]}")
def test_region_logits_are_the_authors(case, nested):
    """Their maps are 8x8, 4x4 and 2x2, where both kinds of pooling agree."""
    stored = load_file(FOLDER / case["expected_file"])
    get = {name: stored[key].double() for name, key in (case["inputs"]["keys"] | case["expected_keys"]).items()}
    network = timm.create_model(OURS[case["source"]["function"].split()[0]], num_classes=len(get["fc_bias"])).double()
    classifier = network.get_classifier()
    classifier.load_state_dict({"weight": get["fc_weight"], "bias": get["fc_bias"]})
    network.forward_features = lambda x: x  # the stored map takes the place of the image
    features = get["feature_map"].requires_grad_()

    signals = RegionModel(network, json.loads(case["hyper"]["M"]), nested)(features)
    torch.testing.assert_close(signals.logits, get["logits"], rtol=0, atol=1e-12)
    torch.testing.assert_close(signals.regions.transpose(1, 2), get["region_logits"], rtol=0, atol=1e-12)
    if "grad_feature_map" in get:
        regions = signals.regions.transpose(1, 2)
        ((regions * get["cotangent_regions"]).sum() + (signals.logits * get["cotangent_logits"]).sum()).backward()
        keys = case["expected_keys"]
        assert_gradient(features.grad, stored[keys["grad_feature_map"]])
        assert_gradient(classifier.weight.grad, stored[keys["grad_fc_weight"]])
        assert_gradient(classifier.bias.grad, stored[keys["grad_fc_bias"]])


# Every kind of network.


def test_every_region_is_the_head_of_its_part_of_the_map(made):
    model, images = made
    wrapped = RegionModel(model, (1, 2, 4))
    with torch.no_grad():
        signals = wrapped(images)
        logits = model(images)
        features = model.forward_features(images)
        assert signals.regions.shape == (2, 21, 7)
        torch.testing.assert_close(signals.logits, logits, rtol=0, atol=0)
        torch.testing.assert_close(signals.regions[:, 0], logits, rtol=0, atol=0)

        tokens, nhwc = features.ndim == 3, getattr(model, "output_fmt", "") == "NHWC"
        prefix = model.num_prefix_tokens if tokens else 0
        grid = features[:, prefix:].unflatten(1, (4, 4)) if tokens else features if nhwc else features.movedim(1, 3)
        cells = [grid]
        for m in (2, 4):
            for top, bottom in bounds(grid.shape[1], m):
                cells += [grid[:, top:bottom, left:right] for left, right in bounds(grid.shape[2], m)]
        expected = [logits]
        for cell in cells[1:]:  # the head pools each part by itself
            if tokens:
                patches = cell.flatten(1, 2)
                expected.append(model.forward_head(torch.cat([*[patches.mean(1, True)] * prefix, patches], 1)))
            else:
                expected.append(model.forward_head(cell if nhwc else cell.movedim(3, 1)))
    scale = logits.abs().max().item()
    torch.testing.assert_close(signals.regions, torch.stack(expected, 1), rtol=1e-9, atol=1e-9 * scale)


def test_training_leaves_the_model_as_a_plain_training_step_does(made):
    """One backbone pass, gradients everywhere, running statistics of the model's own pass only, no hooks, no new names."""
    model, images = made
    plain = copy.deepcopy(model)
    wrapped = RegionModel(model).train()
    plain.train()
    for module in (*model.modules(), *plain.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    stems = []
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    wrapped.check(images)
    counter = first.register_forward_hook(lambda *_: stems.append(1))
    torch.manual_seed(1)
    signals = wrapped(images)
    counter.remove()
    torch.manual_seed(1)
    logits = plain(images)
    assert len(stems) == 1
    torch.testing.assert_close(signals.logits, logits)
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=0, atol=0)  # values and names
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())

    signals.regions[:, 1:].square().sum().backward()
    assert first.weight.grad.abs().max() > 0
    model.eval(), plain.eval()
    torch.testing.assert_close(model(images), plain(images), rtol=0, atol=0)


@pytest.mark.parametrize("key", ["resnet18", "convnext", "vit", "norm in the head", "cifar_resnet8", "cifar_mobilenetv2"])
def test_bfloat16_autocast_and_channels_last(key):
    """The very first step too, which the check precedes under the same autocast."""
    name, options, side = MODELS[key]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **options).to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, side, side).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        signals = RegionModel(model)(images)
        assert signals.regions.shape == (4, 21, 7)
        signals.regions.float().square().mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


def test_modes_of_single_modules_survive_the_check():
    model = timm.create_model("cifar_resnet8", num_classes=7).train()
    model.bn1.eval()
    RegionModel(model).check(torch.randn(2, 3, 32, 32))
    assert model.training
    assert not model.bn1.training
    assert model.layer1.training


def test_nested_on_a_map_of_seven():
    """Where bins overlap, the authors' region 0 is not the model's own logits; ours is."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=7).double().eval()
    images = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        plain, nested = RegionModel(model)(images), RegionModel(model, nested=True)(images)
    torch.testing.assert_close(nested.logits, plain.logits)
    torch.testing.assert_close(plain.regions[:, 0], plain.logits)
    assert (nested.regions[:, 0] - nested.logits).abs().max() > 1e-3 * nested.logits.abs().max()
    torch.testing.assert_close(nested.regions[:, 5:], plain.regions[:, 5:])


def test_nested_keeps_the_class_token_for_region_0():
    model = timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=64, depth=1).eval()
    images = torch.randn(1, 3, 64, 64)
    nested, plain = RegionModel(model, nested=True)(images), RegionModel(model)(images)
    torch.testing.assert_close(nested.regions[:, 0], nested.logits)
    torch.testing.assert_close(nested.regions, plain.regions)  # the grid is 4x4


@pytest.mark.parametrize("dynamic", [False, True])
def test_token_grids_that_are_not_square(dynamic):
    options = {"img_size": 224, "dynamic_img_size": True} if dynamic else {"img_size": (64, 32)}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=7, depth=1, global_pool="avg", **options).eval()
    images = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        signals = RegionModel(model, (1, 2))(images)
        patches = model.forward_features(images)[:, 1:].unflatten(1, (4, 2))
        corner = patches[:, 2:, 1].mean(1)  # lower right
        torch.testing.assert_close(signals.regions[:, 4], model.head(model.fc_norm(corner)))


def test_only_the_whole_image():
    model = timm.create_model("cifar_resnet8", num_classes=7)
    signals = RegionModel(model, scales=[1])(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(signals.regions, signals.logits[:, None], rtol=0, atol=0)


# What is refused.


class Doubled(nn.Module):
    """Its forward does more than features and head."""

    def __init__(self):
        super().__init__()
        self.net = timm.create_model("cifar_resnet8", num_classes=7)
        self.forward_features, self.forward_head = self.net.forward_features, self.net.forward_head

    def forward(self, x):
        return 2 * self.net(x)


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet10t", {"global_pool": "catavgmax"}), ("vit_tiny_patch16_224", {"img_size": 64, "depth": 1, "global_pool": "max"})],
)
def test_heads_that_do_not_average_are_refused(name, options):
    torch.manual_seed(0)
    wrapped = RegionModel(timm.create_model(name, num_classes=7, **options))
    with pytest.raises(ValueError, match=r"need a model that averages its last map: .* changes? by"):
        wrapped(torch.randn(2, 3, 64, 64))
    assert wrapped.model.training


def test_a_forward_that_does_more_is_searched() -> None:
    torch.manual_seed(0)
    model, images = Doubled().eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        signals, plain = RegionModel(model)(images), RegionModel(model.net)(images)
    torch.testing.assert_close(signals.logits, 2 * plain.logits)
    torch.testing.assert_close(signals.regions, 2 * plain.regions)


@pytest.mark.parametrize("features", ["list", "flat"])
def test_features_of_unknown_layout_are_refused(features):
    model = timm.create_model("cifar_resnet8", num_classes=7)
    own = model.forward_features
    model.forward_features = lambda x: [own(x)] if features == "list" else own(x).flatten(1)
    model.forward_head = lambda x: model.fc(torch.zeros(2, 64))
    words = "it must return a map .*, got list" if features == "list" else r"got shape \(2, 4096\)"
    with pytest.raises(ValueError, match=words):
        RegionModel(model)(torch.randn(2, 3, 32, 32))


def test_tokens_without_a_grid_are_refused():
    model = timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=64, depth=1, global_pool="max")
    model.num_prefix_tokens = 3
    with pytest.raises(ValueError, match=r"`forward_features`: it returns 17 tokens an image, of which no grid is known"):
        RegionModel(model)(torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize("scales", [(), (2, 4), (1, 1), (1, 4, 2), (1, 2.0), (True, 2), (0, 1), ("1", "2")])
def test_scales(scales):
    with pytest.raises(ValueError, match="`scales` must be increasing whole numbers that start with 1"):
        RegionModel(timm.create_model("cifar_resnet8"), scales)


def test_a_teacher_yields_its_regions_itself() -> None:
    teacher = Teacher(timm.create_model("cifar_resnet8", num_classes=5), num_classes=5)
    with pytest.raises(TypeError, match=r"got a teacher: it yields regions itself, Teacher\(model, scales=...\)"):
        RegionModel(teacher)
