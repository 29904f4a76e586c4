import time

import pytest
import timm
import torch
import torchvision
from torch import nn

from logitkd.cost import latency_ms, multiply_adds, network_cost
from logitkd.models import build_model


def images(side, count=1):
    return torch.zeros(count, 3, side, side)


def test_a_strided_convolution_and_a_linear_layer_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)
    )
    assert multiply_adds(model, images(8)) == 8 * (3 * 3 * 3) * (4 * 4) + 128 * 10


def test_a_grouped_convolution_by_hand():
    assert multiply_adds(nn.Conv2d(8, 8, 3, groups=8, padding=1), torch.zeros(1, 8, 5, 5)) == 8 * 9 * 25


def test_resnet20_by_hand():
    """Stem; six, five and five 3x3 convolutions on 32, 16 and 8 pixels; two that stride, with their shortcuts; classifier."""
    stem = 3 * 16 * 9 * 32**2
    stages = 6 * 16 * 16 * 9 * 32**2 + 5 * 32 * 32 * 9 * 16**2 + 5 * 64 * 64 * 9 * 8**2
    strides = 16 * 32 * (9 + 1) * 16**2 + 32 * 64 * (9 + 1) * 8**2
    assert multiply_adds(build_model("cifar_resnet20", 100), images(32)) == stem + stages + strides + 64 * 100 == 40_818_944


@pytest.mark.parametrize("family", ["timm", "torchvision"])
def test_attention_is_counted_however_it_is_fused(family):
    """Width 24, two layers, four patches and a class token; both libraries run fused kernels here."""
    if family == "timm":
        model = build_model("vit_tiny_patch16_224", 10)
        model = type(model)(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=2, num_classes=10)
    else:
        model = torchvision.models.VisionTransformer(
            image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=96, num_classes=10
        )
    tokens, width = 5, 24
    block = tokens * width * (4 * width + 2 * 4 * width) + 2 * tokens * tokens * width  # q, k, v, out; mlp; q @ k, a @ v
    assert multiply_adds(model.eval(), images(32)) == 4 * width * 3 * 16**2 + 2 * block + width * 10
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_network_that_hands_on_a_parameter_is_counted():
    """cait's class token is an input of its last blocks; torch's own counter by module fails on it."""
    model = timm.create_model("cait_xxs24_224", num_classes=5, img_size=32, depth=1)
    assert multiply_adds(model.eval(), images(32)) > 4 * 192 * 3 * 16**2


def test_cost_of_a_network_leaves_no_trace():
    model = build_model("cifar_resnet8", 10)
    model.layer1.eval()
    modes, state = [m.training for m in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    cost = network_cost(model, model, {"": lambda count: images(8, count)})
    assert cost["parameters"] == 78_042
    assert list(cost["latency_ms"]) == [1, 64]
    assert all(spent > 0 for spent in cost["latency_ms"].values())
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert "latency_ms" not in network_cost(model, model, {"": lambda count: images(8, count)}, latency=False)


def test_sizes_with_names_are_told_apart():
    model = nn.Conv2d(3, 2, 1)
    sizes = {"small": lambda count: images(2, count), "large": lambda count: images(4, count)}
    cost = network_cost(model, model, sizes)
    assert cost["macs"] == {"small": 6 * 4, "large": 6 * 16}
    assert {size: list(spent) for size, spent in cost["latency_ms"].items()} == {"small": [1, 64], "large": [1, 64]}


def test_each_latency_is_of_its_own_batch():
    """Only the larger batch waits, and nothing sleeps too short: however busy the machine is, the bound holds."""

    class SlowForMany(nn.Module):
        def __init__(self):
            super().__init__()
            self.batches = []

        def forward(self, images):
            self.batches.append(len(images))
            time.sleep(0.03 if len(images) == 64 else 0)
            return images

    model = SlowForMany()
    assert network_cost(model, model, {"": lambda count: images(2, count)})["latency_ms"][64] >= 30
    counted, *timed = model.batches
    assert (counted, set(timed)) == (1, {1, 64})


def test_latency_is_a_median_in_milliseconds():
    class Sleeper(nn.Module):
        passes = 0

        def forward(self, images):
            time.sleep(0.3 if self.passes == 3 else 0.02)  # one hiccup after the warm-up
            self.passes += 1
            return images

    model = Sleeper()
    assert 20 <= latency_ms(model, images(2)) < 200
    assert 3 + 2 <= model.passes <= 52
