"""Which networks of timm yield maps that a segmentation head can read, told without their weights."""

import pytest
import torch

from logitkd.models.timm_maps import check_maps, create_maps


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet", "test_convnext"])
def test_the_strides_that_are_told_are_those_of_the_maps(name):
    check_maps.cache_clear()
    stream = torch.get_rng_state()
    strides = check_maps(name, "lraspp")
    assert torch.get_rng_state().equal(stream)
    maps = create_maps(name, "lraspp", pretrained=False).eval()(torch.zeros(1, 3, 64, 96))
    assert [(64 // m.shape[2], 96 // m.shape[3]) for m in maps] == [(stride, stride) for stride in strides]
    assert strides[-1] == 16
    assert check_maps(name, "deeplabv3")[-1] == 8


@pytest.mark.parametrize(
    ("name", "head", "words"),
    [
        ("test_vit", "deeplabv3", r"`output_stride=8`, got one that cannot be \(TypeError: .*'output_stride'\)\. Take a conv"),
        ("vgg11", "lraspp", r"`output_stride=16`, got one that cannot be \(AssertionError\)"),
        ("ghostnet_100", "deeplabv3", r"got one that cannot be \(AssertionError: .*dilation not supported\)"),
        ("cifar_resnet8", "deeplabv3", "model `deeplabv3:cifar_resnet8` must be on a network that timm can build with `feat"),
    ],
)
def test_networks_without_maps_or_dilation_are_refused_with_the_reason(name, head, words):
    with pytest.raises(ValueError, match=words):
        check_maps(name, head)
