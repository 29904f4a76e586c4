"""An export of a run on images: for timm where it knows the network, else weights for whoever builds it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from logitkd.data import DataConfig, load_images, make_loader
from logitkd.exporting.kind import CONFIG, Input, Kind, Trace, data_seed
from logitkd.exporting.parity import BATCHES, ParityError, compare
from logitkd.exporting.public import public_name
from logitkd.models import read_name
from logitkd.runs.networks import ModelConfig
from logitkd.runs.values import validate
from logitkd.training.networks import load_network

__all__ = ["Images", "is_timm"]


class Images(Kind):
    """See :class:`~logitkd.exporting.kind.Kind`; ``Input.facts`` holds ``mean`` and ``std``."""

    units, classifier, pipeline = "images", "An image classifier", "image-classification"

    def read_input(self, record: dict[str, Any], folder: Path) -> Input:
        """Return the first evaluation images, or random ones."""
        config, wrote = validate(DataConfig, record["run"]["data"], "data."), record["data"]
        largest = max(BATCHES)
        try:
            data = load_images(config, seed=data_seed(record["run"]), labels=record["run"].get("labels", "given"))
            gone = "" if data.fingerprint == wrote.get("fingerprint") else "the data there are not those of the run"
        except (OSError, ValueError) as error:
            data, gone = None, str(error)
        if data is not None and not gone:
            loader = make_loader(data, replace(config, workers=0), train=False, batch_size=largest, device="cpu")
            images = next(iter(loader.epoch(1))).inputs
            words = f"the first {len(images)} evaluation images of the run (`{config.eval_name}`)"
            return _input(images[torch.arange(largest) % len(images)], data.mean, data.std, words)
        if not {"input_size", "mean", "std"} <= wrote.keys():
            raise ValueError(
                f"the run's data must be there, as its config.yaml does not say what the student takes, but: {gone}"
            )
        mean, std = (torch.tensor(wrote[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        pixels = torch.rand(largest, *wrote["input_size"], generator=torch.Generator().manual_seed(0))
        words = f"{largest} random images (seed 0), as the run's data could not be read here"
        return _input((pixels - mean) / std, tuple(wrote["mean"]), tuple(wrote["std"]), words)

    def rebuild(self, student: nn.Module, name: str, weights: Path, classes: Sequence[str]) -> nn.Module:
        """Return the network built by its name."""
        return load_network(ModelConfig(name, str(weights)), classes)

    def check(self, folder: Path, student: nn.Module, name: str, given: Input, formats: Sequence[str]) -> None:
        """Load by timm what timm knows."""
        if "safetensors" not in formats or not is_timm(name):
            return
        try:
            loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        except Exception as error:
            raise ParityError(f"timm must load what is exported, got {type(error).__name__}: {error}") from error
        compare(student, loaded, given.batches, CONFIG)

    def facts(self, student: nn.Module, run: dict[str, Any], given: Input) -> dict[str, Any]:
        """Return timm's keys."""
        record = _architecture(student, run["run"]["student"]["name"])
        record["num_classes"] = len(run["data"]["classes"])
        record["label_names"] = [str(label) for label in run["data"]["classes"]]
        data, resize = _data(run), self.ours(run)["resize"]
        record["pretrained_cfg"] = {
            **record.get("pretrained_cfg", {}),
            "num_classes": record["num_classes"],
            "input_size": list(next(iter(given.batches.values())).shape[1:]),  # type: ignore[union-attr]
            "mean": list(given.facts["mean"]),
            "std": list(given.facts["std"]),
            "interpolation": data.interpolation if resize else "bicubic",
            "crop_pct": data.crop_ratio if resize else 1.0,
        }
        return record

    def ours(self, run: dict[str, Any]) -> dict[str, Any]:
        """Return how images are resized."""
        data = _data(run)
        if data.image_size is None:
            return {"resize": None}
        return {
            "resize": {"shorter_side": round(data.image_size / data.crop_ratio), "interpolation": data.interpolation},
        }

    def library(self, record: dict[str, Any]) -> str:
        """Return timm, or pytorch for networks that it does not know."""
        return "timm" if is_timm(record["logitkd"]["student"]["name"]) else "pytorch"

    def labels(self, record: dict[str, Any]) -> list[str]:
        """Return the names of the classes."""
        labels: list[str] = record["label_names"]
        return labels

    def input_section(self, record: dict[str, Any]) -> str:
        """Return size, resizing and normalisation."""
        _, height, width = record["pretrained_cfg"]["input_size"]
        view = _view(record["logitkd"]["resize"])
        return f"""\
RGB images of {height} x {width} pixels (height x width){view}, as float32 `(N, 3, {height}, {width})`:
divided by 255, then minus the mean and divided by the standard deviation of the channel. `config.json` has the numbers and
the class names in order.

- mean {_numbers(record["pretrained_cfg"]["mean"])}
- std {_numbers(record["pretrained_cfg"]["std"])}"""

    def loading(self, record: dict[str, Any]) -> list[str]:
        """Return blocks for timm or torch, for torch.export and for ONNX."""
        files, name = record["logitkd"]["files"], record["logitkd"]["student"]["name"]
        blocks = []
        if "model.safetensors" in files and is_timm(name):
            ours = (
                "import logitkd.models  # registers the network in timm\n"
                if record["architecture"].startswith("cifar_")
                else ""
            )
            load = 'model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True).eval()'
            blocks.append(f"import timm\n{ours}\n{load}")
        elif "model.safetensors" in files:
            blocks.append(_from_weights(name, record["num_classes"]))
        if "model.pt2" in files:
            blocks.append('import torch\n\nmodel = torch.export.load("THIS_FOLDER/model.pt2").module()  # needs torch alone')
        if "model.onnx" in files:
            blocks.append(
                'import onnxruntime\n\nsession = onnxruntime.InferenceSession("THIS_FOLDER/model.onnx")\n'
                '(logits,) = session.run(["logits"], {"images": images})  # a float32 numpy array, any number of images'
            )
        return blocks


def _input(images: Tensor, mean: Sequence[float], std: Sequence[float], words: str) -> Input:
    batches = {str(size): images[:size].contiguous() for size in BATCHES}
    return Input(Trace(images[:2], ("images",), {0: "batch"}), batches, words, {"mean": tuple(mean), "std": tuple(std)})


def _data(run: dict[str, Any]) -> DataConfig:
    data: DataConfig = validate(DataConfig, run["run"]["data"], "data.")
    return data


def _architecture(student: nn.Module, name: str) -> dict[str, Any]:
    """Return what timm needs to build the network again, and nothing about weights that others published for it."""
    if not is_timm(name):
        return {"architecture": public_name(name)}
    theirs = getattr(student, "pretrained_cfg", {})
    kept = {key: theirs.get(key) for key in ("first_conv", "classifier", "fixed_input_size")}
    record = {"architecture": theirs["architecture"], "pretrained_cfg": {**kept, "custom_load": False}}
    built_with = {key: value for key, value in getattr(student, "_model_args", {}).items() if key != "num_classes"}
    return record | ({"model_args": built_with} if built_with else {})


def is_timm(name: str) -> bool:
    """Whether timm can build the network, a CIFAR network once ``logitkd.models`` is imported.

    >>> is_timm("resnet18.a1_in1k"), is_timm("torchvision:resnet18")
    (True, False)
    """
    return read_name(name).kind in ("timm", "hf-hub", "local-dir")


def _view(resize: dict[str, Any] | None) -> str:
    if resize is None:
        return ""
    return (
        f", the centre of an image resized ({resize['interpolation']}) to {resize['shorter_side']} pixels on its shorter side"
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _from_weights(name: str, num_classes: int) -> str:
    """Return how a network that timm does not know is built and filled."""
    source = read_name(name)
    weights = 'load_file("THIS_FOLDER/model.safetensors")'
    if source.kind == "torchvision":
        imports, build = "import torchvision", f'torchvision.models.get_model("{source.inner}", num_classes={num_classes})'
    elif source.kind == "transformers":
        imports = "from transformers import AutoConfig, AutoModelForImageClassification"
        config = f'AutoConfig.from_pretrained("{source.inner}", num_labels={num_classes})'
        build = f"AutoModelForImageClassification.from_config({config})"
        weights = f'{{key.removeprefix("model."): value for key, value in {weights}.items()}}'
    else:
        module, _, attribute = name.partition(":")
        imports, build = f"from {module} import {attribute.partition('.')[0]}", f"{attribute}(num_classes={num_classes})"
    return f"{imports}\nfrom safetensors.torch import load_file\n\nmodel = {build}.eval()\nmodel.load_state_dict({weights})"
