"""Classifiers of transformers, of images or of texts, from the hub or a folder; plain logits out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from logitkd.checks import listed
from logitkd.models.names import Source
from logitkd.models.pretrained import Pretrained, loading
from logitkd.models.text_classifier import TextClassifier, adapt_text_config, encoder_layers, no_layers

__all__ = [
    "TransformersClassifier",
    "build_transformers",
    "quiet",
    "read_config",
    "transformers_pretrained",
    "transformers_statistics",
    "where",
]


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


def build_transformers(source: Source, num_classes: int, weights: bool, layers: int | None = None) -> nn.Module:
    """Return the network for ``num_classes``; with its weights if asked, the head random where the classes differ.

    Args:
        source: its name, taken apart.
        num_classes: of its head.
        weights: whether to load those that the name stands for.
        layers: of the encoder of a text classifier, in place of the configuration's; its first ones have the weights.

    Raises:
        ImportError: transformers is not installed.
        ConnectionError: it is not here and cannot be fetched.
        ValueError: it is no classifier of images or of texts, the weights lack more than a head, or it cannot have so many
            layers.
    """
    with quiet(), loading(source):
        config = read_config(source)
        wrap, auto = _kind(source, config, layers)
        if config.num_labels != num_classes:
            config.num_labels = num_classes
        if not weights:
            model = auto.from_config(config)
        else:
            model, info = auto.from_pretrained(
                where(source), config=config, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
            )
            _check_body(source, model, info)
    if layers is not None and encoder_layers(model) is None:
        raise ValueError(no_layers(config))
    return wrap(model.float()).train()


def transformers_pretrained(source: Source, layers: int | None = None) -> Pretrained:
    """Return the network with its weights and its own head.

    Args:
        source: its name, taken apart.
        layers: as in :func:`build_transformers`.

    Raises:
        ImportError: transformers is not installed.
        ConnectionError: it is not here and cannot be fetched.
        ValueError: a weight of the network, its head's among them, is not in the file; and as :func:`build_transformers`.
    """
    with quiet(), loading(source):
        config = read_config(source)
        wrap, auto = _kind(source, config, layers)
        model, info = auto.from_pretrained(where(source), config=config, use_safetensors=True, output_loading_info=True)
    if info["missing_keys"]:
        what = "texts" if wrap is TextClassifier else "images"
        raise ValueError(
            f"model `{source.name}`: its weights lack {listed(sorted(info['missing_keys']))}, which would be random, so it"
            f" cannot teach. Give one that was trained to classify {what}."
        )
    network = wrap(model.float()).train()
    return Pretrained(network, network.num_classes, _classes(config), *transformers_statistics(source, network))


def _kind(source: Source, config: Any, layers: int | None) -> tuple[type[TransformersClassifier] | type[TextClassifier], Any]:
    """Return what wraps a network of this configuration, and the class of transformers that builds it."""
    transformers = _import()
    if type(config) in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        if layers is not None:
            raise ValueError(f"`layers` must be left out for `{source.name}`: it classifies images.")
        return TransformersClassifier, transformers.AutoModelForImageClassification
    if type(config) in transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        adapt_text_config(source.name, config, layers)
        return TextClassifier, transformers.AutoModelForSequenceClassification
    raise ValueError(
        f"model `{source.name}` must be one that transformers can build as a classifier of images or of texts, got a"
        f" {config.model_type}, for which it has neither."
    )


def _check_body(source: Source, model: Any, info: dict[str, Any]) -> None:
    """Raise ``ValueError`` if more was left random than a head, and the pooling that a body may have been saved without."""
    body = f"{model.base_model_prefix}."
    lacking = [key for key in (*info["missing_keys"], *(m[0] for m in info["mismatched_keys"])) if key.startswith(body)]
    lacking = [key for key in lacking if not key.startswith(f"{body}pooler.")]
    if lacking:
        raise ValueError(f"model `{source.name}`: its weights lack {listed(sorted(lacking))}: they are of another network.")


def transformers_statistics(source: Source, network: nn.Module) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and std that the image processor subtracts and divides by, ``None`` for both where there is none.

    Its processor computes ``((pixels * rescale_factor - offset) - image_mean) / image_std``, its pixels up to 255.
    """
    _import()
    from transformers.image_processing_base import ImageProcessingMixin

    if isinstance(network, TextClassifier):
        return None, None
    with quiet():
        try:
            record = ImageProcessingMixin.get_image_processor_dict(where(source))[0]
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


def read_config(source: Source) -> Any:
    """Return the network's configuration. None of the code that a folder may bring is ever run."""
    return _import().AutoConfig.from_pretrained(where(source), trust_remote_code=False)


def where(source: Source) -> str:
    """Return the folder, or the hub id, that the name stands for."""
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
def quiet() -> Iterator[None]:
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
