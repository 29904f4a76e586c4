"""What the card of a segmentation network says of its inputs, and how its files are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from logitkd.models import read_name

__all__ = ["input_section", "loading"]

RESIZE = 'torch.nn.functional.interpolate(logits, images.shape[-2:], mode="bilinear")  # the images\' size'


def input_section(record: dict[str, Any]) -> str:
    """Return what goes in and what comes out.

    Args:
        record: what ``config.json`` says.
    """
    ours = record["logitkd"]
    size, least = ours["image_size"], ours["smallest_side"]
    resized = "" if size is None else f", resized (bilinear) to {size[0]} x {size[1]} pixels as in the evaluation"
    void = "" if ours["ignore_index"] is None else f" In masks {ours['ignore_index']} marks pixels without a class."
    return f"""\
RGB images of any height and width from {least} pixels on{resized}, as float32 `(N, 3, H, W)`: divided by 255, then minus the
mean and divided by the standard deviation of the channel. `model.onnx` and `model.pt2` give logits
`(N, {len(ours["classes"])}, H, W)`, at the images' size; the largest of a pixel is its class.{void} `config.json` has the
numbers, the class names in order and their colors (`palette`).

- mean {_numbers(ours["mean"])}
- std {_numbers(ours["std"])}"""


def loading(record: dict[str, Any]) -> list[str]:
    """Return blocks of Python, one for each file."""
    ours = record["logitkd"]
    files, name = ours["files"], ours["student"]["name"]
    blocks = []
    if "model.safetensors" in files:
        blocks.append(_weights(name, len(ours["classes"])))
    if "model.pt2" in files:
        blocks.append(
            'import torch\n\nmodel = torch.export.load("THIS_FOLDER/model.pt2").module()  # needs torch alone\n'
            "logits = model(images)"
        )
    if "model.onnx" in files:
        blocks.append(
            'import onnxruntime\n\nsession = onnxruntime.InferenceSession("THIS_FOLDER/model.onnx")\n'
            '(logits,) = session.run(["logits"], {"images": images})  # a float32 numpy array, images of any number and size'
        )
    return blocks


def _weights(name: str, num_classes: int) -> str:
    """Return how the network is built and filled by whoever has its code."""
    source = read_name(name)
    weights = 'load_file("THIS_FOLDER/model.safetensors")'
    match source.kind:
        case "transformers":
            return (
                "import torch\nfrom transformers import AutoModelForSemanticSegmentation\n\n"
                'model = AutoModelForSemanticSegmentation.from_pretrained("THIS_FOLDER").eval()\n'
                f"logits = model(pixel_values=images).logits\nlogits = {RESIZE}"
            )
        case "torchvision":
            given = f'"{source.inner}", weights=None, weights_backbone=None, num_classes={num_classes}'
            return (
                "import torchvision\nfrom safetensors.torch import load_file\n\n"
                f"model = torchvision.models.get_model({given}).eval()\nmodel.load_state_dict({weights})\n"
                'logits = model(images)["out"]'
            )
        case "own":
            module, _, attribute = name.partition(":")
            return (
                f"from {module} import {attribute.partition('.')[0]}\nfrom safetensors.torch import load_file\n\n"
                f"model = {attribute}(num_classes={num_classes}).eval()\nmodel.load_state_dict({weights})"
            )
    checkpoint = 'checkpoint="THIS_FOLDER/model.safetensors", output="maps"'
    return (
        f'import torch\nfrom logitkd import build_model\n\nmodel = build_model("{name}", {num_classes}, {checkpoint}).eval()\n'
        f'logits = model(images)["out"]\nlogits = {RESIZE}'
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
