"""Exports of runs of segmentation: what torchvision and transformers load, and programs for images of any size."""

from __future__ import annotations

import json
import re
import shutil
import socket

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from dense_networks import TinySegmenter, save_segformer, tiny_map_network
from logitkd import build_model, export, predict
from logitkd.data.mask_config import MaskConfig
from logitkd.data.mask_loader import mask_loader
from logitkd.data.masks import load_masks
from logitkd.exporting.kind import Input, Trace
from logitkd.exporting.masks import FullSize, Masks
from logitkd.exporting.parity import ParityError
from logitkd.models.segmenters import TorchvisionSegmenter, TransformersSegmenter
from logitkd.runs.plan import plan
from logitkd.training.checkpoint import student_bytes
from logitkd.training.train import train
from scenes import COLORS, NAMES

FILES = {"README.md", "config.json", "model.onnx", "model.pt2", "model.safetensors"}
KIND = Masks()


def images(count, height, width, seed=0):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def given(*sizes):
    batches = {str(size): images(*size) for size in sizes or [(1, 65, 70)]}
    return Input(Trace(images(2, 130, 195), ("images",), {0: "batch", 2: "height", 3: "width"}), batches, "noise")


@pytest.fixture(scope="module")
def exported(mask_run, tmp_path_factory):
    """The export of a run in every format, made without a network connection."""
    folder = tmp_path_factory.mktemp("exports") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))
        result = export(mask_run, folder)
    assert result.checked_on == "the first 3 evaluation images of the run (`val`), at several sizes"
    return folder


def evaluation_images(run):
    """The evaluation images as the network gets them."""
    config = MaskConfig(str(run.parent / "scenes"), classes=NAMES, workers=0)
    batch = next(iter(mask_loader(load_masks(config), config, train=False, batch_size=8, device="cpu").epoch(1)))
    return batch.inputs


def test_programs_give_the_masks_that_predict_writes(exported, mask_run, tmp_path):
    assert {path.name for path in exported.iterdir()} == FILES
    masks = [
        np.asarray(Image.open(one.mask)) for one in predict(mask_run, mask_run.parent / "scenes/images/val", output=tmp_path)
    ]
    assert len({number for mask in masks for number in np.unique(mask)}) > 1
    # Evaluation images are smaller than the smallest that the card promises; the runtime of ONNX takes them all the same.
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    (logits,) = session.run(["logits"], {"images": evaluation_images(mask_run).numpy()})
    assert np.array_equal(logits.argmax(1), np.stack(masks))


@pytest.mark.parametrize("size", [(1, 65, 65), (4, 66, 131), (2, 203, 70)])
def test_programs_take_images_of_any_number_and_size(exported, mask_run, size):
    inputs = images(*size, seed=1)
    network = build_model("dense_networks:build", 3, checkpoint=mask_run, output="maps").eval()
    with torch.no_grad():
        wanted = F.interpolate(network(inputs), size[1:], mode="bilinear", align_corners=False)
        program = torch.export.load(exported / "model.pt2").module()(inputs)
    (found,) = onnxruntime.InferenceSession(exported / "model.onnx").run(["logits"], {"images": inputs.numpy()})
    assert wanted.shape == (size[0], 3, *size[1:])
    torch.testing.assert_close(program, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-4, rtol=1e-4)


def test_axes_have_names(exported):
    (entry,) = onnx.load(exported / "model.onnx").graph.input
    assert [axis.dim_param or axis.dim_value for axis in entry.type.tensor_type.shape.dim] == ["batch", 3, "height", "width"]


def test_the_record_and_the_card_say_what_a_user_needs(exported, mask_run):
    record = json.loads((exported / "config.json").read_text())
    ours = record["logitkd"]
    assert (record["architecture"], record["label_names"], record["num_classes"]) == ("dense_networks:build", list(NAMES), 3)
    assert ours["classes"] == list(NAMES)
    assert ours["palette"] == [list(color) for color in COLORS]
    assert (ours["ignore_index"], ours["image_size"], ours["evaluated_at"]) == (255, None, [48, 64])
    assert ours["mean"] == pytest.approx([0.485, 0.456, 0.406])
    result = json.loads((mask_run / "result.json").read_text())
    assert ours["accuracy"]["miou"] == result["miou"]
    card = (exported / "README.md").read_text()
    for fact in (
        "pipeline_tag: image-segmentation",
        "A segmentation network of 3 classes",
        f"| mIoU | {result['miou']:.2f} % on `val` (5 images), after the last epoch;",
        f"| IoU of each class | ground {result['metrics']['iou/ground']:.2f} %, disc ",
        f"pixel accuracy {result['metrics']['pixel_accuracy']:.2f} %, agreement with the teacher ",
        "RGB images of any height and width from 65 pixels on, as float32",
        "In masks 255 marks pixels without a class.",
        "in batches of 1 (65 x 65 pixels), 2 (65 x 65 pixels), 3 (65 x 65 pixels)",
    ):
        assert fact in card, fact
    assert str(mask_run.parent) not in card + json.dumps(record)


def test_every_block_of_the_card_runs(exported):
    blocks = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    network = build_model("dense_networks:build", 3, checkpoint=exported / "model.safetensors", output="maps").eval()
    inputs = images(2, 70, 80)
    with torch.no_grad():
        for block in blocks:
            scope = {"images": inputs.numpy() if "onnx" in block else inputs}
            exec(block.replace("THIS_FOLDER", str(exported)), scope)
            logits = torch.as_tensor(scope["logits"]) if "logits" in scope else scope["model"](inputs)
            wanted = network(inputs)
            if logits.shape != wanted.shape:
                wanted = F.interpolate(wanted, (70, 80), mode="bilinear")
            torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=1e-4)


def test_where_the_data_are_gone_random_images_serve(mask_run, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(mask_run, home / "run")
    config = (home / "run/config.yaml").read_text()
    (home / "run/config.yaml").write_text(config.replace(str(mask_run.parent / "scenes"), str(tmp_path / "gone")))
    result = export(home / "run", formats=["safetensors"])
    assert result.checked_on == "3 random images (seed 0) at several sizes, as the run's data could not be read here"
    assert {path.name for path in (home / "run/export").iterdir()} == {"README.md", "config.json", "model.safetensors"}


@pytest.mark.parametrize("name", ["torchvision:deeplabv3_mobilenet_v3_large", "deeplabv3:test_resnet"])
def test_weights_are_the_plain_networks_without_the_auxiliary_head(name, tmp_path):
    student = build_model(name, 3, output="maps", aux=True).eval()
    assert any(key.startswith("model.aux_classifier.") for key in student.state_dict())
    inputs = images(1, 65, 70)
    with torch.no_grad():
        wanted = student(inputs)["out"]
        student = KIND.trained(student, name)
        assert torch.equal(KIND.whole(student).network(inputs)["out"], wanted)
    plain = KIND.plain(student)
    assert not isinstance(plain, TorchvisionSegmenter)
    file = tmp_path / "model.safetensors"
    file.write_bytes(student_bytes(plain))
    weights = load_file(file)
    assert weights.keys() == {key.removeprefix("model.") for key in student.state_dict()}
    assert not any("aux" in key for key in weights)
    KIND.check(tmp_path, student, name, given(), ["safetensors"])
    weights["classifier.4.bias"] += 1
    save_file(weights, file)
    with pytest.raises(ParityError, match=r"config\.json must give the student's logits"):
        KIND.check(tmp_path, student, name, given(), ["safetensors"])
    del weights["classifier.4.bias"]
    save_file(weights, file)
    with pytest.raises(ParityError, match="what is exported must load as its card says"):
        KIND.check(tmp_path, student, name, given(), ["safetensors"])


def test_ones_own_network_keeps_its_names_and_answers_with_its_main_head():
    network = tiny_map_network(3, stride=4, aux=True).eval()
    assert KIND.trained(network, "dense_networks:build_aux") is network
    assert KIND.plain(network) is network
    inputs = images(2, 30, 41)
    with torch.no_grad():
        wanted = F.interpolate(network(inputs)["out"], (30, 41), mode="bilinear")
        assert torch.equal(KIND.whole(network)(inputs), wanted)


def test_transformers_loads_network_and_processor(mask_run, tmp_path):
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

    save_segformer(tmp_path / "net", 3)
    settings = {
        "task": "segmentation",
        "student.name": f"transformers:{tmp_path / 'net'}",
        "data.source": str(mask_run.parent / "scenes"),
        "data.classes": list(NAMES),
        "data.image_size": [64, 96],
        "data.mean": [0.1, 0.2, 0.3],
        "data.std": [0.3, 0.2, 0.1],
        "data.workers": 0,
        "epochs": 1,
        "batch_size": 6,
        "device": "cpu",
        "quiet": True,
        "output": str(tmp_path / "run"),
    }
    train(plan(None, "ce", overrides=settings))
    folder = export(tmp_path / "run", tmp_path / "export", formats=["safetensors"]).folder
    model = AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
    assert model.config.id2label == dict(enumerate(NAMES))
    assert json.loads((folder / "config.json").read_text())["logitkd"]["image_size"] == [64, 96]
    card = (folder / "README.md").read_text()
    assert "resized (bilinear) to 64 x 96 pixels as in the evaluation" in card
    assert "library_name: transformers" in card
    assert str(tmp_path) not in card + (folder / "config.json").read_text()
    files = sorted((mask_run.parent / "scenes/images/val").iterdir())
    found = predict(tmp_path / "run", files, output=tmp_path / "masks")
    shown = AutoImageProcessor.from_pretrained(folder)([Image.open(file) for file in files], return_tensors="pt")
    assert shown["pixel_values"].shape == (5, 3, 64, 96)
    with torch.no_grad():
        logits = F.interpolate(model(**shown).logits, (48, 64), mode="bilinear")
    masks = np.stack([np.asarray(Image.open(one.mask)) for one in found])
    assert (logits.argmax(1).numpy() == masks).mean() > 0.99  # resized by another library


def test_the_auxiliary_head_of_a_network_of_transformers_is_left_out(tmp_path):
    from transformers import ResNetConfig, UperNetConfig, UperNetForSemanticSegmentation

    backbone = ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 4, 4, 4], depths=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=4, auxiliary_in_channels=4, auxiliary_channels=4, pool_scales=[1, 2], num_labels=3
    )
    student = TransformersSegmenter(UperNetForSemanticSegmentation(config)).eval()
    assert any("auxiliary" in key for key in student.state_dict())
    student = KIND.trained(student, "transformers:x")
    assert not any("auxiliary" in key for key in student.state_dict())
    run = {"run": {"student": {"name": "transformers:x"}}, "data": {"classes": list(NAMES)}}
    facts = KIND.facts(student, run, given())
    assert facts["use_auxiliary_head"] is False
    (tmp_path / "config.json").write_text(json.dumps(facts))
    (tmp_path / "model.safetensors").write_bytes(student_bytes(KIND.plain(student)))
    KIND.check(tmp_path, student, "transformers:x", given(), ["safetensors"])


class OneSize(TinySegmenter):
    """A network with a position for each cell of its map."""

    def __init__(self, num_classes=3):
        super().__init__(num_classes, stride=8)
        self.positions = nn.Parameter(torch.zeros(1, num_classes, 9, 9))

    def forward(self, images):
        return super().forward(images) + self.positions


def test_a_network_of_one_size_is_compared_on_that_alone():
    whole = KIND.whole(OneSize().eval())
    several = given((1, 65, 65), (2, 65, 80), (3, 131, 65))
    assert list(KIND.fitting(whole, several).batches) == ["(1, 65, 65)"]
    free = KIND.whole(tiny_map_network(3).eval())
    assert KIND.fitting(free, several).batches.keys() == several.batches.keys()


def test_a_network_of_one_size_is_no_program_for_all(mask_run, tmp_path, monkeypatch):
    import logitkd.exporting.export as exporting

    monkeypatch.setattr(exporting, "load_network", lambda *_, **__: OneSize())
    message = "`dense_networks:build` cannot be exported as `torch_export` for images of any size: .*\n.*`--format safetensors`"
    with pytest.raises(ValueError, match=message):
        export(mask_run, tmp_path / "out", formats=["torch_export"])
    assert not (tmp_path / "out").exists()


def test_a_network_that_answers_at_the_images_size_is_left_as_it_is():
    network = tiny_map_network(3, stride=1).eval()
    inputs = images(1, 20, 30)
    with torch.no_grad():
        assert torch.equal(FullSize(network)(inputs), network(inputs))
