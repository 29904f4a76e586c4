"""What stands beside exported weights: the model card for people, ``config.json`` for timm and other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from logitkd import methods
from logitkd.data import DataConfig
from logitkd.exporting.parity import BATCHES, Input, Parity
from logitkd.models import parameter_count, read_name
from logitkd.runs.values import validate

__all__ = ["CARD", "CONFIG", "card", "describe", "is_timm"]

CARD, CONFIG = "README.md", "config.json"


def describe(
    student: nn.Module, run: dict[str, Any], result: dict[str, Any], given: Input, parity: Sequence[Parity]
) -> dict[str, Any]:
    """Return what ``config.json`` says: timm's keys, then all about the run under ``logitkd``.

    Args:
        student: the network.
        run: what the run's ``config.yaml`` says.
        result: what its ``result.json`` says.
        given: what the student takes.
        parity: how well each file agrees.
    """
    config, name = run["run"], run["run"]["student"]["name"]
    record = _architecture(student, name)
    record["num_classes"] = len(run["data"]["classes"])
    record["label_names"] = [str(label) for label in run["data"]["classes"]]
    data = validate(DataConfig, config["data"], "data.")
    resize = None
    if data.image_size is not None:
        resize = {"shorter_side": round(data.image_size / data.crop_ratio), "interpolation": data.interpolation}
    record["pretrained_cfg"] = {
        **record.get("pretrained_cfg", {}),
        "num_classes": record["num_classes"],
        "input_size": list(given.images.shape[1:]),
        "mean": list(given.mean),
        "std": list(given.std),
        "interpolation": data.interpolation if resize else "bicubic",
        "crop_pct": data.crop_ratio if resize else 1.0,
    }
    record["logitkd"] = {
        "version": run["versions"]["logitkd"],
        "student": {"name": _public_name(name), "parameters": parameter_count(student)},
        "teachers": _teachers(run),
        "method": run["method"],
        "data": {
            "source": _public(data.source),
            "train_split": data.train_split,
            "eval_split": data.eval_name,
            "train_per_class": data.train_per_class,
            "fingerprint": run["data"]["fingerprint"],
            "train": run["data"]["train"],
            "eval": run["data"]["eval"],
        },
        "resize": resize,
        "epochs": config["epochs"],
        "seed": config["seed"],
        "precision": config["precision"],
        "accuracy": {"top1": result["top1"], "split": result["split"], "epoch": result["epoch"], "metrics": result["metrics"]},
        "files": {line.file: {"largest_gap": line.gap, "allowed_gap": line.allowed} for line in parity},
        "checked_on": f"{given.words}, in batches of {', '.join(map(str, BATCHES))}",
        "versions": run["versions"],
        "commit": run.get("commit"),
    }
    return record


def _architecture(student: nn.Module, name: str) -> dict[str, Any]:
    """Return what timm needs to build the network again, and nothing about weights that others published for it."""
    if not is_timm(name):
        return {"architecture": _public_name(name)}
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


def _teachers(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a reader may know of each teacher: never where its weights lie on this machine."""
    config, record = run["run"].get("teacher"), run["teacher"]
    if config is None:
        return []
    names = [config["name"], *(other["name"] for other in config.get("others", ()))]
    records = [{key: value for key, value in record.items() if key != "others"}, *record.get("others", {}).values()]
    return [{"name": _public_name(name), **one} for name, one in zip(names, records, strict=True)]


def _public_name(name: str) -> str:
    """Return a network's name without the folders of this machine in it.

    >>> _public_name("transformers:/home/me/vit"), _public_name("hf-hub:timm/resnet18"), _public_name("resnet18.a1_in1k")
    ('transformers:vit', 'hf-hub:timm/resnet18', 'resnet18.a1_in1k')
    """
    source = read_name(name)
    return name if source.kind not in ("local-dir", "transformers") else f"{source.kind}:{_public(source.inner)}"


def _public(source: str) -> str:
    """Return a data source without the folders of this machine above it.

    >>> _public("uoft-cs/cifar100"), _public("/home/me/photos"), _public("../photos/")
    ('uoft-cs/cifar100', 'photos', 'photos')
    """
    path = Path(source)
    return path.name if path.is_absolute() or path.parts[:1] in [("..",), ("~",)] else source


def card(record: dict[str, Any]) -> str:
    """Return the model card, Markdown with the front matter of a hub."""
    ours = record["logitkd"]
    name, data, accuracy = ours["student"]["name"], ours["data"], ours["accuracy"]
    teachers = " and ".join(teacher["name"] for teacher in ours["teachers"])
    sizes = ", ".join(f"{teacher['name']} of {teacher['parameters']:,} parameters" for teacher in ours["teachers"])
    method = methods.get(ours["method"]["name"])
    options = ", ".join(f"{key} {value}" for key, value in ours["method"].items() if key != "name")
    share = f", {data['train_per_class']} images a class" if data["train_per_class"] else ""
    metrics = accuracy["metrics"]
    more = [f"top-5 {metrics['top5']:.2f} %"] if "top5" in metrics else []
    more += [f"agreement with the teacher {metrics['agreement']:.2f} %"] if "agreement" in metrics else []
    more += [f"expected calibration error {100 * metrics['calibration_error']:.2f} %"]
    _, height, width = record["pretrained_cfg"]["input_size"]
    labels = record["label_names"]
    rows = {
        "pair": f"{teachers} (teacher) -> {name} (student)" if teachers else name,
        "student": f"{name}, {ours['student']['parameters']:,} parameters",
        "teacher": f"{sizes}; not in these files" if teachers else "none",
        "method": f"{method.name}: {method.summary}. {method.paper}".rstrip(),
        "its options": options or "none",
        "data": f"{data['source']}, split `{data['train_split']}`: {data['train']:,} images{share}",
        "data fingerprint": f"`{data['fingerprint']}`",
        "classes": f"{len(labels)}: {', '.join(labels[:10])}{', ...' if len(labels) > 10 else ''}",
        "accuracy": f"top-1 {accuracy['top1']:.2f} % on `{accuracy['split']}` ({data['eval']:,} images), after the last epoch",
        "other metrics": ", ".join(more),
        "epochs, seed": f"{ours['epochs']}, {ours['seed']}; one run",
        "licence": "to be stated by whoever publishes this: the terms of data and teacher may bind it",
    }
    table = "\n".join(f"| {key} | {_cell(value)} |" for key, value in rows.items())
    files = "\n".join(
        f"| `{file}` | {line['largest_gap']:.1e} | {line['allowed_gap']:.1e} |" for file, line in ours["files"].items()
    )
    versions = ", ".join(f"{package} {number}" for package, number in ours["versions"].items())
    return f"""\
---
library_name: {"timm" if is_timm(name) else "pytorch"}
pipeline_tag: image-classification
tags:
- image-classification
- knowledge-distillation
---
# {name}{f", distilled from {teachers}" if teachers else ""}

An image classifier of {len(labels)} classes, trained with logitkd {ours["version"]}.

| | |
|---|---|
{table}

## Input

RGB images of {height} x {width} pixels (height x width){_view(ours["resize"])}, as float32 `(N, 3, {height}, {width})`:
divided by 255, then minus the mean and divided by the standard deviation of the channel. `config.json` has the numbers and
the class names in order.

- mean {_numbers(record["pretrained_cfg"]["mean"])}
- std {_numbers(record["pretrained_cfg"]["std"])}

## Load

{_loading(record)}

## Checked

Each file was read back and compared with the trained network, on {ours["checked_on"]}.

| file | largest difference of a logit | allowed |
|---|---|---|
{files}

Trained with {versions}{f", commit {ours['commit']}" if ours["commit"] else ""}.
"""


def _view(resize: dict[str, Any] | None) -> str:
    if resize is None:
        return ""
    return (
        f", the centre of an image resized ({resize['interpolation']}) to {resize['shorter_side']} pixels on its shorter side"
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _loading(record: dict[str, Any]) -> str:
    """Return how each file is loaded, as few lines as it takes."""
    files, name = record["logitkd"]["files"], record["logitkd"]["student"]["name"]
    blocks = []
    if "model.safetensors" in files and is_timm(name):
        ours = "import logitkd.models  # registers the network in timm\n" if record["architecture"].startswith("cifar_") else ""
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
    return "\n\n".join(f"```python\n{block}\n```" for block in blocks)


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
