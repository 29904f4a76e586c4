"""Trained networks from every source, with their heads, classes and normalisation; and what is refused as a teacher."""

import copy
import json
import sys
import time

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from logitkd.models import ClassCountError, build_model, build_pretrained, read_name
from logitkd.models.pretrained import IMAGENET_MEAN, IMAGENET_STD
from network_folders import OWN_MEAN, OWN_STD, timm_folder, transformers_folder

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_timm_folder(tmp_path):
    source = timm_folder(tmp_path / "net", label_names=list("abcdefg"))
    found = build_pretrained(f"local-dir:{tmp_path / 'net'}")
    torch.testing.assert_close(found.model.state_dict(), source.state_dict(), rtol=0, atol=0)
    assert (found.num_classes, found.classes) == (7, tuple("abcdefg"))
    assert (found.mean, found.std) == (tuple(OWN_MEAN), tuple(OWN_STD))


def test_building_a_teacher_leaves_the_random_stream_as_it_was(tmp_path):
    timm_folder(tmp_path / "net")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    build_pretrained(f"local-dir:{tmp_path / 'net'}")
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("cifar_resnet8", r"its weights cannot be loaded \(.*Missing key\(s\) in state_dict: \"fc.weight\""),
        ("dla46_c", r"its weights hold no classifier \(`fc.weight` was left random\)"),  # timm loads it with strict=False
    ],
)
def test_a_timm_folder_without_a_head_is_refused(tmp_path, architecture, words):
    timm_folder(tmp_path / "net", leave_out=["fc."], architecture=architecture)
    with pytest.raises(ValueError, match=words):
        build_pretrained(f"local-dir:{tmp_path / 'net'}")


def test_a_timm_folder_for_a_student_of_other_classes_gets_a_new_head(tmp_path):
    source = timm_folder(tmp_path / "net")
    model = build_model(f"local-dir:{tmp_path / 'net'}", 4)
    assert model.fc.weight.shape[0] == 4
    assert model.conv1.weight.equal(source.conv1.weight)
    whole = build_model(f"local-dir:{tmp_path / 'net'}", 7)
    assert whole.fc.weight.equal(source.fc.weight)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_transformers_folder(tmp_path, kind):
    source = transformers_folder(tmp_path / "net", names=list("abcdefg"), kind=kind)
    found = build_pretrained(f"transformers:{tmp_path / 'net'}")
    assert found.model.training
    torch.testing.assert_close(found.model.eval()(IMAGES), source(IMAGES).logits, rtol=0, atol=0)
    assert (found.num_classes, found.classes) == (7, tuple("abcdefg"))
    assert found.mean == pytest.approx(OWN_MEAN)
    assert found.std == pytest.approx(OWN_STD)


def test_a_transformers_folder_without_names_or_processor(tmp_path):
    transformers_folder(tmp_path / "net", processor=False)
    found = build_pretrained(f"transformers:{tmp_path / 'net'}")
    assert (found.num_classes, found.classes, found.mean, found.std) == (7, None, None, None)


@pytest.mark.parametrize(
    ("record", "mean", "std"),
    [
        ({"do_normalize": False, "do_rescale": True}, 0.0, 1.0),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_rescale": False}, 0.5 / 255, 0.5 / 255),
        ({"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 1 / 127.5, "rescale_offset": True}, 0.5, 0.5),
    ],
)
def test_what_an_image_processor_does_to_pixels(tmp_path, record, mean, std):
    transformers_folder(tmp_path / "net", processor=False)
    (tmp_path / "net" / "preprocessor_config.json").write_text(json.dumps(record))
    found = build_pretrained(f"transformers:{tmp_path / 'net'}")
    assert found.mean == pytest.approx((mean,) * 3)
    assert found.std == pytest.approx((std,) * 3)


def test_a_transformers_folder_without_a_head_is_refused_as_a_teacher_and_gives_a_student_its_body(tmp_path):
    source = transformers_folder(tmp_path / "net", whole=False)
    with pytest.raises(ValueError, match=r"its weights lack classifier.1.bias, classifier.1.weight, which would be random"):
        build_pretrained(f"transformers:{tmp_path / 'net'}")
    model = build_model(f"transformers:{tmp_path / 'net'}", 4)
    assert model.eval()(IMAGES).shape == (2, 4)
    torch.testing.assert_close(model.model.resnet.state_dict(), source.resnet.state_dict(), rtol=0, atol=0)


def test_transformers_weights_of_another_network_are_refused_for_a_student_too(tmp_path):
    transformers_folder(tmp_path / "net")
    save_file({"resnet.none": torch.zeros(1)}, tmp_path / "net" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"its weights lack resnet\..*: they are of another network"):
        build_model(f"transformers:{tmp_path / 'net'}", 7)


def test_transformers_weights_are_safetensors_only(tmp_path):
    source = transformers_folder(tmp_path / "net")
    (tmp_path / "net" / "model.safetensors").unlink()
    torch.save(source.state_dict(), tmp_path / "net" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"cannot be read from its folder \(.*safetensors"):
        build_pretrained(f"transformers:{tmp_path / 'net'}")


def test_a_transformers_network_with_a_checkpoint_of_its_own_or_of_ours(tmp_path):
    source = transformers_folder(tmp_path / "net")
    name = f"transformers:{tmp_path / 'net'}"
    other = transformers_folder(tmp_path / "other", num_labels=4, seed=8)
    torch.save(other.state_dict(), tmp_path / "theirs.pth")
    model = build_model(name, 4, checkpoint=tmp_path / "theirs.pth")
    torch.testing.assert_close(model.eval()(IMAGES), other(IMAGES).logits, rtol=0, atol=0)
    save_file(build_model(name, 7).state_dict(), tmp_path / "ours.safetensors")
    found = build_pretrained(name, 7, checkpoint=tmp_path / "ours.safetensors")
    torch.testing.assert_close(found.model.eval()(IMAGES), source(IMAGES).logits, rtol=0, atol=0)
    assert found.mean == pytest.approx(OWN_MEAN)


def test_a_torchvision_network_with_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    source = torchvision.models.resnet18(num_classes=5)
    torch.save({"model": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "net.pth")
    found = build_pretrained("torchvision:resnet18", 5, checkpoint=tmp_path / "net.pth")
    torch.testing.assert_close(found.model.state_dict(), source.state_dict(), rtol=0, atol=0)
    assert (found.num_classes, found.mean, found.std) == (5, IMAGENET_MEAN, IMAGENET_STD)
    with pytest.raises(ClassCountError) as caught:
        build_pretrained("torchvision:resnet18", 4, checkpoint=tmp_path / "net.pth")
    assert caught.value.classes == 5


def test_torchvisions_own_weights(torch_home):
    """From the file that a download would have left."""
    source = torchvision.models.squeezenet1_1()
    torch.save(source.state_dict(), torch_home / "squeezenet1_1-b8a52dc0.pth")
    found = build_pretrained("torchvision:squeezenet1_1.IMAGENET1K_V1")
    torch.testing.assert_close(found.model.state_dict(), source.state_dict(), rtol=0, atol=0)
    assert (found.num_classes, found.classes[0]) == (1000, "tench")
    assert (found.mean, found.std) == (IMAGENET_MEAN, IMAGENET_STD)
    student = build_model("torchvision:squeezenet1_1.IMAGENET1K_V1", 4)
    assert student.classifier[1].weight.shape[0] == 4
    assert student.features[0].weight.equal(source.features[0].weight)
    other = {**source.state_dict(), "features.0.weight": torch.zeros(96, 3, 7, 7)}
    torch.save(other, torch_home / "squeezenet1_1-b8a52dc0.pth")
    with pytest.raises(ValueError, match=r"its weights cannot be loaded \(another shape than the network's: features"):
        build_model("torchvision:squeezenet1_1.IMAGENET1K_V1", 4)


def test_densenet_files_with_dots_in_their_modules_names(torch_home):
    source = torchvision.models.densenet121()
    old = {k.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in k else k: v
           for k, v in source.state_dict().items()}  # fmt: skip
    assert old.keys() != source.state_dict().keys()
    torch.save(old, torch_home / "densenet121-a639ec97.pth")
    found = build_pretrained("torchvision:densenet121.IMAGENET1K_V1")
    torch.testing.assert_close(found.model.state_dict(), source.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "name",
    ["resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k", "transformers:microsoft/resnet-18", "torchvision:resnet18.DEFAULT"],
)
def test_offline_the_error_is_clear_and_quick(name, offline, torch_home):
    begun = time.perf_counter()
    with pytest.raises(ConnectionError, match=r"is not on this machine and could not be fetched \(.*\)\. Check its name"):
        build_pretrained(name)
    with pytest.raises(ConnectionError, match="local-dir:FOLDER"):
        build_model(name, 10)
    assert time.perf_counter() - begun < 20


def test_a_folder_that_is_not_there_is_said_first(offline):
    words = r"^model `transformers:nosuch`: there is no folder nosuch here, so it is taken as a hub id, which is not on this"
    with pytest.raises(ConnectionError, match=words):
        build_pretrained("transformers:nosuch")


def test_a_name_with_weights_needs_none_of_them_beside_a_checkpoint(tmp_path, offline):
    source = build_model("cifar_resnet8", 5)
    torch.save(source.state_dict(), tmp_path / "net.pth")
    torch.save(timm.create_model("resnet10t", num_classes=5).state_dict(), tmp_path / "r10.pth")
    found = build_pretrained("resnet10t.c3_in1k", 5, checkpoint=tmp_path / "r10.pth")
    assert (found.mean, found.std) == (IMAGENET_MEAN, IMAGENET_STD)  # timm's, for the weights that the name stands for
    assert build_pretrained("cifar_resnet8", 5, checkpoint=tmp_path / "net.pth").mean is None


def test_timms_names_of_imagenets_classes(tmp_path):
    timm_folder(tmp_path / "net", num_classes=1000)
    found = build_pretrained(f"local-dir:{tmp_path / 'net'}")
    assert found.classes[0] == "tench, Tinca tinca"


class Own(nn.Linear):
    def __init__(self, num_classes):
        super().__init__(3, num_classes)


def test_ones_own_callable_may_load_its_weights_itself(monkeypatch):
    monkeypatch.setitem(sys.modules, "users_nets", sys.modules[__name__])
    found = build_pretrained("users_nets:Own", 3)
    assert (found.num_classes, found.classes, found.mean) == (3, None, None)
    with pytest.raises(ValueError, match="`num_classes` must be given"):
        build_pretrained("users_nets:Own")


@pytest.mark.parametrize("name", ["cifar_resnet8", "torchvision:resnet18"])
def test_random_weights_are_no_teacher(name):
    with pytest.raises(ValueError, match="has random weights: give a checkpoint"):
        build_pretrained(name)


def test_a_class_count_that_is_not_the_weights_own(tmp_path):
    timm_folder(tmp_path / "net")
    with pytest.raises(ValueError, match=r"must be what `local-dir:.*` has, 7, got 5"):
        build_pretrained(f"local-dir:{tmp_path / 'net'}", 5)


def test_which_names_bring_weights():
    with_weights = ["resnet50.a1_in1k", "torchvision:resnet18.DEFAULT", "transformers:a/b", "hf-hub:a/b", "local-dir:a"]
    assert all(read_name(name).has_weights for name in with_weights)
    assert not any(read_name(name).has_weights for name in ["resnet50", "torchvision:resnet18", "my.nets:small"])


def test_a_constant_head_is_no_head(tmp_path):
    source = timm_folder(tmp_path / "net")
    state = copy.deepcopy(source.state_dict())
    state["fc.weight"].zero_()
    save_file(state, tmp_path / "net" / "model.safetensors")
    with pytest.raises(ValueError, match=r"hold no classifier \(`fc.weight`"):
        build_pretrained(f"local-dir:{tmp_path / 'net'}")
