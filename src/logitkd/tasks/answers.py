"""What a network says of examples that nobody has labelled: predictions, as a person reads them and as they are printed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from logitkd.checks import check_int

if TYPE_CHECKING:
    from logitkd.data import Batch
    from logitkd.data.unseen import Unseen

__all__ = ["Answer", "Answers", "ClassAnswers", "Prediction"]


class Answer(ABC):
    """What is said of one example."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Return it as an object of JSON."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """Return it as rows of a table, each value by its column; a column that is nowhere used is left out."""


@dataclass(frozen=True)
class Prediction(Answer):
    """What the student says of one image or text.

    Args:
        file: its path, as it was given or found in a folder that was given; ``-`` for standard input, ``texts`` for texts
            that were given.
        classes: the most probable classes, the first one first.
        probabilities: theirs, in [0, 1].
        row: where there are several in a file, which one it is, counted from 0.
    """

    file: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    row: int | None = None

    def record(self) -> dict[str, Any]:
        """Return file, row, classes and probabilities."""
        shares = [float(f"{probability:.6g}") for probability in self.probabilities]
        return {**self._place(), "classes": self.classes, "probabilities": shares}

    def rows(self) -> list[dict[str, Any]]:
        """Return a row a class."""
        pairs = enumerate(zip(self.classes, self.probabilities, strict=True), start=1)
        return [{**self._place(), "rank": rank, "class": name, "probability": f"{share:.6g}"} for rank, (name, share) in pairs]

    def _place(self) -> dict[str, Any]:
        return {"file": self.file} | ({} if self.row is None else {"row": self.row})


class Answers(ABC):
    """Makes predictions of what a network returns, batch after batch."""

    @abstractmethod
    def begin(self, files: Sequence[str | Path], examples: Unseen) -> AbstractContextManager[None]:
        """Take over what is predicted, before anything is.

        Args:
            files: as they were given.
            examples: that came of them.

        Returns:
            What is entered while batches are answered. When it ends well, all that belongs to the predictions is where it was
            asked for.

        Raises:
            ValueError: they could not be answered.
        """

    @abstractmethod
    def of(self, output: Any, batch: Batch) -> Sequence[Answer]:
        """Return what the network's output says of each example of a batch.

        Raises:
            ValueError: there is NaN or infinity in it.
        """


class ClassAnswers(Answers):
    """The most probable classes of examples.

    Args:
        classes: in order.
        top: so many of each; by default one.
        output: must be left out.
        units: what a person calls examples.

    Raises:
        ValueError: there are not so many classes, or there is a folder to write to, where nothing is written.
    """

    def __init__(self, classes: Sequence[str], top: int | None, output: str | Path | None, units: str) -> None:
        if output is not None:
            raise ValueError(
                f"`output` must be left out for a run that gives {units} a class each, which are returned, got {output}."
            )
        self._classes, self._top = classes, 1 if top is None else top
        check_int("top", self._top, 1, len(classes), "the run's classes")

    def begin(self, files: Sequence[str | Path], examples: Unseen) -> AbstractContextManager[None]:
        """Take over where examples come from."""
        self._examples = examples
        return nullcontext()

    def of(self, output: Tensor, batch: Batch) -> list[Answer]:
        """Return a prediction a row of logits ``(N, C)``."""
        logits = output.double()
        # Logits are sorted, not probabilities, which may be equal, 1 or 0, where logits are not.
        order = logits.argsort(dim=1, descending=True, stable=True)[:, : self._top]
        shares: Tensor = logits.softmax(dim=1).gather(1, order)
        self._examples.check_numbers(~shares.isnan().any(dim=1), batch.index)
        found: list[Answer] = []
        for index, numbers, probabilities in zip(batch.index.tolist(), order.tolist(), shares.tolist(), strict=True):
            file, row = self._examples.places[index]
            found.append(Prediction(file, tuple(self._classes[number] for number in numbers), tuple(probabilities), row))
        return found
