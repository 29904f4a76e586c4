"""Building networks by name."""

import pytest
import torch
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation import FCN
from torchvision.models.segmentation.fcn import FCNHead

from dense_networks import TinySegmenter
from logitkd.models import ClassCountError, build_model, build_pretrained, parameter_count


def own_network(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))


def stubborn_network(num_classes: int) -> nn.Module:
    model = own_network(10)
    model.num_classes = 10
    return model


def no_network(num_classes: int) -> int:
    return num_classes


def own_fcn(num_classes: int) -> nn.Module:
    backbone = IntermediateLayerGetter(
        nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)), {"0": "aux", "1": "out"}
    )
    return FCN(backbone, FCNHead(8, num_classes), FCNHead(8, num_classes))


def boom(num_classes: int) -> nn.Module:
    return {}["weights"]


def without_classes() -> nn.Module:
    return own_network(10)


def with_depth(num_classes: int, depth: int) -> nn.Module:
    return own_network(num_classes)


@pytest.fixture
def here(monkeypatch):
    """This file as an importable module, as a user's own would be."""
    import sys

    monkeypatch.setitem(sys.modules, "users.networks", sys.modules[__name__])
    monkeypatch.setitem(sys.modules, "users", sys.modules[__name__])
    return "users.networks"


def test_a_timm_name_and_a_registered_cifar_name():
    assert build_model("resnet10t", 5).eval()(torch.randn(1, 3, 32, 32)).shape == (1, 5)
    assert build_model("cifar_resnet8", 5)(torch.randn(1, 3, 32, 32)).shape == (1, 5)


def test_a_callable_of_ones_own(here):
    model = build_model(f"{here}:own_network", 5)
    assert model(torch.randn(2, 3, 2, 2)).shape == (2, 5)


def test_a_checkpoint_is_loaded(tmp_path):
    source = build_model("cifar_resnet8", 5)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = build_model("cifar_resnet8", 5, checkpoint=tmp_path / "weights.pth")
    torch.testing.assert_close(model.state_dict(), source.state_dict(), rtol=0, atol=0)


def test_a_callable_of_ones_own_that_returns_a_map_is_as_it_was_built():
    network = build_model("dense_networks:build_aux", 5, output="maps", aux=False)
    assert type(network) is TinySegmenter
    assert network(torch.randn(2, 3, 16, 16)).keys() == {"out", "aux"}
    assert (build_pretrained("dense_networks:build_teacher", 5, output="maps").num_classes) == 5
    with pytest.raises(ValueError, match=r"`num_classes` must be given, as `dense_networks:build_teacher` does not say"):
        build_pretrained("dense_networks:build_teacher", output="maps")


def test_ones_own_network_of_a_class_of_torchvision_returns_its_maps_before_they_are_resized(here, tmp_path):
    network = build_model(f"{here}:own_fcn", 5, output="maps").eval()
    images = torch.randn(2, 3, 16, 16)
    assert {key: value.shape for key, value in network(images).items()} == {"out": (2, 5, 4, 4), "aux": (2, 5, 8, 8)}
    assert network.model(images)["out"].shape == (2, 5, 16, 16)
    torch.save(network.model.state_dict(), tmp_path / "net.pth")  # by its own names
    again = build_model(f"{here}:own_fcn", 5, checkpoint=tmp_path / "net.pth", output="maps").eval()
    assert again(images)["out"].equal(network(images)["out"])
    with pytest.raises(ClassCountError, match="has 5 classes"):
        build_model(f"{here}:own_fcn", 4, checkpoint=tmp_path / "net.pth", output="maps")
    assert type(build_model(f"{here}:own_fcn", 5)) is FCN


def test_parameter_count_counts_frozen_parameters_and_shared_ones_once():
    first = nn.Linear(4, 4)
    assert parameter_count(nn.Sequential(first, first).requires_grad_(False)) == 20


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet8x4", r"unknown model `resnet8x4`\. Nearest: cifar_resnet8x4"),
        ("cifar_resnt20", "Nearest: cifar_resnet20"),
        ("zzzzqqq", r"unknown model `zzzzqqq`\. A name is one of timm's"),
        ("resnet18.a1_in2k", "timm has no weights `a1_in2k` for `resnet18`. Did you mean `a1_in1k`"),
        ("cifar_resnet8.in1k", "timm has no weights `in1k` for `cifar_resnet8`. It has none"),
        ("hf-hub:resnet18", "must read `hf-hub:OWNER/NAME`"),
        ("local-dir:nowhere", "the folder nowhere does not exist. It must hold timm's `config.json`"),
        ("local-dir:.", r"the folder \. holds no `config.json`"),
        ("transformers:", "must read `transformers:ID_OR_FOLDER`"),
        ("transformers:./nowhere", "the folder nowhere does not exist. It must hold what `save_pretrained` writes"),
        ("torchvision:resnet19", "torchvision has no classifier `resnet19`. Did you mean `resnet1"),
        ("torchvision:googlenet", "several outputs while training"),
        ("torchvision:resnet18.IMAGENET1K_V2", "no weights `IMAGENET1K_V2` for `resnet18`. Did you mean `IMAGENET1K_V1`"),
        ("torch-vision:resnet18", "there is no module `torch-vision`. Did you mean `torchvision`"),
        ("logitkd.models:build_modle", "has no `build_modle`. Did you mean `build_model`"),
        ("no_such_package.x:y", "there is no module `no_such_package`"),
        (":x", "must read `package.module:callable`"),
    ],
)
def test_unknown_names(name, words):
    with pytest.raises(ValueError, match=words):
        build_model(name, 10)


def test_what_a_callable_must_return(here):
    with pytest.raises(TypeError, match=r"must return a torch\.nn\.Module, got int"):
        build_model(f"{here}:no_network", 10)
    with pytest.raises(TypeError, match="`__name__` must be callable, got str"):
        build_model(f"{here}:__name__", 10)
    with pytest.raises(ValueError, match="asked for 5 classes and was built with 10"):
        build_model(f"{here}:stubborn_network", 5)


def test_a_callable_that_fails_says_how_it_was_called(here):
    words = r"`users\.networks:boom` is called as boom\(num_classes=5\), which raised KeyError: 'weights' \(test_build.py, line"
    with pytest.raises(ValueError, match=words) as raised:
        build_model(f"{here}:boom", 5)
    assert isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize(("network", "said"), [("without_classes", "unexpected keyword"), ("with_depth", "'depth'")])
def test_a_callable_must_take_the_classes_and_need_nothing_else(here, network, said):
    words = rf"is called as {network}\(num_classes=5\), which raised TypeError: .*{said}.*\. Let it take `num_classes`, and"
    with pytest.raises(ValueError, match=words):
        build_model(f"{here}:{network}", 5)


def test_a_broken_import_inside_the_users_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "users_broken.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        build_model("users_broken:network", 10)


@pytest.mark.parametrize(("count", "error"), [(1, ValueError), (-3, ValueError), (True, TypeError), (2.0, TypeError)])
def test_class_counts(count, error):
    with pytest.raises(error, match=f"`num_classes` must be .*, got {count}"):
        build_model("cifar_resnet8", count)
