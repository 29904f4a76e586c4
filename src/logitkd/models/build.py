"""Building a network by name, a student's for given classes or a trained one with its own."""

from __future__ import annotations

import difflib
import importlib
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from logitkd.checks import check_int, suggest
from logitkd.models.from_timm import build_timm, timm_pretrained, timm_statistics
from logitkd.models.from_torchvision import build_torchvision, torchvision_pretrained
from logitkd.models.from_transformers import build_transformers, transformers_pretrained, transformers_statistics
from logitkd.models.names import PREFIXES, Output, Source, read_source
from logitkd.models.pretrained import IMAGENET_MEAN, IMAGENET_STD, Pretrained
from logitkd.models.segmentation import build_segmenter, segmenter_pretrained, segmenter_statistics
from logitkd.models.segmenters import Segmenter, as_segmenter
from logitkd.models.weights import load_weights

__all__ = ["build_model", "build_pretrained", "find_own", "parameter_count"]


def parameter_count(model: nn.Module) -> int:
    """Return how many parameters ``model`` has, frozen ones too, shared ones once.

    >>> parameter_count(nn.Linear(10, 3))
    33
    """
    return sum(parameter.numel() for parameter in model.parameters())


def build_model(
    name: str,
    num_classes: int,
    *,
    checkpoint: str | Path | None = None,
    layers: int | None = None,
    output: Output = "classes",
    aux: bool = True,
) -> nn.Module:
    """Build a classifier or a segmentation network for ``num_classes`` and, where a checkpoint is given, load its weights.

    A name that stands for pretrained weights brings them, but for its head where that has other classes: the new head
    is random and the network meant to be trained. With a checkpoint the name gives the network alone.

    Args:
        name: One of

            - a timm name (``"resnet18"``, ``"cifar_resnet8x4"``), with a pretrained tag or without
              (``"resnet50.a1_in1k"``), ``"hf-hub:OWNER/NAME"`` or ``"local-dir:FOLDER"`` as timm writes them;
            - ``"torchvision:NAME"``, with one of its weights or without (``"torchvision:resnet18.IMAGENET1K_V1"``);
            - ``"transformers:ID_OR_FOLDER"``, an image or text classifier with safetensors weights;
            - ``"package.module:callable"``, which is called as ``callable(num_classes=num_classes)`` and must return an
              ``nn.Module``.

            To return maps: one of torchvision's or transformers' segmentation networks by the same prefixes, one's own
            callable, or ``"deeplabv3:NAME"`` and ``"lraspp:NAME"``, torchvision's heads on a network of timm (with its tag or
            without: ``"deeplabv3:resnet18.a1_in1k"``). A tag that stands for a backbone's weights alone brings those.
        num_classes: Classes C, at least 2.
        checkpoint: What ``load_weights`` reads; ``None`` leaves the weights as the name has them. A run folder may hold the
            configuration of its network too: then the name need not be on this machine.
        layers: Of the encoder of a text classifier, in place of its configuration's: the first ones.
        output: ``"classes"``, logits ``(N, C)``; or ``"maps"``, a segmentation network's: a tensor ``(N, C, h, w)``, or a dict
            with that as ``out`` and an auxiliary head's as ``aux``. torchvision's and those of its heads are wrapped so that
            they give their maps before they are resized to the images; the network itself is ``.model``.
        aux: Whether a segmentation network that may have an auxiliary head has one. With a checkpoint it has the head where
            the checkpoint has its weights.

    Returns:
        The model on the CPU, in training mode.

    Raises:
        ValueError: The name is unknown, the weights do not fit, the model has another number of classes, or the callable
            raises, whatever it raises.
        TypeError: The callable is none, or does not return an ``nn.Module``.
        ConnectionError: Pretrained weights are not here and cannot be fetched.

    >>> parameter_count(build_model("cifar_resnet8", 100))
    83892
    """
    check_int("num_classes", num_classes, 2)
    source = read_source(name, checkpoint, output)
    if source.kind != "transformers":
        _no_layers(name, layers)
    weights = source.has_weights and checkpoint is None
    match source.kind:
        case "own":
            model = _own(name, num_classes)
            model = as_segmenter(model) if output == "maps" else model
        case "transformers":
            model = build_transformers(source, num_classes, weights, layers, output)
        case _ if output == "maps":
            model = build_segmenter(source, num_classes, weights, aux or checkpoint is not None)
        case "torchvision":
            model = build_torchvision(source, num_classes, weights)
        case _:
            model = build_timm(source, num_classes, weights)
    built = getattr(model, "num_classes", num_classes)
    if isinstance(built, int) and built != num_classes:
        raise ValueError(f"`{name}` was asked for {num_classes} classes and was built with {built}.")
    if checkpoint is not None:
        load_weights(model, checkpoint, num_classes=num_classes)
    else:
        _set_auxiliary(model, aux)
    return model


def build_pretrained(
    name: str,
    num_classes: int | None = None,
    *,
    checkpoint: str | Path | None = None,
    layers: int | None = None,
    output: Output = "classes",
    aux: bool = True,
) -> Pretrained:
    """Build a classifier or a segmentation network that is trained, head included, with its own classes.

    Args:
        name: As in ``build_model``.
        num_classes: Its own classes; needed with a checkpoint or one's own callable, else the weights know.
        checkpoint: What ``load_weights`` reads, in place of the weights the name stands for.
        layers: As in ``build_model``.
        output: As in ``build_model``.
        aux: As in ``build_model``.

    Raises:
        ValueError: There are no weights, or they hold no head, or their classes are not ``num_classes`` (a
            ``ClassCountError`` where a checkpoint says so); and as ``build_model``.
        TypeError: As ``build_model``.
        ConnectionError: As ``build_model``.
    """
    source = read_source(name, checkpoint, output)
    if checkpoint is not None or source.kind == "own":  # one's own callable may load its weights itself
        if num_classes is None:
            raise ValueError(f"`num_classes` must be given, as `{name}` does not say how many classes it has.")
        model = build_model(name, num_classes, checkpoint=checkpoint, layers=layers, output=output, aux=aux)
        return Pretrained(model, num_classes, None, *_statistics(source, model, output))
    if not source.has_weights:
        raise ValueError(f"model `{name}` has random weights: give a checkpoint, or a name that stands for trained ones.")
    if source.kind == "transformers":
        found = transformers_pretrained(source, layers, output)
    else:
        _no_layers(name, layers)
        if output == "maps":
            found = segmenter_pretrained(source)
        else:
            found = (torchvision_pretrained if source.kind == "torchvision" else timm_pretrained)(source)
    if num_classes is not None and num_classes != found.num_classes:
        raise ValueError(f"`num_classes` must be what `{name}` has, {found.num_classes}, got {num_classes}. Leave it out.")
    _set_auxiliary(found.model, aux)
    return found


def _set_auxiliary(model: nn.Module, aux: bool) -> None:
    if isinstance(model, Segmenter) and model.auxiliary and not aux:
        model.drop_auxiliary()


def _no_layers(name: str, layers: int | None) -> None:
    if layers is not None:
        raise ValueError(f"`layers` must be left out for `{name}`: only text classifiers named `transformers:...` take it.")


def _statistics(source: Source, model: nn.Module, output: Output) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return the mean and std that weights of this network are usually trained with, ``None`` for both if none is usual."""
    match source.kind:
        case "own":
            return None, None
        case "transformers":
            return transformers_statistics(source, model)
        case _ if output == "maps":
            return segmenter_statistics(source, model)
        case "torchvision":
            return IMAGENET_MEAN, IMAGENET_STD
        case _:
            return timm_statistics(source, model)


def find_own(name: str) -> Callable[..., Any]:
    """Return the user's own ``package.module:callable``; its module is imported.

    Raises:
        ValueError: there is no such module, or nothing of that name in it.
        TypeError: it cannot be called.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"model `{name}` must read `package.module:callable`.")
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise ValueError(
            f"model `{name}`: there is no module `{error.name}`.{suggest(module_name, PREFIXES)} It must be importable:"
            " installed, or in the folder the command runs in."
        ) from error
    try:
        for part in attribute.split("."):
            target = getattr(target, part)
    except AttributeError:
        close = difflib.get_close_matches(attribute, dir(target), n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise ValueError(f"model `{name}`: `{module_name}` has no `{attribute}`.{hint}") from None
    if not callable(target):
        raise TypeError(f"model `{name}`: `{attribute}` must be callable, got {type(target).__name__}.")
    return target


def _own(name: str, num_classes: int) -> nn.Module:
    """Call the user's own ``package.module:callable``."""
    target = find_own(name)
    try:
        model = target(num_classes=num_classes)
    except Exception as error:  # anything may be wrong in it
        raise ValueError(_raised(name, target, num_classes, error)) from error
    if not isinstance(model, nn.Module):
        raise TypeError(f"model `{name}` must return a torch.nn.Module, got {type(model).__name__}.")
    return model


def _raised(name: str, target: Callable[..., object], num_classes: int, error: Exception) -> str:
    """Return the message for a callable that failed: how it was called, what it said, where, and what to do."""
    what = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    called = f"model `{name}` is called as {name.rpartition(':')[2]}(num_classes={num_classes}), which raised {what}"
    try:
        inspect.signature(target).bind(num_classes=num_classes)
    except TypeError:
        return f"{called}. Let it take `num_classes`, and nothing else that has no default."
    except ValueError:  # written in C: it does not tell
        pass
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{called} ({Path(last.filename).name}, line {last.lineno}). Call it yourself with these arguments to see more."
