"""What an export has of its own for each task: a kind; the rest is the same for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from torch import nn

from logitkd.reach.inputs import Inputs

__all__ = ["CONFIG", "Input", "Kind", "Trace", "data_seed"]

CONFIG = "config.json"  # in the export folder


class Trace(NamedTuple):
    """What a network is traced with.

    Args:
        example: its inputs.
        names: of the tensors, in their order.
        axes: those whose length is free, and what they are called; of every tensor.
    """

    example: Inputs
    names: tuple[str, ...]
    axes: Mapping[int, str]


@dataclass(frozen=True)
class Input:
    """What the student takes.

    Args:
        trace: what it is traced with.
        batches: what the exported files are compared on, and each batch's size in words.
        words: what those examples are, in words, for the card.
        facts: what else a kind has to know of them.
    """

    trace: Trace
    batches: Mapping[str, Inputs]
    words: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Kind(ABC):
    """What stands beside the weights, what inputs files are compared on, and what the card says of them.

    Attributes:
        units: what a person calls examples.
        classifier: what a person calls the network, with its article.
        pipeline: what a hub calls the network's task.
        free: what exported programs take, in words.
        options: how the network is built, beside its name.
    """

    units: ClassVar[str]
    classifier: ClassVar[str]
    pipeline: ClassVar[str]
    free: ClassVar[str] = "batches of any size"
    options: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @abstractmethod
    def read_input(self, record: dict[str, Any], folder: Path) -> Input:
        """Return what the student takes, from the run's data where they can be read, else from what the run wrote down.

        Args:
            record: what the run's ``config.yaml`` says.
            folder: the run's.

        Raises:
            ValueError: neither is to be had.
        """

    def trained(self, student: nn.Module, name: str) -> nn.Module:
        """Return what is exported of the run's student: all but what serves training alone.

        Args:
            student: the network, which may be changed.
            name: by which it was built.
        """
        return student

    def fitting(self, student: nn.Module, given: Input) -> Input:
        """Return what the files of this very network can be compared on.

        Args:
            student: as :meth:`whole` returns it.
            given: what networks of the run's data take.
        """
        return given

    def plain(self, student: nn.Module) -> nn.Module:
        """Return the network whose own names the weights are written under."""
        return student

    def whole(self, student: nn.Module) -> nn.Module:
        """Return what exported programs compute, one tensor of logits."""
        return student

    @abstractmethod
    def rebuild(self, student: nn.Module, name: str, weights: Path, classes: Sequence[str]) -> nn.Module:
        """Return the network again, as :meth:`whole` does, with the weights of an exported file.

        Args:
            student: the network that was exported.
            name: by which it was built.
            weights: the safetensors file.
            classes: in order.
        """

    def files(self, given: Input) -> dict[str, bytes]:
        """Return what else lies beside the weights: names and contents.

        Args:
            given: what the student takes.
        """
        return {}

    @abstractmethod
    def check(self, folder: Path, student: nn.Module, name: str, given: Input, formats: Sequence[str]) -> None:
        """Load the finished folder as its card tells others to, and compare.

        Args:
            folder: the export, whole.
            student: the network that was exported.
            name: by which it was built.
            given: what it takes.
            formats: that were written.

        Raises:
            ParityError: it does not load, or does not give the student's logits.
        """

    @abstractmethod
    def facts(self, student: nn.Module, run: dict[str, Any], given: Input) -> dict[str, Any]:
        """Return what other programs read in ``config.json``."""

    def ours(self, run: dict[str, Any]) -> dict[str, Any]:
        """Return what ``config.json`` says under ``logitkd`` for this kind alone."""
        return {}

    @abstractmethod
    def library(self, record: dict[str, Any]) -> str:
        """Return the library that loads the folder, as a hub calls it; ``record`` is that of ``config.json``, as below."""

    @abstractmethod
    def labels(self, record: dict[str, Any]) -> list[str]:
        """Return the names of the classes, in order."""

    def scores(self, accuracy: dict[str, Any], scored: str) -> dict[str, str]:
        """Return the card's rows on how good the student is; this is a classifier's.

        Args:
            accuracy: that block of ``config.json``.
            scored: what it was measured on, in words.
        """
        metrics = accuracy["metrics"]
        more = [f"top-5 {metrics['top5']:.2f} %"] if "top5" in metrics else []
        more += [f"agreement with the teacher {metrics['agreement']:.2f} %"] if "agreement" in metrics else []
        more += [f"expected calibration error {100 * metrics['calibration_error']:.2f} %"]
        return {
            "accuracy": f"top-1 {accuracy['top1']:.2f} % on {scored}, after the last epoch",
            "other metrics": ", ".join(more),
        }

    @abstractmethod
    def input_section(self, record: dict[str, Any]) -> str:
        """Return what the card says of the inputs."""

    @abstractmethod
    def loading(self, record: dict[str, Any]) -> list[str]:
        """Return the card's blocks of Python, one for each file, as few lines as it takes."""


def data_seed(run: Mapping[str, Any]) -> int:
    """Return the seed that decided which examples a run kept; ``run`` is that block of its ``config.yaml``."""
    own: int | None = run.get("data_seed")
    seed: int = run["seed"]
    return seed if own is None else own
