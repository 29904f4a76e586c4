"""torchvision's segmentation networks by name: random, on a trained backbone, trained."""

import copy

import pytest
import torch
import torchvision
from torch.nn import functional as F

from logitkd.models import build_model, build_pretrained
from logitkd.models.pretrained import IMAGENET_MEAN, IMAGENET_STD

LRASPP = "torchvision:lraspp_mobilenet_v3_large"
DEEPLAB = "torchvision:deeplabv3_mobilenet_v3_large"
TAG = "COCO_WITH_VOC_LABELS_V1"
IMAGES = torch.randn(1, 3, 50, 70, generator=torch.Generator().manual_seed(0))


def published(name, folder, tag=TAG):
    """Put weights, random ones, where torchvision keeps those that it has fetched; return the network."""
    torch.manual_seed(0)
    more = {"aux_loss": True} if "deeplab" in name else {}
    model = torchvision.models.get_model(name.partition(":")[2], weights=None, weights_backbone=None, num_classes=21, **more)
    url = torchvision.models.get_model_weights(name.partition(":")[2])[tag].url
    torch.save(model.state_dict(), folder / url.rpartition("/")[2])
    return model.eval()


@pytest.mark.parametrize("aux", [True, False])
def test_without_a_tag_nothing_is_fetched(torch_home, offline, aux):
    network = build_model(DEEPLAB, 5, output="maps", aux=aux).eval()
    own, maps = network.model(IMAGES), network(IMAGES)
    assert own.keys() == maps.keys() == ({"out", "aux"} if aux else {"out"})
    for key, value in maps.items():
        assert F.interpolate(value, (50, 70), mode="bilinear", align_corners=False).equal(own[key])
    assert not list(torch_home.iterdir())


def test_trained_weights_come_with_heads_classes_and_what_images_were_normalised_by(torch_home):
    source = published(DEEPLAB, torch_home)
    found = build_pretrained(f"{DEEPLAB}.{TAG}", output="maps")
    assert (found.num_classes, found.classes[0], found.classes[-1]) == (21, "__background__", "tvmonitor")
    assert (found.mean, found.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert found.model.training
    torch.testing.assert_close(found.model.model.state_dict(), source.state_dict(), rtol=0, atol=0)
    alone = build_pretrained(f"{DEEPLAB}.{TAG}", output="maps", aux=False).model.eval()
    assert alone(IMAGES).keys() == {"out"}
    with pytest.raises(ValueError, match=r"`num_classes` must be what `.*` has, 21, got 5"):
        build_pretrained(f"{DEEPLAB}.{TAG}", 5, output="maps")


def test_a_student_of_other_classes_gets_new_last_layers(torch_home):
    source = published(LRASPP, torch_home).state_dict()
    found = build_model(f"{LRASPP}.{TAG}", 5, output="maps").model.state_dict()
    other = {name for name, value in found.items() if value.shape != source[name].shape}
    assert other == {f"classifier.{head}_classifier.{kind}" for head in ("low", "high") for kind in ("weight", "bias")}
    assert all(value.equal(source[name]) for name, value in found.items() if name not in other)
    same = build_model(f"{LRASPP}.{TAG}", 21, output="maps").model.state_dict()
    assert all(value.equal(source[name]) for name, value in same.items())


def test_weights_of_another_network_are_refused(torch_home):
    model = published(LRASPP, torch_home)
    (file,) = torch_home.iterdir()
    torch.save({**model.state_dict(), "backbone.0.0.weight": torch.zeros(3, 3, 3, 3)}, file)
    with pytest.raises(
        ValueError, match=r"its weights cannot be loaded \(not there, or of another shape .*backbone\.0\.0\.wei"
    ):
        build_model(f"{LRASPP}.{TAG}", 5, output="maps")


def test_weights_of_a_backbone_alone(torch_home):
    torch.manual_seed(0)
    source = torchvision.models.mobilenet_v3_large()
    url = torchvision.models.MobileNet_V3_Large_Weights.IMAGENET1K_V1.url
    torch.save(source.state_dict(), torch_home / url.rpartition("/")[2])
    network = build_model(f"{LRASPP}.IMAGENET1K_V1", 5, output="maps")
    own = {f"features.{name}": value for name, value in network.model.backbone.state_dict().items()}
    assert own
    assert all(value.equal(source.state_dict()[name]) for name, value in own.items())
    with pytest.raises(ValueError, match=r"IMAGENET1K_V1`: its weights are those of its backbone, so it cannot teach"):
        build_pretrained(f"{LRASPP}.IMAGENET1K_V1", output="maps")


@pytest.mark.parametrize("tag", [TAG, "IMAGENET1K_V1"])
def test_offline_the_error_is_clear(torch_home, offline, tag):
    with pytest.raises(ConnectionError, match=rf"model `{LRASPP}\.{tag}` is not on this machine and could not be fetched"):
        build_model(f"{LRASPP}.{tag}", 5, output="maps")


def test_a_checkpoint_decides_on_the_auxiliary_head(tmp_path):
    whole = build_model("deeplabv3:test_efficientnet", 5, output="maps")
    plain = {name: value for name, value in whole.model.state_dict().items() if not name.startswith("aux_classifier.")}
    for path, state in ((tmp_path / "whole.pth", whole.state_dict()), (tmp_path / "plain.pth", plain)):
        torch.save(state, path)
        for aux in (True, False):
            found = build_model("deeplabv3:test_efficientnet", 5, checkpoint=path, output="maps", aux=aux)
            assert (found.model.aux_classifier is not None) == (path.stem == "whole")
            assert all(value.equal(whole.state_dict()[name]) for name, value in found.state_dict().items())
    twin = copy.deepcopy(whole.model)
    twin.aux_classifier = None
    twin.load_state_dict(plain)  # as plain torch would
