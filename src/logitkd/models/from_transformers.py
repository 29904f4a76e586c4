"""Networks of transformers, classifiers of images or of texts and segmentation networks, from the hub or a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from logitkd.checks import listed
from logitkd.models.names import Output, Source
from logitkd.models.pretrained import Pretrained, loading, reason
from logitkd.models.segmenters import TransformersSegmenter, UperNetSegmenter
from logitkd.models.text_classifier import TextClassifier, check_text_config, set_layers

__all__ = [
    "TransformersClassifier",
    "build_transformers",
    "choose",
    "locate",
    "quiet",
    "read_config",
    "readable",
    "transformers_pretrained",
    "transformers_statistics",
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


Wrapper = TransformersClassifier | TextClassifier | TransformersSegmenter


def build_transformers(
    source: Source, num_classes: int, weights: bool, layers: int | None = None, output: Output = "classes"
) -> nn.Module:
    """Return the network for ``num_classes``; with its weights if asked, the head random where the classes differ.

    Args:
        source: its name, taken apart.
        num_classes: of its head.
        weights: whether to load those that the name stands for.
        layers: of the encoder of a text classifier, in place of the configuration's; its first ones have the weights.
        output: of the network, as in :func:`~logitkd.models.names.check_name`.

    Raises:
        ImportError: transformers is not installed.
        ConnectionError: it is not here and cannot be fetched.
        ValueError: it is no network of this output, the weights lack more than a head, or it cannot have so many
            layers.
    """
    with quiet(), loading(source):
        place = locate(source)
        config = read_config(source, place)
        wrap, auto = choose(source, config, layers, output)
        if config.num_labels != num_classes:
            config.num_labels = num_classes
        if not weights:
            model = auto.from_config(config)
        else:
            model, info = auto.from_pretrained(
                **place, config=config, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
            )
            _check_body(source, model, info)
    return wrap(model.float()).train()


def transformers_pretrained(source: Source, layers: int | None = None, output: Output = "classes") -> Pretrained:
    """Return the network with its weights and its own head.

    Args:
        source: its name, taken apart.
        layers: as in :func:`build_transformers`.
        output: likewise.

    Raises:
        ImportError: transformers is not installed.
        ConnectionError: it is not here and cannot be fetched.
        ValueError: a weight of the network, its head's among them, is not in the file; and as :func:`build_transformers`.
    """
    with quiet(), loading(source):
        place = locate(source)
        config = read_config(source, place)
        wrap, auto = choose(source, config, layers, output)
        model, info = auto.from_pretrained(**place, config=config, use_safetensors=True, output_loading_info=True)
    if config.num_labels < 2:
        raise ValueError(
            f"model `{source.name}` must have at least 2 classes, got one output (a regression, such as a similarity of texts),"
            " so it cannot teach. Give one that was trained to classify."
        )
    if info["missing_keys"]:
        trained = {TransformersClassifier: "classify images", TextClassifier: "classify texts"}.get(wrap, "segment images")
        raise ValueError(
            f"model `{source.name}`: its weights lack {listed(sorted(info['missing_keys']))}, which would be random, so it"
            f" cannot teach. Give one that was trained to {trained}."
        )
    network = wrap(model.float()).train()
    return Pretrained(network, network.num_classes, _classes(config), *transformers_statistics(source, network))


def choose(source: Source, config: Any, layers: int | None = None, output: Output = "classes") -> tuple[type[Wrapper], Any]:
    """Return what wraps a network of this configuration, and the class of transformers that builds it.

    Args:
        source: its name, taken apart.
        config: changed to ``layers`` where they are given.
        layers: as in :func:`build_transformers`.
        output: likewise; many configurations are of networks of both kinds.

    Raises:
        ValueError: as :func:`build_transformers`, but for its weights.
    """
    transformers = _import()
    if output == "maps":
        if layers is not None:
            raise ValueError(f"`layers` must be left out for `{source.name}`: it segments images.")
        if type(config) not in transformers.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING:
            raise ValueError(_no_segmenter(source, config))
        upernet = config.model_type == "upernet"
        return UperNetSegmenter if upernet else TransformersSegmenter, transformers.AutoModelForSemanticSegmentation
    if type(config) in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        if layers is not None:
            raise ValueError(f"`layers` must be left out for `{source.name}`: it classifies images.")
        return TransformersClassifier, transformers.AutoModelForImageClassification
    if type(config) in transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        auto = transformers.AutoModelForSequenceClassification
        check_text_config(source.name, config)
        if layers is not None:
            with torch.device("meta"):  # no memory and no weights: only what it is made of
                whole = auto.from_config(config)
            set_layers(source.name, whole, config, layers)
        return TextClassifier, auto
    maps = type(config) in transformers.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING
    raise ValueError(
        f"model `{source.name}` must be one that transformers can build as a classifier of images or of texts, got a"
        f" {config.model_type}, for which it has neither.{' It is a segmentation network: `--task segmentation`.' * maps}"
    )


def _no_segmenter(source: Source, config: Any) -> str:
    """Return the message for a network of transformers that yields no logits of pixels."""
    transformers = _import()
    of_masks = ("UNIVERSAL", "INSTANCE", "IMAGE")
    mappings = (getattr(transformers, f"MODEL_FOR_{kind}_SEGMENTATION_MAPPING", ()) for kind in of_masks)
    start = f"model `{source.name}` must be one that transformers can build for semantic segmentation"
    if any(type(config) in mapping for mapping in mappings):
        return (
            f"{start}, got a {config.model_type}: it yields a list of masks with one class each, so it has no logits of a"
            " pixel that could be distilled. Take one that has, such as SegFormer or UperNet."
        )
    return f"{start}, got a {config.model_type}, for which it has none. Take SegFormer, UperNet, DPT, ..."


def _check_body(source: Source, model: Any, info: dict[str, Any]) -> None:
    """Raise ``ValueError`` if more was left random than a head, and the pooling that a body may have been saved without."""
    body = f"{model.base_model_prefix or 'backbone'}."  # UperNet names none
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
            record = ImageProcessingMixin.get_image_processor_dict(**locate(source))[0]
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


def read_config(source: Source, place: dict[str, Any]) -> Any:
    """Return the network's configuration; ``place`` is what :func:`locate` returned.

    Raises:
        OSError: it is not there.
        ValueError: it cannot be read.
    """
    with readable(source, "configuration"):
        return _import().AutoConfig.from_pretrained(**place)


def locate(source: Source) -> dict[str, Any]:
    """Return what every ``from_pretrained`` gets: the folder or the hub id, and how it may be read.

    None of the code that it may bring is ever run. The hub is asked only where it answers: its client tries for minutes.
    """
    folder = Path(source.inner).expanduser()
    local = folder.is_dir() or not _hub_answers()
    found = str(folder) if folder.is_dir() else source.inner
    return {"pretrained_model_name_or_path": found, "local_files_only": local, "trust_remote_code": False}


def _hub_answers() -> bool:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception:  # of one HTTP library or another, or that the user wants to be offline
        return False
    return True


@contextmanager
def readable(source: Source, part: str) -> Iterator[None]:
    """Give what transformers says of a file that it does not understand one form.

    Args:
        source: the network's name, taken apart.
        part: of the network, for the message.

    Raises:
        ValueError: it is damaged, of a later version, or needs code of its own.
    """
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:  # ValueError, KeyError, AttributeError, the tokenizers' own plain Exception ...
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"model `{source.name}` must be one that transformers itself can build, got one with code of its own, which is"
                " never run. Write a `package.module:callable` that builds it, if you trust its code."
            ) from error
        raise ValueError(
            f"model `{source.name}`: its {part} cannot be read ({reason(error)}). It must be what `save_pretrained` writes."
        ) from error


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
