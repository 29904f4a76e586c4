"""torchvision's segmentation heads on networks of timm."""

import pytest
import torch
from torchvision.models.segmentation import LRASPP, DeepLabV3

from logitkd.models import build_model, build_pretrained
from network_folders import OWN_MEAN, OWN_STD, timm_folder

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_deeplab_has_stride_eight_and_an_auxiliary_head_on_the_stage_before_the_last():
    network = build_model("deeplabv3:test_efficientnet", 5, output="maps")
    assert type(network.model) is DeepLabV3
    assert [name for name, _ in network.model.named_children()] == ["backbone", "classifier", "aux_classifier"]
    assert {key: tuple(value.shape) for key, value in network(IMAGES).items()} == {"out": (2, 5, 8, 12), "aux": (2, 5, 8, 12)}
    assert network.model.aux_classifier[0].in_channels == 48
    assert network.model.classifier[0].convs[0][0].in_channels == 64
    network = build_model("deeplabv3:test_efficientnet", 5, output="maps", aux=False)
    assert network(IMAGES).keys() == {"out"}
    assert network.model.backbone(IMAGES).keys() == {"out"}


@pytest.mark.parametrize(("name", "low"), [("test_efficientnet", 32), ("test_convnext", 32)])
def test_lraspp_reads_the_last_map_and_one_at_stride_eight(name, low):
    network = build_model(f"lraspp:{name}", 5, output="maps")
    assert type(network.model) is LRASPP
    assert network(IMAGES)["out"].shape == (2, 5, 8, 12)
    features = network.model.backbone(IMAGES)
    assert features["low"].shape[1:] == (low, 8, 12)
    assert features["high"].shape[2:] == (4, 6)


def test_a_backbone_brings_its_weights_and_what_they_were_normalised_by(tmp_path):
    source = timm_folder(tmp_path / "net", architecture="test_efficientnet")
    name = f"deeplabv3:local-dir:{tmp_path / 'net'}"
    network = build_model(name, 5, output="maps")
    body = network.model.backbone.body.state_dict()
    assert all(value.equal(source.state_dict()[key]) for key, value in body.items())
    torch.save(network.state_dict(), tmp_path / "trained.pth")
    found = build_pretrained(name, 5, checkpoint=tmp_path / "trained.pth", output="maps")
    assert (found.mean, found.std) == (tuple(OWN_MEAN), tuple(OWN_STD))
    with pytest.raises(ValueError, match=r"its weights are those of its backbone, so it cannot teach\. Give a checkpoint"):
        build_pretrained(name, output="maps")


def test_a_backbone_that_cannot_be_fetched(offline):
    with pytest.raises(ConnectionError, match=r"model `lraspp:test_resnet\.r160_in1k` is not on this machine"):
        build_model("lraspp:test_resnet.r160_in1k", 5, output="maps")
