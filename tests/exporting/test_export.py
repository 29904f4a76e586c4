import json
import re
import resource
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_model_data_config

import logitkd
from image_files import pixels, png
from logitkd import ModelConfig, TrainConfig, evaluate, train
from logitkd.cli import main
from logitkd.data import DataConfig, load_images, make_loader
from logitkd.exporting import export as exporting
from logitkd.exporting.export import export
from logitkd.exporting.formats import FORMATS
from logitkd.exporting.parity import ParityError
from logitkd.models import build_model

FILES = {"README.md", "config.json", "model.onnx", "model.pt2", "model.safetensors"}
DIGITS = DataConfig(crop_padding=1, flip=False)


@pytest.fixture(scope="module")
def finished(teacher_folder, tmp_path_factory):
    """A student with a teacher, and its export in every format."""
    folder = tmp_path_factory.mktemp("runs") / "kd"
    teacher = ModelConfig("cifar_resnet8", str(teacher_folder))
    options = {"warmup_epochs": 0}
    run = TrainConfig(
        ModelConfig("cifar_resnet14"), teacher, data=DIGITS, epochs=2, output=str(folder), quiet=True, method_options=options
    )
    train(run)
    export(folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run that a test may spoil."""
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    return tmp_path / "run"


def change(run, **keys):
    """Set dotted keys (``__`` for the dot) of config.yaml; None removes one."""
    record = yaml.safe_load((run / "config.yaml").read_text())
    for key, value in keys.items():
        *sections, last = key.split("__")
        block = record
        for section in sections:
            block = block[section]
        block.pop(last) if value is None else block.update({last: value})
    (run / "config.yaml").write_text(yaml.safe_dump(record))


class Exported(torch.nn.Module):
    """A file as a module that can be evaluated; an exported program itself refuses ``eval()``."""

    def __init__(self, form, path):
        super().__init__()
        self.run = [FORMATS[form].read(path, None)]

    def forward(self, images):
        return self.run[0](images)


@pytest.mark.parametrize("load", ["timm", "onnx", "torch_export"])
def test_every_file_has_the_students_accuracy(finished, load):
    """On the whole evaluation split, in batches of 100 and one of 256."""
    folder = finished / "export"
    assert {path.name for path in folder.iterdir()} == FILES
    if load == "timm":
        model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    else:
        model = Exported(load, folder / FORMATS[load].file)
    top1 = json.loads((finished / "result.json").read_text())["top1"]
    for batch_size in (100, 256):
        assert evaluate(model, DIGITS, batch_size=batch_size, latency=False)["top1"] == pytest.approx(top1)


def test_timm_knows_input_and_classes(finished):
    model = timm.create_model(f"local-dir:{finished / 'export'}", pretrained=True)
    config = resolve_model_data_config(model)
    wrote = yaml.safe_load((finished / "config.yaml").read_text())["data"]
    assert config["input_size"] == [3, 8, 8]
    assert config["mean"] == wrote["mean"]
    assert config["std"] == wrote["std"]
    assert config["crop_pct"] == 1
    assert model.num_classes == 10
    assert model.pretrained_cfg["label_names"] == list("0123456789")


def test_nothing_of_teacher_or_machine_is_inside(finished, teacher_folder):
    folder = finished / "export"
    assert load_file(folder / "model.safetensors").keys() == build_model("cifar_resnet14", 10).state_dict().keys()
    places = (finished.parent, teacher_folder.parent, Path(logitkd.__file__).parent, Path(torch.__file__).parent)
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not [place for place in places if str(place).encode() in content], path
    assert json.loads((folder / "config.json").read_text())["logitkd"]["teachers"][0]["name"] == "cifar_resnet8"


def test_onnx_takes_any_number_of_images(finished):
    import onnx

    graph = onnx.load(finished / "export" / "model.onnx").graph
    (images,), (logits,) = graph.input, graph.output
    assert [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim] == ["batch", 3, 8, 8]
    assert [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim] == ["batch", 10]


def card_blocks(folder):
    text = (folder / "README.md").read_text()
    return [block.replace("THIS_FOLDER", str(folder)) for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


def test_the_cards_code_loads_a_students_own_network(tiny, tmp_path):
    """The blocks as a reader would paste them."""
    result = train(tiny(epochs=1))
    export(result.folder, tmp_path / "out")
    images = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    found = []
    for block in card_blocks(tmp_path / "out"):
        names = {"images": images}
        exec(block, names)
        with torch.no_grad():
            found.append(names["logits"] if "logits" in names else names["model"](torch.from_numpy(images)).numpy())
    assert len(found) == 3
    assert all(logits.shape == (5, 10) for logits in found)
    assert all(np.allclose(logits, found[0], atol=1e-5) for logits in found)


def test_the_cards_code_loads_a_timm_network(finished):
    names = {}
    exec(card_blocks(finished / "export")[0], names)
    assert type(names["model"]).__name__ == "CifarResNet"
    assert len(card_blocks(finished / "export")[0].splitlines()) <= 5


def test_a_network_of_timm_needs_timm_alone(tmp_path):
    data = DataConfig(train_per_class=2, crop_padding=0, flip=False)
    run = tmp_path / "run"
    result = train(TrainConfig(ModelConfig("resnet10t"), method="ce", data=data, epochs=1, output=str(run), quiet=True))
    export(run, formats=["safetensors"])
    (block,) = card_blocks(run / "export")
    assert "logitkd" not in block
    again = timm.create_model(f"local-dir:{run / 'export'}", pretrained=True)
    assert evaluate(again, data, latency=False)["loss"] == pytest.approx(result.metrics["loss"])
    assert "| teacher | none |" in (run / "export" / "README.md").read_text()


@pytest.mark.parametrize("kind", ["torchvision", "transformers", "local-dir"])
def test_a_network_from_elsewhere_is_loaded_as_its_card_says(finished, tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if kind == "torchvision":
        name = "torchvision:squeezenet1_1"
    elif kind == "transformers":
        from transformers import ResNetConfig, ResNetForImageClassification

        sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
        ResNetForImageClassification(ResNetConfig(**sizes, num_labels=10)).save_pretrained(tmp_path / "tiny")
        name = "transformers:./tiny"
    else:
        name = f"local-dir:{finished / 'export'}"  # an export is a place to go on from
    for row in range(4):
        path = tmp_path / "photos" / ("test" if row < 2 else "train") / "ab"[row % 2] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels(row, 32, 32)))
    data = DataConfig(str(tmp_path / "photos"), crop_padding=0, flip=False)
    run = tmp_path / "run"
    train(TrainConfig(ModelConfig(name), method="ce", data=data, epochs=1, batch_size=2, output=str(run), quiet=True))
    export(run, formats=["safetensors", "torch_export"])
    text = (run / "export" / "README.md").read_text()
    assert str(tmp_path) not in text.replace(f'"{tmp_path}', "")
    names, others = {}, {}
    first, second = card_blocks(run / "export")
    assert ("import logitkd.models" in first) == (kind == "local-dir")  # that one is a CIFAR network
    exec(first, names)
    exec(second, others)
    images = torch.randn(3, 3, 32, 32)
    found, wanted = names["model"](images), others["model"](images)
    assert torch.allclose(getattr(found, "logits", found), wanted, atol=1e-5)


def test_timm_sees_an_image_of_any_size_as_the_run_did(tmp_path):
    for row in range(12):
        path = tmp_path / "photos" / ("test" if row < 4 else "train") / "ab"[row % 2] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels(row, 20 + row, 31)))
    data = DataConfig(str(tmp_path / "photos"), image_size=14, interpolation="bicubic", workers=0)
    run = tmp_path / "run"
    train(TrainConfig(ModelConfig("cifar_resnet8"), method="ce", data=data, epochs=1, output=str(run), quiet=True))
    result = export(run, formats=["safetensors"])
    assert result.checked_on == "the first 4 evaluation images of the run (`test`)"
    text = (run / "export" / "README.md").read_text()
    assert "RGB images of 14 x 14 pixels (height x width), the centre of an image resized (bicubic) to 16 pixels on its" in text
    assert "| data | photos, split `train`: 8 images |" in text

    transform = create_transform(**resolve_model_data_config(timm.create_model(f"local-dir:{run / 'export'}")))
    loader = make_loader(load_images(data), data, train=False, batch_size=4, device="cpu")
    (ours,) = loader.epoch(1)
    folders = sorted((tmp_path / "photos" / "test").rglob("*.png"))
    theirs = torch.stack([transform(Image.open(path).convert("RGB")) for path in folders])
    assert torch.allclose(ours.inputs, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("student", "formats", "error", "message"),
    [
        ("AlwaysDrops", "safetensors", ParityError, r"model\.safetensors must give .* does not agree with itself either"),
        ("AlwaysDrops", "onnx", ParityError, r"model\.onnx must give the student's logits within .* got a difference of"),
        ("TracedOtherwise", "onnx", ParityError, r"model\.onnx must give .* computes something else when it is traced"),
        ("TracedOtherwise", "torch_export", ParityError, r"model\.pt2 must give .* Nothing was exported"),
        ("Branches", "torch_export", ValueError, "cannot be exported as `torch_export` for batches of any size.*--format safe"),
    ],
)
def test_a_student_that_cannot_be_exported_leaves_nothing(tiny, tmp_path, student, formats, error, message):
    result = train(tiny(student=ModelConfig(f"tiny_net:{student}"), epochs=1))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=re.compile(message, re.DOTALL)):
        export(result.folder, formats=[formats])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failed_export_leaves_the_earlier_one_and_exits_with_1(run, capsys):
    assert main(["export", str(run), "--format", "safetensors"]) == 0
    before = (run / "export" / "model.safetensors").read_bytes()
    state = load_file(run / "student.safetensors")
    save_file({k: v * float("nan") if k == "fc.weight" else v for k, v in state.items()}, run / "student.safetensors")
    result = json.loads((run / "result.json").read_text())
    del result["student_sha256"]  # else the file is refused before it is read
    (run / "result.json").write_text(json.dumps(result))
    assert main(["export", str(run), "--format", "safetensors"]) == 1
    assert "the student's logits must be finite" in capsys.readouterr().err
    assert (run / "export" / "model.safetensors").read_bytes() == before


def test_an_earlier_export_is_replaced_whole(run):
    export(run, formats=["safetensors", "torch_export"])
    export(run, formats=["safetensors"])
    assert {path.name for path in (run / "export").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert not [path.name for path in run.iterdir() if path.name.startswith(".export")]


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_said_and_the_earlier_export_stays(run, form, capsys):
    export(run, formats=["safetensors"])
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, limits[1]))
    try:
        assert main(["export", str(run), "--format", form]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = f"{run / 'export' / FORMATS[form].file} could not be written (File too large). Free some space"
    assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_link_stays_and_the_folder_it_leads_to_is_replaced(run, tmp_path):
    real, link = tmp_path / "real" / "out", tmp_path / "link"
    real.mkdir(parents=True)
    link.symlink_to("real/out")
    for formats in (["safetensors", "torch_export"], ["safetensors"]):
        assert export(run, link, formats=formats).folder == link
        assert link.is_symlink()
        assert not real.is_symlink()
        assert {path.name for path in real.iterdir()} == {"README.md", "config.json", *(FORMATS[f].file for f in formats)}
    assert [path.name for path in real.parent.iterdir()] == ["out"]
    (run / "export").symlink_to("gone")
    with pytest.raises(NotADirectoryError, match="export is a link to gone, which is not there"):
        export(run, formats=["safetensors"])
    assert (run / "export").is_symlink()


def test_a_name_as_long_as_names_may_be(run, tmp_path):
    export(run, tmp_path / ("a" * 255), formats=["safetensors"])
    with pytest.raises(ValueError, match="`output` must have at most 255 bytes between two slashes, got 256"):
        export(run, tmp_path / ("a" * 256), formats=["safetensors"])
    with pytest.raises(ValueError, match="`run folder` must have at most 255 bytes between two slashes, got 300"):
        export("a" * 300, formats=["safetensors"])


def test_an_earlier_export_comes_back_when_the_rename_fails(run, monkeypatch):
    export(run, formats=["safetensors"])
    renames = []
    real = exporting.os.replace

    def replace(before, after):
        renames.append(after)
        if len(renames) == 2:
            raise OSError(28, "No space left on device")
        real(before, after)

    monkeypatch.setattr(exporting.os, "replace", replace)
    with pytest.raises(OSError, match="No space"):
        export(run, formats=["safetensors"])
    assert (run / "export" / "model.safetensors").exists()


def test_a_folder_of_something_else_is_left_alone(run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    export(run, other, formats=["safetensors"])  # empty: nobody's
    (other / "notes.txt").touch()
    with pytest.raises(FileExistsError, match=r"other holds notes\.txt, which no export wrote\. Give another path"):
        export(run, other, formats=["safetensors"])
    (other / "notes.txt").unlink()
    (other / "config.json").write_text('{"architecture": "resnet18"}')  # of another program, which uses our names
    with pytest.raises(FileExistsError, match=r"other holds README\.md"):
        export(run, other, formats=["safetensors"])
    (other / "config.json").write_text("[" * 99_999 + "]" * 99_999)
    with pytest.raises(FileExistsError, match=r"other holds README\.md"):
        export(run, other, formats=["safetensors"])
    with pytest.raises(FileExistsError):
        export(run, run, formats=["safetensors"])
    with pytest.raises(NotADirectoryError, match=r"`output` must be a folder, but .*config\.json is a file"):
        export(run, other / "config.json")


def test_an_unfinished_run_says_how_to_finish(run, capsys):
    (run / "result.json").unlink()
    assert main(["export", str(run)]) == 1
    assert "has no result.json yet. Give the `logitkd train` command that began it again" in capsys.readouterr().err
    assert not (run / "export").exists()


def test_without_the_data_random_images_serve(run):
    wrote = yaml.safe_load((run / "config.yaml").read_text())["data"]
    change(run, run__data__source="gone/photos/here")
    result = export(run, formats=["safetensors", "torch_export"])
    assert result.checked_on == "8 random images (seed 0), as the run's data could not be read here"
    assert result.checked_on in (run / "export" / "README.md").read_text()
    config = json.loads((run / "export" / "config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == wrote["mean"]
    change(run, data__std=None)
    with pytest.raises(ValueError, match=r"the run's data must be there, .* but: .*gone/photos/here"):
        export(run, formats=["safetensors"])


def test_other_data_in_the_same_place_are_not_the_runs(run):
    change(run, data__fingerprint="0" * 32)
    assert "random images" in export(run, formats=["safetensors"]).checked_on


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_names_the_extra(run, package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", str(run)]) == 2
    said = capsys.readouterr().err
    assert f"the format `onnx` needs {package}, not installed here. Install with `pip install 'logitkd[export]'`" in said
    assert "`--format safetensors,torch_export`" in said
    assert not (run / "export").exists()
    assert export(run, formats=["safetensors"]).parity[0].gap == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export"], "one run folder must be given: `logitkd export RUN`, got none."),
        (["export", "a", "b"], "got a b."),
        (["export", "a", "--format", "onx"], "unknown format `onx`. Did you mean `onnx`?"),
        (["export", "a", "--out", "x"], "unknown option `--out`. Did you mean `--output`?"),
    ],
)
def test_usage_errors(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_no_run_folder(tmp_path, capsys):
    assert main(["export", str(tmp_path)]) == 1
    assert "a run folder holds a config.yaml" in capsys.readouterr().err
    with pytest.raises(ValueError, match="`format` must name at least one of safetensors, onnx, torch_export, got none"):
        export(tmp_path, formats=[])


def test_the_command_prints_a_line_a_file(run, tmp_path, capsys):
    assert main(["export", str(run), "--output", str(tmp_path / "a" / "b"), "--format", "torch_export,safetensors"]) == 0
    first, header, *lines = capsys.readouterr().out.splitlines()
    assert first.endswith("compared on the first 8 evaluation images of the run (`test`):")
    assert "largest difference" in header
    assert [line.split()[0] for line in lines] == ["model.pt2", "model.safetensors"]
