"""Names of networks that return maps, and of those that return classes, each where the other is wanted."""

import pytest
import torchvision

from logitkd.models import check_name, read_name
from logitkd.models.names import read_source


@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models.segmentation))
def test_every_segmentation_network_of_torchvision_is_known_with_its_weights_and_its_backbones(name):
    for tag in ("", ".COCO_WITH_VOC_LABELS_V1", ".IMAGENET1K_V1", ".IMAGENET1K_V2"):
        check_name(f"torchvision:{name}{tag}", "maps")
        assert read_name(f"torchvision:{name}{tag}").has_head == (tag == ".COCO_WITH_VOC_LABELS_V1")
        assert read_name(f"torchvision:{name}{tag}").has_weights == bool(tag)


@pytest.mark.parametrize(
    ("name", "weights", "head"),
    [
        ("resnet18.a1_in1k", True, True),
        ("torchvision:resnet18.IMAGENET1K_V1", True, True),
        ("torchvision:resnet19.IMAGENET1K_V1", True, True),
        ("deeplabv3:resnet18.a1_in1k", True, False),
        ("lraspp:local-dir:folder", True, False),
        ("deeplabv3:resnet18", False, False),
        ("transformers:nvidia/mit-b0", True, True),
        ("package.nets:net", False, False),
    ],
)
def test_whether_a_name_stands_for_weights_and_for_those_of_a_head(name, weights, head):
    assert (read_name(name).has_weights, read_name(name).has_head) == (weights, head)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet18", r"`resnet18` must be a segmentation network, got a classifier.*`deeplabv3:resnet18` or `lraspp:resnet18`"),
        ("hf-hub:timm/resnet18", "got a classifier: timm has no others. Give it a head, `deeplabv3:hf-hub:timm/resnet18`"),
        ("local-dir:nowhere", "got a classifier: timm has no others"),
        ("deeplabv3_resnet50", r"unknown model `deeplabv3_resnet50`\. Did you mean `torchvision:deeplabv3_resnet50`\? A segm"),
        ("zzzzqqq", r"unknown model `zzzzqqq`\. A segmentation network is `torchvision:NAME`"),
        ("torchvision:resnet18", r"no segmentation network `resnet18`\. It is a classifier there\. A segmentation network is"),
        ("torchvision:fcn_resnet51", r"no segmentation network `fcn_resnet51`\. Did you mean `fcn_resnet50`\?"),
        (
            "torchvision:fcn_resnet50.COCO",
            r"no weights `COCO` for `fcn_resnet50`\. It has COCO_WITH_VOC_LABELS_V1, DEFAULT, IMA",
        ),
        ("deeplabv3:resnet19", r"unknown model `resnet19`\. Nearest: resnet1"),
        ("deeplabv3:resnet18.a1_in2k", "timm has no weights `a1_in2k` for `resnet18`. Did you mean `a1_in1k`"),
        ("lraspp:torchvision:resnet18", "must read `lraspp:NAME`, a name of timm's, got `torchvision:resnet18`"),
        ("deeplabv3:local-dir:nowhere", "the folder nowhere does not exist. It must hold timm's `config.json`"),
        ("deeplabv3:test_vit", "`output_stride=8`, got one that cannot be"),
        ("deeplab:resnet18", "there is no module `deeplab`. Did you mean `deeplabv3`"),
    ],
)
def test_names_that_return_no_maps(name, words):
    from logitkd.models import build_model

    with pytest.raises(ValueError, match=words):
        build_model(name, 10, output="maps")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "deeplabv3:resnet18",
            r"must be a classifier, got a segmentation network.* Give `resnet18` alone, or the task: `--task",
        ),
        (
            "torchvision:fcn_resnet50",
            r"no classifier `fcn_resnet50`\. It is a segmentation network there\..*`--task segmentation`",
        ),
    ],
)
def test_names_that_return_no_classes(name, words):
    with pytest.raises(ValueError, match=words):
        read_source(name)


def test_there_are_two_outputs():
    with pytest.raises(ValueError, match=r"`output` must be .*classes.*maps.*, got 'map'"):
        check_name("resnet18", "map")
