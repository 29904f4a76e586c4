"""The CIFAR networks against the numbers of the public ones, and timm's interface on each of them."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

import logitkd.models

FOLDER = Path(__file__).parents[1] / "golden" / "models"
GOLDEN = json.loads((FOLDER / "cifar.json").read_text())
RENAMED = {
    "ResNet18": "cifar_resnet18",
    "ResNet50": "cifar_resnet50",
    "MobileNetV2": "cifar_mobilenetv2",
    "ShuffleV1": "cifar_shufflenetv1",
    "ShuffleV2": "cifar_shufflenetv2",
}
NAMES = {key: RENAMED.get(key, f"cifar_{key}") for key in GOLDEN}
SMALL = [  # one of each family
    "cifar_resnet8",
    "cifar_resnet18",
    "cifar_wrn_16_1",
    "cifar_vgg8",
    "cifar_mobilenetv2",
    "cifar_shufflenetv1",
    "cifar_shufflenetv2",
]


@pytest.fixture(scope="module")
def outputs():
    return load_file(FOLDER / "cifar.safetensors")


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(np.random.RandomState(0).standard_normal(2 * 3 * 32 * 32).reshape(2, 3, 32, 32))


def filled(name: str, shape: list[int]) -> torch.Tensor:
    """The rule of tests/golden/models/README.md."""
    count = int(np.prod(shape))
    b = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(count).reshape(shape)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if len(shape) >= 2:
        b = b * np.sqrt(1 / (count / shape[0]))
    elif name.endswith("running_var"):
        b = 1 + 0.1 * abs(b)
    elif name.endswith("weight"):
        b = 1 + 0.1 * b
    else:
        b = 0.1 * b
    return torch.from_numpy(b)


@pytest.mark.parametrize("key", GOLDEN)
def test_parameters_names_and_outputs_are_the_public_networks(key, outputs, images):
    golden = GOLDEN[key]
    model = timm.create_model(NAMES[key], num_classes=100).double().eval()
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    assert shapes == golden["state_dict"]
    assert list(shapes) == list(golden["state_dict"])  # the order, which optimizer states go by
    assert sum(p.numel() for p in model.parameters()) == golden["parameters"]

    model.load_state_dict({name: filled(name, shape) for name, shape in golden["state_dict"].items()})
    maps = {}

    def record(name):
        def hook(module, inputs, output):
            maps[name] = output.shape

        return hook

    hooks = [model.get_submodule(s["module"]).register_forward_hook(record(s["module"])) for s in model.feature_info]
    with torch.no_grad():
        features = model.forward_features(images)
        pooled = model.forward_head(features, pre_logits=True)
        logits = model.forward_head(features)
    torch.testing.assert_close(logits, outputs[f"{key}.logits"], rtol=1e-9, atol=0)
    torch.testing.assert_close(pooled, outputs[f"{key}.pooled"], rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(features.mean((2, 3)), pooled)

    # feature_info tells the truth about every stage, and ends with the map that forward_features returns.
    for hook, stage in zip(hooks, model.feature_info, strict=True):
        hook.remove()
        side = 32 // stage["reduction"]
        assert maps[stage["module"]] == (2, stage["num_chs"], side, side)
    assert features.shape == maps[model.feature_info[-1]["module"]]
    assert features.shape[1] == model.num_features == pooled.shape[1]
    described = [[2, s["num_chs"], 32 // s["reduction"], 32 // s["reduction"]] for s in model.feature_info]
    if key not in ("MobileNetV2", "ShuffleV2"):  # theirs end in a 1x1 layer that the public lists leave out
        assert described == golden["stage_shapes"]


def test_every_public_network_is_registered_and_no_other():
    assert set(timm.list_models("cifar_*")) == set(NAMES.values())
    assert len(NAMES) == 23


@pytest.mark.parametrize("name", SMALL)
def test_timm_interface(name):
    model = timm.create_model(name, num_classes=7, in_chans=1).eval()
    images = torch.randn(2, 1, 32, 32)
    assert model.num_classes == 7
    assert model(images).shape == (2, 7)
    assert isinstance(model.get_classifier(), nn.Linear)
    assert model.get_classifier() is model.get_submodule(model.pretrained_cfg["classifier"])
    assert isinstance(model.get_submodule(model.pretrained_cfg["first_conv"]), nn.Conv2d)
    assert model.pretrained_cfg["input_size"] == (3, 32, 32)

    model.reset_classifier(3)
    assert model.num_classes == 3
    assert model(images).shape == (2, 3)
    model.reset_classifier(0)
    assert model(images).shape == (2, model.num_features)
    model.reset_classifier(0, "")
    torch.testing.assert_close(model(images), model.forward_features(images))
    model.reset_classifier(5, "catavgmax")
    assert model(images).shape == (2, 5)
    with pytest.raises(ValueError, match="needs `num_classes=0`, got 4"):
        model.reset_classifier(4, "")
    with pytest.raises(ValueError, match=r"must be 0 .* or more, got -1"):
        model.reset_classifier(-1)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4)
    nn.functional.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", ["cifar_resnet8x4", "cifar_resnet18", "cifar_wrn_16_2", "cifar_vgg8", "cifar_mobilenetv2"])
def test_convolutions_start_with_variance_two_over_fan_out(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=100)
    for conv in (m for m in model.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 20_000):
        fan_out = conv.weight.shape[0] * conv.weight[0, 0].numel()
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)
    bias = model.get_classifier().bias
    assert bool((bias == 0).all()) == (name in ("cifar_wrn_16_2", "cifar_vgg8", "cifar_mobilenetv2"))


def test_vgg_halves_once_more_for_images_of_64_pixels():
    model = timm.create_model("cifar_vgg8", num_classes=10).eval()
    assert model.forward_features(torch.randn(1, 3, 64, 64)).shape == (1, 512, 4, 4)


@pytest.mark.parametrize(
    ("network", "depth", "rule"),
    [("cifar_resnet", 21, r"6n \+ 2"), ("cifar_wrn", 17, r"6n \+ 4"), ("cifar_wrn", 4, "10")],
)
def test_impossible_depths_are_refused(network, depth, rule):
    module = getattr(logitkd.models, network)
    with pytest.raises(ValueError, match=rf"`depth` must be .*{rule}.*, got {depth}"):
        module.CifarResNet(depth) if network == "cifar_resnet" else module.CifarWideResNet(depth, 1)


def test_there_are_no_weights_to_download():
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        timm.create_model("cifar_resnet8", pretrained=True)
