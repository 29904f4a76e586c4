"""Segmentation networks of transformers: their maps, classes and normalisation; what yields no map is refused."""

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from dense_networks import save_segformer
from logitkd.models import ClassCountError, build_model, build_pretrained
from network_folders import OWN_MEAN, OWN_STD, transformers_folder

IMAGES = torch.randn(2, 3, 37, 50, generator=torch.Generator().manual_seed(0))


def test_a_segformer_folder(tmp_path):
    source = save_segformer(tmp_path / "net", 5, names=list("abcde"))
    found = build_pretrained(f"transformers:{tmp_path / 'net'}", output="maps")
    assert found.model.training
    maps = found.model.eval()(IMAGES)
    assert maps.shape == (2, 5, 10, 13)
    torch.testing.assert_close(maps, source(IMAGES).logits, rtol=0, atol=0)
    assert (found.num_classes, found.classes) == (5, tuple("abcde"))
    assert found.mean == pytest.approx(OWN_MEAN)
    assert found.std == pytest.approx(OWN_STD)


def test_the_output_decides_what_a_configuration_of_both_kinds_becomes(tmp_path):
    save_segformer(tmp_path / "net", 5)
    name = f"transformers:{tmp_path / 'net'}"
    assert build_model(name, 4)(IMAGES).shape == (2, 4)
    assert build_model(name, 4, output="maps")(IMAGES).shape == (2, 4, 10, 13)
    with pytest.raises(ValueError, match=r"its weights lack classifier\.bias.* Give one that was trained to classify images"):
        build_pretrained(name)


def test_a_segformer_without_a_head_is_refused_as_a_teacher_and_gives_a_student_its_encoder(tmp_path):
    source = save_segformer(tmp_path / "net", 5, whole=False)
    name = f"transformers:{tmp_path / 'net'}"
    with pytest.raises(
        ValueError, match=r"its weights lack decode_head\..*, which would be random.* trained to segment images"
    ):
        build_pretrained(name, output="maps")
    model = build_model(name, 4, output="maps")
    torch.testing.assert_close(model.model.segformer.state_dict(), source.segformer.state_dict(), rtol=0, atol=0)


def test_a_checkpoint_of_other_classes_says_how_many_it_has(tmp_path):
    save_segformer(tmp_path / "net", 5)
    name = f"transformers:{tmp_path / 'net'}"
    torch.save(build_model(name, 5, output="maps").state_dict(), tmp_path / "five.pth")
    with pytest.raises(ClassCountError) as caught:
        build_model(name, 4, checkpoint=tmp_path / "five.pth", output="maps")
    assert caught.value.classes == 5
    found = build_pretrained(name, 5, checkpoint=tmp_path / "five.pth", output="maps")
    assert found.mean == pytest.approx(OWN_MEAN)


@pytest.fixture
def upernet(tmp_path):
    from transformers import ResNetConfig, UperNetConfig, UperNetForSemanticSegmentation

    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, layer_type="basic", out_features=stages
    )
    shape = {"hidden_size": 8, "pool_scales": [1, 2], "auxiliary_channels": 8, "auxiliary_in_channels": 16, "num_labels": 5}
    network = UperNetForSemanticSegmentation(UperNetConfig(backbone_config=backbone, **shape)).eval()
    network.save_pretrained(tmp_path / "net")
    return network


def test_upernets_maps_are_taken_before_they_are_resized(tmp_path, upernet):
    name = f"transformers:{tmp_path / 'net'}"
    maps = build_pretrained(name, output="maps").model.eval()(IMAGES)
    assert {key: tuple(value.shape[2:]) for key, value in maps.items()} == {"out": (10, 13), "aux": (3, 4)}
    resized = F.interpolate(maps["out"], (37, 50), mode="bilinear", align_corners=False)
    assert resized.equal(upernet(IMAGES).logits)


def test_upernets_auxiliary_head_can_be_left_out(tmp_path, upernet):
    name = f"transformers:{tmp_path / 'net'}"
    network = build_model(name, 4, output="maps", aux=False)
    assert network(IMAGES).keys() == {"out"}
    assert not network.model.config.use_auxiliary_head
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    assert build_model(name, 4, checkpoint=tmp_path / "plain.pth", output="maps")(IMAGES).keys() == {"out"}
    with pytest.raises(ClassCountError):
        build_model(name, 6, checkpoint=tmp_path / "plain.pth", output="maps")
    save_file({"backbone.none": torch.zeros(1)}, tmp_path / "net" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"its weights lack backbone\..*: they are of another network"):
        build_model(name, 5, output="maps")


@pytest.mark.parametrize(("kind", "short"), [("Mask2Former", "mask2former"), ("MaskFormer", "maskformer"), ("Detr", "detr")])
def test_networks_that_classify_masks_are_refused_by_name(tmp_path, kind, short):
    import transformers

    getattr(transformers, f"{kind}Config")().save_pretrained(tmp_path / "net")
    words = (
        rf"must be one that .* semantic segmentation, got a {short}: it yields a list of masks with one class each.*SegFormer"
    )
    with pytest.raises(ValueError, match=words):
        build_model(f"transformers:{tmp_path / 'net'}", 5, output="maps")


def test_a_network_of_the_other_kind_is_refused(tmp_path, upernet):
    transformers_folder(tmp_path / "resnet")
    with pytest.raises(ValueError, match=r"for semantic segmentation, got a resnet, for which it has none\. Take SegFormer"):
        build_model(f"transformers:{tmp_path / 'resnet'}", 5, output="maps")
    with pytest.raises(ValueError, match=r"got a upernet, for which it has neither\. It is a segmentation network: `--task"):
        build_model(f"transformers:{tmp_path / 'net'}", 5)


def test_layers_are_of_texts(tmp_path):
    save_segformer(tmp_path / "net", 5)
    with pytest.raises(ValueError, match=r"`layers` must be left out for `transformers:.*`: it segments images"):
        build_model(f"transformers:{tmp_path / 'net'}", 5, output="maps", layers=1)
