"""Whether an exported file gives the student's logits, and on what images that is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from logitkd.data import DataConfig, load_images, make_loader
from logitkd.exporting.formats import Network
from logitkd.runs.values import validate

__all__ = ["BATCHES", "TOLERANCE", "Input", "Parity", "ParityError", "compare", "read_input"]

BATCHES = (1, 3, 8)  # sizes at which an exported file must agree; it was traced with another one, 2
TOLERANCE = 1e-4  # largest difference of a logit, as a share of the batch's largest logit


class ParityError(ValueError):
    """What was exported does not compute what the student computes."""


class Parity(NamedTuple):
    """How well an exported file agrees with the student.

    Args:
        file: its name.
        gap: largest difference of a logit over all batches.
        allowed: the gap that would have been too large.
    """

    file: str
    gap: float
    allowed: float


@dataclass(frozen=True)
class Input:
    """What the student takes.

    Args:
        images: ``(8, 3, H, W)``, normalised: what the files are compared on.
        mean: of each channel, on the scale where 255 is 1.
        std: of each channel.
        words: what the images are.
    """

    images: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    words: str


@torch.no_grad()
def compare(student: nn.Module, exported: Network, images: Tensor, file: str) -> Parity:
    """Return how well ``exported`` gives the student's logits of the first 1, 3 and 8 ``images``.

    Raises:
        ParityError: not well enough, and ``file`` is named.
    """
    worst, allowed = 0.0, 0.0
    for size in BATCHES:
        batch = images[:size].contiguous()
        wanted = student(batch)
        if not wanted.isfinite().all():
            raise ParityError("the student's logits must be finite, got NaN or infinity: there is nothing to compare with.")
        try:
            found = exported(batch)
        except Exception as error:  # of whatever kind the runtime has
            raise ParityError(f"{file} must take a batch of {size}, got {type(error).__name__}: {error}") from error
        if found.shape != wanted.shape:
            raise ParityError(f"{file} must give {tuple(wanted.shape)} logits for {size} images, got {tuple(found.shape)}.")
        gap, limit = (found - wanted).abs().max().item(), TOLERANCE * wanted.abs().max().item()
        if not gap <= limit:  # NaN is no agreement
            again = (student(batch) - wanted).abs().max().item()
            why = (
                f"The student does not agree with itself either (by {again:.2g}): is a dropout active in eval mode?"
                if not again <= limit
                else "The student computes something else when it is traced."
            )
            raise ParityError(
                f"{file} must give the student's logits within {limit:.2g}, got a difference of {gap:.2g} on a batch of "
                f"{size}. {why} Nothing was exported."
            )
        worst, allowed = max(worst, gap), max(allowed, limit)
    return Parity(file, worst, allowed)


def read_input(record: dict[str, Any]) -> Input:
    """Return what the student takes, from its data where they can be read, else from what the run wrote down.

    Raises:
        ValueError: neither is to be had.
    """
    config, wrote = validate(DataConfig, record["run"]["data"], "data."), record["data"]
    largest = max(BATCHES)
    try:
        seed = record["run"]["seed"] if record["run"].get("data_seed") is None else record["run"]["data_seed"]
        data = load_images(config, seed=seed, labels=record["run"].get("labels", "given"))
        gone = "" if data.fingerprint == wrote.get("fingerprint") else "the data there are not those of the run"
    except (OSError, ValueError) as error:
        data, gone = None, str(error)
    if data is not None and not gone:
        loader = make_loader(data, replace(config, workers=0), train=False, batch_size=largest, device="cpu")
        images = next(iter(loader.epoch(1))).inputs
        words = f"the first {len(images)} evaluation images of the run (`{config.eval_name}`)"
        return Input(images[torch.arange(largest) % len(images)], data.mean, data.std, words)
    if not {"input_size", "mean", "std"} <= wrote.keys():
        raise ValueError(f"the run's data must be there, as its config.yaml does not say what the student takes, but: {gone}")
    mean, std = (torch.tensor(wrote[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    pixels = torch.rand(largest, *wrote["input_size"], generator=torch.Generator().manual_seed(0))
    words = f"{largest} random images (seed 0), as the run's data could not be read here"
    return Input((pixels - mean) / std, tuple(wrote["mean"]), tuple(wrote["std"]), words)
