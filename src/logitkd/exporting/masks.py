"""An export of a run on masks: the network without its auxiliary head, and programs for images of any size."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from logitkd.data.mask_config import MaskConfig
from logitkd.data.mask_loader import mask_loader
from logitkd.data.masks import load_masks
from logitkd.exporting.kind import CONFIG, Input, Kind, Trace
from logitkd.exporting.mask_card import input_section, loading
from logitkd.exporting.parity import ParityError, compare
from logitkd.exporting.public import public_name
from logitkd.models import build_model, read_name
from logitkd.models.from_transformers import quiet
from logitkd.models.segmenters import Segmenter, TorchvisionSegmenter, TransformersSegmenter
from logitkd.reach.inputs import call
from logitkd.runs.values import validate
from logitkd.tasks.overlap import class_map

__all__ = ["FullSize", "Masks"]

IMAGES = 3  # that files are compared on
LEAST = 65  # pixels a side: where a network's last map has a single row, a program is another one
PROCESSOR = "preprocessor_config.json"  # by which transformers shows images to a network


class FullSize(nn.Module):
    """A segmentation network that answers at the size of its images, as it is scored.

    Args:
        network: returns a map ``(N, C, h, w)``, or a mapping with one.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, C, H, W)`` of images ``(N, 3, H, W)``."""
        logits = class_map(self.network(images))  # resized here, whatever its size: a traced network knows no sizes to compare
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


class Masks(Kind):
    """See :class:`~logitkd.exporting.kind.Kind`; ``Input.facts`` holds an image processor's settings, where one is written."""

    units, classifier, pipeline, free = "images", "A segmentation network", "image-segmentation", "images of any size"
    options = MappingProxyType({"output": "maps"})

    def read_input(self, record: dict[str, Any], folder: Path) -> Input:
        """Return the first evaluation images, or random ones, at several sizes."""
        config: MaskConfig = validate(MaskConfig, record["run"]["data"], "data.")
        wrote = record["data"]
        mean, std = tuple(wrote["mean"]), tuple(wrote["std"])
        images = _images(config, record)
        words = f"the first {len(images)} evaluation images of the run (`{config.eval_name}`), at several sizes"
        if not images:
            pixels = torch.rand(IMAGES, *wrote["input_size"], generator=torch.Generator().manual_seed(0))
            shift, scale = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (mean, std))
            images = list(((pixels - shift) / scale).split(1))
            words = f"{IMAGES} random images (seed 0) at several sizes, as the run's data could not be read here"
        height, width = (max(side, LEAST) for side in images[0].shape[2:])
        # As large as in the evaluation, and sizes that are no multiples of a stride.
        sizes = {1: (height, width)}
        for count, part in ((2, 0.75), (IMAGES, 0.5)):
            sizes[count] = (max(LEAST, int(part * height)) | 1, max(LEAST, int(part * width)) | 1)
        batches = {f"{count} ({h} x {w} pixels)": _sized(images, count, (h, w)) for count, (h, w) in sizes.items()}
        example = _sized(images, 2, (2 * LEAST, 3 * LEAST))  # no square, or the program would take squares alone
        facts = {}
        if read_name(record["run"]["student"]["name"]).kind == "transformers":
            facts["processor"] = _processor(config.image_size, mean, std)
        return Input(Trace(example, ("images",), {0: "batch", 2: "height", 3: "width"}), batches, words, facts)

    def fitting(self, student: nn.Module, given: Input) -> Input:
        """Leave out the sizes that the network cannot take, if it can take that of the evaluation alone."""
        first, *others = given.batches.items()
        kept = dict([first, *((size, batch) for size, batch in others if _takes(student, batch))])
        return replace(given, batches=kept)

    def trained(self, student: nn.Module, name: str) -> nn.Module:
        """Return the network without its auxiliary head; one's own code keeps what it builds."""
        if read_name(name).kind == "own":
            return student
        if isinstance(student, TorchvisionSegmenter) and hasattr(student.model, student.auxiliary):
            student.drop_auxiliary()
        inner: Any = student.model if isinstance(student, TransformersSegmenter) else None
        if getattr(getattr(inner, "config", None), "use_auxiliary_head", False):
            inner.config.use_auxiliary_head, inner.auxiliary_head = False, None
        return student

    def plain(self, student: nn.Module) -> nn.Module:
        """Return the network of torchvision or transformers, one's own as it is."""
        return student.model if isinstance(student, Segmenter) else student

    def whole(self, student: nn.Module) -> nn.Module:
        """Return the network that answers at the images' size."""
        return FullSize(student).eval()

    def rebuild(self, student: nn.Module, name: str, weights: Path, classes: Sequence[str]) -> nn.Module:
        """Return a copy, its weights those of the file: all of them, and nothing else may be there."""
        network = copy.deepcopy(student)
        self.plain(network).load_state_dict(load_file(weights))
        return self.whole(network)

    def check(self, folder: Path, student: nn.Module, name: str, given: Input, formats: Sequence[str]) -> None:
        """Load the weights by torchvision, transformers or logitkd alone."""
        if "safetensors" not in formats:
            return
        source, whole = read_name(name), self.whole(student)
        classes = student.num_classes if isinstance(student, Segmenter) else 0
        file = folder / "model.safetensors"
        match source.kind:
            case "own":
                return
            case "torchvision":
                model = torchvision.models.get_model(source.inner, weights=None, weights_backbone=None, num_classes=classes)
                load = partial(_loaded, model, file)
            case "transformers":
                load = partial(_from_folder, folder)
            case _:
                load = partial(build_model, name, int(classes), checkpoint=file, output="maps")
        try:
            network = load()
        except Exception as error:
            raise ParityError(f"what is exported must load as its card says, got {type(error).__name__}: {error}") from error
        compare(whole, partial(call, self.whole(network)), given.batches, CONFIG)

    def files(self, given: Input) -> dict[str, bytes]:
        """Return what transformers shows images by, beside one of its networks."""
        processor = given.facts.get("processor")
        return {} if processor is None else {PROCESSOR: json.dumps(processor, indent=2).encode()}

    def facts(self, student: nn.Module, run: dict[str, Any], given: Input) -> dict[str, Any]:
        """Return transformers' keys of one of its networks, else the network's name; and the classes."""
        classes = [str(name) for name in run["data"]["classes"]]
        if not isinstance(student, TransformersSegmenter):
            return {
                "architecture": public_name(run["run"]["student"]["name"]),
                "num_classes": len(classes),
                "label_names": classes,
            }
        config: Any = copy.deepcopy(student.model.config)
        config.id2label, config.label2id = dict(enumerate(classes)), {name: number for number, name in enumerate(classes)}
        record: dict[str, Any] = json.loads(config.to_json_string())
        for key in ("_name_or_path", "auto_map"):  # a folder of this machine, code that is not here
            record.pop(key, None)
        return {**record, "architectures": [type(student.model).__name__], "dtype": "float32"}

    def ours(self, run: dict[str, Any]) -> dict[str, Any]:
        """Return how classes are drawn, how images are shown, and which number in masks means no class."""
        data = run["run"]["data"]
        size = data.get("image_size")
        return {
            "classes": [str(name) for name in run["data"]["classes"]],
            "palette": run["data"]["palette"],
            "mean": run["data"]["mean"],
            "std": run["data"]["std"],
            "image_size": None if size is None else list(size),
            "evaluated_at": run["data"].get("size"),
            "smallest_side": LEAST,
            "ignore_index": data.get("ignore_index", MaskConfig.ignore_index),
        }

    def library(self, record: dict[str, Any]) -> str:
        """Return transformers for its networks, else pytorch."""
        return "transformers" if read_name(record["logitkd"]["student"]["name"]).kind == "transformers" else "pytorch"

    def labels(self, record: dict[str, Any]) -> list[str]:
        """Return the names of the classes."""
        labels: list[str] = record["logitkd"]["classes"]
        return labels

    def scores(self, accuracy: dict[str, Any], scored: str) -> dict[str, str]:
        """Return rows for overlap, for the further metrics, and for the overlap of each class."""
        metrics: Mapping[str, float] = accuracy["metrics"]
        titles = {"pixel_accuracy": "pixel accuracy", "agreement": "agreement with the teacher"}
        classes = {key.partition("/")[2]: value for key, value in metrics.items() if key.startswith("iou/")}
        return {
            "mIoU": f"{accuracy['miou']:.2f} % on {scored}, after the last epoch; at the masks' size, over all images at once",
            "other metrics": ", ".join(f"{title} {metrics[key]:.2f} %" for key, title in titles.items() if key in metrics),
            "IoU of each class": ", ".join(f"{name} {value:.2f} %" for name, value in classes.items()),
        }

    def input_section(self, record: dict[str, Any]) -> str:
        """Return normalisation, what comes out, and the classes' colors."""
        return input_section(record)

    def loading(self, record: dict[str, Any]) -> list[str]:
        """Return blocks for the library that has the network, for torch.export and for ONNX."""
        return loading(record)


def _images(config: MaskConfig, record: dict[str, Any]) -> list[Tensor]:
    """Return the first evaluation images as networks get them, each ``(1, 3, H, W)``; none where other data lie there."""
    try:
        data = load_masks(config, labels=record["run"].get("labels", "given"))
        if data.fingerprint != record["data"]["fingerprint"]:
            return []
        loader = mask_loader(data, replace(config, workers=0), train=False, batch_size=1, device="cpu")
        batches = loader.epoch(1)
        return [batch.inputs for _, batch in zip(range(IMAGES), batches, strict=False)]
    except (OSError, ValueError):
        return []


def _sized(images: Sequence[Tensor], count: int, size: tuple[int, int]) -> Tensor:
    """Return so many images of one size."""
    chosen = [images[number % len(images)] for number in range(count)]
    return torch.cat([F.interpolate(image, size, mode="bilinear", align_corners=False) for image in chosen])


@torch.no_grad()
def _takes(student: nn.Module, batch: Any) -> bool:
    try:
        call(student, batch)
    except Exception:  # each network refuses sizes in its own way
        return False
    return True


def _loaded(model: nn.Module, file: Path) -> nn.Module:
    model.load_state_dict(load_file(file))
    return TorchvisionSegmenter(model.eval())


def _from_folder(folder: Path) -> nn.Module:
    from transformers import AutoModelForSemanticSegmentation

    with quiet():
        model, info = AutoModelForSemanticSegmentation.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, local_files_only=True, trust_remote_code=False
        )
    if lacking := sorted({*info["missing_keys"], *info["unexpected_keys"]}):
        raise ValueError(f"transformers must find every weight by its name, but not {', '.join(lacking[:5])}")
    return TransformersSegmenter(model).eval()


def _processor(size: Sequence[int] | None, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Return the settings of an image processor of transformers that shows images as the evaluation does."""
    resize = {"do_resize": False} if size is None else {"size": {"height": size[0], "width": size[1]}, "resample": 2}
    return {
        "image_processor_type": "SegformerImageProcessor",
        "do_resize": True,
        **resize,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "do_reduce_labels": False,
    }
