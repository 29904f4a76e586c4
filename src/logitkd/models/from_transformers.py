"""Image classifiers of transformers, from the hub or a folder; plain logits out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from logitkd.checks import listed
from logitkd.models.names import Source
from logitkd.models.pretrained import Pretrained, loading

__all__ = ["TransformersClassifier", "build_transformers", "transformers_pretrained", "transformers_statistics"]


class TransformersClassifier(nn.Module):
    """An image classifier of transformers that returns its logits as a tensor.

    Args:
        model: from ``AutoModelForImageClassification``; stays reachable as ``.model``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.num_classes = int(model.config.num_labels)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, C)`` of images ``(N, 3, H, W)``."""
        return self.model(pixel_values=images, return_dict=True).logits


def build_transformers(source: Source, num_classes: int, weights: bool) -> nn.Module:
    """Return the network for ``num_classes``; with its weights if asked, the head random where the classes differ.

    Raises:
        ImportError: transformers is not installed.
        ConnectionError: it is not here and cannot be fetched.
        ValueError: the weights lack more than a head.
    """
    auto = _import().AutoModelForImageClassification
    with _quiet(), loading(source):
        config = _config(source)
        if config.num_labels != num_classes:
            config.num_labels = num_classes
        if not weights:
            return TransformersClassifier(auto.from_config(config).float()).train()
        model, info = auto.from_pretrained(
            _where(source), config=config, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    body = f"{model.base_model_prefix}."
    lacking = [key for key in (*info["missing_keys"], *(m[0] for m in info["mismatched_keys"])) if key.startswith(body)]
    if lacking:
        raise ValueError(f"model `{source.name}`: its weights lack {listed(sorted(lacking))}: they are of another network.")
    return TransformersClassifier(model.float()).train()


def transformers_pretrained(source: Source) -> Pretrained:
    """Return the network with its weights and its own head.

    Raises:
        ImportError: transformers is not installed.
        ConnectionError: it is not here and cannot be fetched.
        ValueError: a weight of the network, its head's among them, is not in the file.
    """
    auto = _import().AutoModelForImageClassification
    with _quiet(), loading(source):
        model, info = auto.from_pretrained(_where(source), use_safetensors=True, output_loading_info=True)
    if info["missing_keys"]:
        raise ValueError(
            f"model `{source.name}`: its weights lack {listed(sorted(info['missing_keys']))}, which would be random, so it"
            " cannot teach. Give one that was trained to classify images."
        )
    network = TransformersClassifier(model.float()).train()
    return Pretrained(network, network.num_classes, _classes(model.config), *transformers_statistics(source))


def transformers_statistics(source: Source) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and std that the image processor subtracts and divides by, ``None`` for both where there is none.

    Its processor computes ``((pixels * rescale_factor - offset) - image_mean) / image_std``, its pixels up to 255.
    """
    _import()
    from transformers.image_processing_base import ImageProcessingMixin

    with _quiet():
        try:
            record = ImageProcessingMixin.get_image_processor_dict(_where(source))[0]
        except OSError:  # no such file: a network without a processor
            return None, None
    scale = 255 * (record.get("rescale_factor") or 1 / 255) if record.get("do_rescale", True) else 255.0
    offset = 1.0 if record.get("rescale_offset") else 0.0
    normalizes = record.get("do_normalize", True)
    mean, std = (record.get("image_mean"), record.get("image_std")) if normalizes else ((0.0,) * 3, (1.0,) * 3)
    if not mean or not std:
        return None, None
    return tuple((value + offset) / scale for value in mean), tuple(value / scale for value in std)


def _classes(config: Any) -> tuple[str, ...] | None:
    names = [str(config.id2label[index]) for index in range(config.num_labels) if index in config.id2label]
    made_up = all(name == f"LABEL_{index}" for index, name in enumerate(names))
    return tuple(names) if len(names) == config.num_labels and not made_up else None


def _config(source: Source) -> Any:
    return _import().AutoConfig.from_pretrained(_where(source))


def _where(source: Source) -> str:
    folder = Path(source.inner).expanduser()
    return str(folder) if folder.is_dir() else source.inner


def _import() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "models named `transformers:...` need the package transformers: `pip install 'logitkd[transformers]'`."
        ) from error
    return transformers


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing bars and reports: what matters in them is an error here."""
    log = _import().utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
