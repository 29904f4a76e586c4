"""Loading weights: every layout that is about, and every way a file can be wrong."""

import os
import re
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from logitkd.models import ClassCountError, build_model, load_weights


class Baggage:
    """Something that is no tensor."""


@pytest.fixture
def source():
    torch.manual_seed(1)
    model = build_model("cifar_resnet8", 10)
    model(torch.randn(8, 3, 32, 32))  # running statistics that differ from a fresh model's
    return model


@pytest.fixture
def model():
    torch.manual_seed(2)
    return build_model("cifar_resnet8", 10)


def assert_same(model, source):
    torch.testing.assert_close(model.state_dict(), source.state_dict(), rtol=0, atol=0)


def under(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


LAYOUTS = {
    "plain": lambda state: state,
    # What the public repositories write: weights, epoch, optimizer, an accuracy as a numpy number.
    "mdistiller": lambda s: {"epoch": 240, "model": s, "optimizer": {"state": {}}, "best_acc": np.float32(72.34)},
    "crd": lambda state: {"epoch": 240, "model": state, "best_acc": torch.tensor(72.34), "n": np.int64(3)},
    "state_dict": lambda state: {"state_dict": state},
    "data parallel": lambda state: {"model": under("module.", state)},
    "wrapper": lambda state: {"state_dict": under("model.", state)},
    "both": lambda state: under("module.model.", state),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("modern", [True, False], ids=["zip", "legacy"])
def test_torch_files(layout, modern, model, source, tmp_path):
    path = tmp_path / "ckpt_epoch_240.pth"
    torch.save(LAYOUTS[layout](source.state_dict()), path, _use_new_zipfile_serialization=modern)
    load_weights(model, path)
    assert_same(model, source)


def test_numpy_numbers_under_their_old_module_path(model, source, tmp_path):
    """Files written with numpy 1 name `numpy.core`, which numpy 2 renamed."""
    path = tmp_path / "old.pth"
    torch.save({"model": source.state_dict(), "best": np.float64(1)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    load_weights(model, path)
    assert_same(model, source)


def test_safetensors_and_a_run_folder(model, source, tmp_path):
    save_file(source.state_dict(), tmp_path / "student.safetensors")
    load_weights(model, str(tmp_path / "student.safetensors"))
    assert_same(model, source)
    again = build_model("cifar_resnet8", 10)
    load_weights(again, tmp_path)
    assert_same(again, source)


def test_a_model_whose_own_names_carry_the_prefix(source, tmp_path):
    wrapped = torch.nn.Sequential()
    wrapped.add_module("model", source)
    save_file(wrapped.state_dict(), tmp_path / "w.safetensors")
    load_weights(wrapped, tmp_path / "w.safetensors")


def test_half_precision_weights_widen(model, source, tmp_path):
    save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()},
        tmp_path / "h.safetensors",
    )
    load_weights(model, tmp_path / "h.safetensors")
    assert model.fc.weight.dtype == torch.float32
    torch.testing.assert_close(model.fc.weight, source.fc.weight, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda weight: weight.to_sparse(), "sparse_coo"),
        (lambda weight: weight.to_sparse_csr(), "sparse_csr"),
        (lambda weight: weight.to("meta"), r"without values \(meta\)"),
        (lambda weight: weight.to(torch.complex64), "complex64"),
        (lambda weight: (weight * 127).to(torch.int8), "int8"),
        (lambda weight: weight > 0, "bool"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:Validating sparse")
def test_weights_of_another_kind_are_not_cast(change, kind, model, source, tmp_path):
    state = source.state_dict()
    state["fc.weight"] = change(state["fc.weight"])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=f"dense tensors, .*, got 1 of {len(state)} that are not: fc.weight is {kind}"):
        load_weights(model, tmp_path / "w.pth")
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_whole_state_dict_in_half_precision(model, source, tmp_path):
    """A counter of batches goes along, and is none the worse."""
    torch.save({name: value.half() for name, value in source.state_dict().items()}, tmp_path / "w.pth")
    load_weights(model, tmp_path / "w.pth")
    assert model.bn1.num_batches_tracked.item() == 1


def test_what_is_missing_unexpected_or_misshapen_is_listed_and_the_model_stays(model, source, tmp_path):
    state = source.state_dict()
    state["extra.weight"] = state.pop("layer1.0.bn1.weight")
    state["conv1.weight"] = torch.zeros(3, 3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="does not fit CifarResNet") as error:
        load_weights(model, tmp_path / "w.safetensors")
    assert "1 missing: layer1.0.bn1.weight;" in str(error.value)
    assert "1 unexpected: extra.weight;" in str(error.value)
    assert "1 of another shape: conv1.weight (3, 3) instead of (16, 3, 3, 3)." in str(error.value)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_long_lists_are_cut(model, tmp_path):
    save_file(build_model("cifar_resnet20", 10).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"72 unexpected: layer1\.1\.bn1\.bias, .*\.\.\. \(64 more\)"):
        load_weights(model, tmp_path / "w.safetensors")


def test_another_number_of_classes_is_named(tmp_path, source):
    torch.save({"model": source.state_dict()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"has 10 classes .*the model has 100: build it with `num_classes=10`"):
        load_weights(build_model("cifar_resnet8", 100), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("conv1.weight", (3, 3, 3, 3), 10),  # of 16 filters
        ("conv1.weight", (3, 3, 3, 3), 16),  # as many classes as filters
        ("layer1.0.bn1.weight", (3,), 10),
        ("layer3.0.bn2.num_batches_tracked", (1,), 10),
        ("fc.bias", (3,), 10),  # and its weight fits
    ],
)
def test_another_layer_of_another_shape_is_not_taken_for_the_classifier(name, shape, classes, tmp_path):
    model = build_model("cifar_resnet8", classes)
    torch.save({**model.state_dict(), name: torch.zeros(shape)}, tmp_path / "w.pth")
    for given in ({}, {"num_classes": classes}):
        with pytest.raises(ValueError, match=r"is it another network\?\)\. 1 of another shape: ") as caught:
            load_weights(model, tmp_path / "w.pth", **given)
        assert f": {name} {shape} instead of " in str(caught.value)


def test_the_last_layer_is_no_classifier_where_it_has_not_a_row_a_class(tmp_path):
    """Known only to who knows the number of classes: `build_model` says it."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 10), torch.nn.Linear(10, 7))
    save_file({**model.state_dict(), "1.weight": torch.zeros(3, 10), "1.bias": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="is it another network"):
        load_weights(model, tmp_path / "w.safetensors", num_classes=10)
    with pytest.raises(ValueError, match="has 3 classes"):
        load_weights(model, tmp_path / "w.safetensors", num_classes=7)


@pytest.mark.parametrize("modern", [True, False], ids=["zip", "legacy"])
def test_objects_beside_tensors_are_refused_with_the_way_out(modern, model, source, tmp_path):
    for data in ({"model": source.state_dict(), "baggage": Baggage()}, source):
        torch.save(data, tmp_path / "w.pth", _use_new_zipfile_serialization=modern)
        with pytest.raises(ValueError, match=r"could run code, so it is refused.*weights_only=False"):
            load_weights(model, tmp_path / "w.pth")


def test_a_malicious_file_runs_nothing(model, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"model": Evil()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="refused"):
        load_weights(model, tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


ITSELF = {}
ITSELF["model"] = ITSELF


@pytest.mark.parametrize(
    ("data", "held"),
    [
        ({"epoch": 3}, "the keys epoch"),
        ([1, 2], "got list"),
        ({}, "the keys none"),
        ({"model": {}}, "none"),
        (ITSELF, "the keys model"),
    ],
)
def test_files_without_a_state_dict(data, held, model, tmp_path):
    torch.save(data, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=f"must hold a state dict .*{held}"):
        load_weights(model, tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_damaged_files(name, damage, model, source, tmp_path):
    path = tmp_path / name
    (save_file if path.suffix == ".safetensors" else torch.save)(source.state_dict(), path)
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"hello", "cut": content[: len(content) // 2]}[damage])
    with pytest.raises(ValueError, match=r"(is damaged or no file of torch\.save|is not a readable safetensors file)"):
        load_weights(model, path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, r"begins with b'PK\x05\x06', which is neither a zip archive with something in it nor a pickle"),
        ({"hello.txt": "hello"}, "a zip archive without `data.pkl`; it holds hello.txt"),
        ({"archive/version": "3"}, "a zip archive without `data.pkl`; it holds archive/version"),
        (b"class,weight\nant\n", "begins with b'clas'"),  # to the unpickler: the global `lass,weight.ant`
        (b"\x89PNG\r\n", "begins with b'\\x89PNG'"),
    ],
    ids=["empty zip", "zip of a text", "zip without data", "csv", "png"],
)
def test_what_is_no_file_of_torch_is_not_called_objects(content, reason, model, tmp_path):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in content.items():
                archive.writestr(name, text)
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        load_weights(model, path)
    assert "is damaged or no file of torch.save (" in str(caught.value)
    assert "Python objects" not in str(caught.value)


def test_missing_files(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_weights(model, tmp_path / "nothing.pth")
    with pytest.raises(FileNotFoundError, match=r"holds no `student\.safetensors`"):
        load_weights(model, tmp_path)


def test_several_heads_have_the_classes_together(tmp_path):
    model = build_model("lraspp:test_efficientnet", 5, output="maps")
    state = build_model("lraspp:test_efficientnet", 7, output="maps").state_dict()
    save_file(state, tmp_path / "seven.safetensors")
    with pytest.raises(ClassCountError, match=r"has 7 classes \(`model\.classifier\.low_classifier\.weight`") as caught:
        load_weights(model, tmp_path / "seven.safetensors", num_classes=5)
    assert caught.value.classes == 7
    low = {name: value for name, value in state.items() if "low_classifier" in name}
    save_file({**model.state_dict(), **low}, tmp_path / "one.safetensors")  # one head of other classes: no network has that
    with pytest.raises(ValueError, match="does not fit TorchvisionSegmenter") as caught:
        load_weights(model, tmp_path / "one.safetensors", num_classes=5)
    assert not isinstance(caught.value, ClassCountError)


def test_an_auxiliary_head_is_given_up_only_where_the_file_fits_otherwise(tmp_path):
    model = build_model("deeplabv3:test_efficientnet", 5, output="maps")
    plain = {name: value for name, value in model.state_dict().items() if "aux_classifier" not in name}
    whole = model.state_dict()
    save_file(under("module.", {k.removeprefix("model."): v + 1 for k, v in plain.items()}), tmp_path / "plain.safetensors")
    torch.save({**plain, "more": torch.zeros(1)}, tmp_path / "more.pth")
    torch.save({k: v for k, v in whole.items() if not k.endswith("aux_classifier.4.bias")}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match="1 unexpected: more"):
        load_weights(model, tmp_path / "more.pth")
    with pytest.raises(ValueError, match=r"1 missing: model\.aux_classifier\.4\.bias"):
        load_weights(model, tmp_path / "part.pth")
    assert model.state_dict().keys() == whole.keys()
    load_weights(model, tmp_path / "plain.safetensors")
    assert model.state_dict().keys() == plain.keys()
