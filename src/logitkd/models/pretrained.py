"""What a network's source knows of it: its classes, and how its images were normalised."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, nn

from logitkd.models.names import Source

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Pretrained", "check_head", "loading", "reason"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A classifier and what its source says about it.

    Args:
        model: on the CPU, in training mode.
        num_classes: its own classes.
        classes: their names, where the source knows them.
        mean: of each channel, on the scale where 255 is 1, what its images are normalised by; ``None`` where nobody says.
        std: likewise.
    """

    model: nn.Module
    num_classes: int
    classes: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@contextmanager
def loading(source: Source) -> Iterator[None]:
    """Give what fails while a model is fetched and read one form.

    Raises:
        ConnectionError: it is not on this machine and could not be fetched.
        ValueError: it was read, or its folder was there, and does not fit.
    """
    try:
        yield
    except OSError as error:  # what every hub client raises when it finds nothing, offline or not
        if Path(source.inner).expanduser().is_dir():
            raise ValueError(f"model `{source.name}` cannot be read from its folder ({reason(error)}).") from error
        what = f"model `{source.name}`"
        if source.kind == "transformers":  # a folder's name may look like a hub id
            what += f": there is no folder {source.inner} here, so it is taken as a hub id, which"
        raise ConnectionError(
            f"{what} is not on this machine and could not be fetched ({reason(error)}). Check its name and the"
            " connection; without one, fetch it elsewhere, copy it here, and give `local-dir:FOLDER`, `transformers:FOLDER`"
            " or a checkpoint."
        ) from error
    except (RuntimeError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        raise ValueError(f"model `{source.name}`: its weights cannot be loaded ({reason(error)}).") from error


def reason(error: Exception) -> str:
    """Return what an error says, in one line that is not too long."""
    return " ".join(str(error).split()).rstrip(".")[:300]


def check_head(name: str, model: nn.Module, untrained: nn.Module, parts: Sequence[str]) -> None:
    """Check that the classifier of ``model`` was loaded, where a loader may leave it out without a word.

    Args:
        name: what was loaded, for the message.
        model: the loaded network.
        untrained: the same network from the same random numbers, with nothing loaded.
        parts: module paths of its classifier.

    Raises:
        ValueError: a weight of the classifier still has its random values, or is constant.
    """
    now, before = dict(model.named_parameters()), dict(untrained.named_parameters())
    for part in parts:
        key = f"{part}.weight"
        if key in now and _untouched(now[key], before[key]):
            raise ValueError(
                f"model `{name}`: its weights hold no classifier (`{key}` was left random), so it cannot teach. Give one"
                " that was trained to classify."
            )


def _untouched(value: Tensor, before: Tensor) -> bool:
    return bool(value.eq(before).all() or value.eq(value.flatten()[0]).all())
