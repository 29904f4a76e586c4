"""Maps are taken before the final resize, from networks that resize as torchvision's do; from no others."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.segmentation import FCN, LRASPP, DeepLabV3
from torchvision.models.segmentation.fcn import FCNHead

from dense_networks import tiny_map_network
from logitkd.models.segmenters import TorchvisionSegmenter, as_segmenter

IMAGES = torch.randn(2, 3, 37, 50, generator=torch.Generator().manual_seed(0))


class Backbone(nn.Module):
    """Two maps, at strides 2 and 4."""

    def __init__(self, names):
        super().__init__()
        self.names = names
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16))

    def forward(self, images):
        first = self.first(images).relu()
        return dict(zip(self.names, (first, self.second(first)), strict=True))


def fcn(aux=True, cls=FCN):
    return cls(Backbone(("aux", "out")), FCNHead(16, 5), FCNHead(8, 5) if aux else None)


def lraspp():
    return LRASPP(Backbone(("low", "high")), 8, 16, 5, inter_channels=4)


@pytest.mark.parametrize("build", [fcn, lambda: fcn(aux=False), lambda: fcn(cls=DeepLabV3), lraspp])
def test_the_maps_resized_are_the_networks_own_output(build):
    network = build().eval()
    wrapped = TorchvisionSegmenter(network)
    own, maps = network(IMAGES), wrapped(IMAGES)
    assert own.keys() == maps.keys()
    for key, value in maps.items():
        assert value.shape[-2:] in ((10, 13), (19, 25))
        assert F.interpolate(value, (37, 50), mode="bilinear", align_corners=False).equal(own[key])
    assert (wrapped.model, wrapped.num_classes) == (network, 5)


def test_wrapping_changes_nothing_of_a_network():
    network = fcn().train()
    network.backbone.eval()
    before, stream = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    TorchvisionSegmenter(network)
    assert [part.training for part in (network, network.backbone, network.classifier)] == [True, False, True]
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert torch.get_rng_state().equal(stream)


@pytest.mark.parametrize("change", [lambda value: 2 * value, lambda value: value[:, 1:]])
def test_a_network_that_does_more_than_resize_is_refused(change):
    hooked = fcn()
    hooked.register_forward_hook(lambda module, args, output: {"out": change(output["out"]), "aux": output["aux"]})
    with pytest.raises(ValueError, match="a FCN must return what its backbone and its heads give, resized to the image"):
        as_segmenter(hooked)


def test_a_network_that_takes_no_small_image_is_refused():
    network = fcn()
    network.backbone.first.padding = (3, 3, 3)
    with pytest.raises(
        ValueError, match=r"but it fails on one of 64 x 96 \(RuntimeError: .*\)\. Wrap it in a module of its own"
    ):
        as_segmenter(network)
    assert network.training


def test_a_subclass_with_a_forward_of_its_own_stays_as_it_is():
    class Sharp(FCN):
        def forward(self, images):
            return {"out": 2 * super().forward(images)["out"]}

    class Plain(FCN):
        pass

    sharp, plain, other = fcn(cls=Sharp), fcn(cls=Plain), tiny_map_network(5)
    assert as_segmenter(sharp) is sharp
    assert as_segmenter(other) is other
    assert isinstance(as_segmenter(plain), TorchvisionSegmenter)


def test_the_auxiliary_head_can_be_left_out():
    wrapped = TorchvisionSegmenter(fcn()).eval()
    before = wrapped(IMAGES)
    wrapped.drop_auxiliary()
    after = wrapped(IMAGES)
    assert after.keys() == {"out"}
    assert after["out"].equal(before["out"])
    assert not any("aux_classifier" in name for name in wrapped.state_dict())


def test_the_layers_that_have_a_row_for_every_class():
    assert TorchvisionSegmenter(fcn()).class_layers == {"model.classifier.4", "model.aux_classifier.4"}
    heads = {"model.classifier.low_classifier", "model.classifier.high_classifier"}
    assert TorchvisionSegmenter(lraspp()).class_layers == heads
