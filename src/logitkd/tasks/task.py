"""What a task is: what a batch and its targets are, the task's own loss, and how a network is scored on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import torch
from torch import nn

from logitkd.reach.inputs import Given, call, eval_mode

if TYPE_CHECKING:
    from logitkd.data import Batch, Loader
    from logitkd.data.unseen import Unseen
    from logitkd.objective import Targets, Term
    from logitkd.reach.maps import Grid
    from logitkd.reach.signals import Signals
    from logitkd.tasks.answers import Answers
    from logitkd.tasks.gallery import Gallery

D = TypeVar("D")

__all__ = ["Columns", "Meter", "Stopped", "Task", "left_as_learnt", "measure"]

Columns = tuple[tuple[str, str, int], ...]  # of a table of metrics: title, key, factor


class Stopped(Exception):  # noqa: N818 (not an error)
    """The evaluation was asked to stop."""


class Meter(Protocol):
    """Scores a network, batch by batch; what is added up are integers wherever it can be, on the batches' device."""

    def update(self, output: Any, batch: Batch) -> None:
        """Add what the network returned for a batch."""

    def compute(self) -> dict[str, float]:
        """Return the metrics over all batches, the task's headline among them."""


class Task(ABC):
    """One kind of data and score. ``train()`` knows a task by these methods alone; ``tasks.register`` adds one.

    Attributes:
        headline: the metric a person asks for, the higher the better, a key of what a meter computes.
        title: what a person calls it.
        units: what a person calls examples.
        packages: whose versions can change a number of it, beside those that can change any run's.
        table: the metrics that a table shows, in its order; none for all.
        at_once: examples at a time where nothing is learnt and nobody says how many.
        drawn: whether :meth:`gallery` draws examples.
        cost_batches: sizes of the batches that are timed where a network's cost is asked for.
        network_options: how networks are built, beside their names: keyword arguments of ``build_model``.
        streams: weight of each further output of a network that is trained and distilled like the logits, by its name in
            ``Signals.streams``.
        grid: on which grid maps of logits are compared, see ``PairOptions``; None where networks return a row an example.
        named: whether what a network takes depends on its name, such as on the tokenizer that belongs to it.
        settings: the run's: ``data``, ``seed``, ``labels`` and whatever else the task reads of them.
        classes: the name of each class, in label order; known after :meth:`load`.
        train_size: training examples; likewise.
        eval_size: examples of the evaluation split; likewise.
        unlabelled: training examples without a label; likewise.

    Args:
        settings: see there.
    """

    headline: ClassVar[str]
    title: ClassVar[str]
    units: ClassVar[str] = "examples"
    named: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()
    table: ClassVar[Columns] = ()
    at_once: ClassVar[int] = 256
    drawn: ClassVar[bool] = False
    cost_batches: ClassVar[tuple[int, ...]] = (1, 64)
    network_options: Mapping[str, Any] = MappingProxyType({})
    streams: Mapping[str, float] = MappingProxyType({})
    grid: Grid | None = None
    classes: tuple[str, ...]
    train_size: int
    eval_size: int
    unlabelled: int = 0

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def load(self, *, train: bool = True) -> None:
        """Read the data, no network needed.

        Args:
            train: the training split is to be trained on; otherwise nothing of it is looked at, neither which of its examples
                to keep nor whether they are labelled.

        Raises:
            OSError: they are not there.
            ValueError: they are not what the settings say.
        """

    @property
    @abstractmethod
    def split(self) -> str:
        """What the examples are called that every reported score is measured on."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Return what ``config.yaml`` says of the data: ``fingerprint``, ``classes`` and what else a result depends on."""

    def implied(self) -> dict[str, Any]:
        """Return the entries of :meth:`record` that the fingerprint implies and earlier versions did not write."""
        return {}

    def unchanged(self, recorded: Mapping[str, Any]) -> bool:
        """Whether :meth:`record` is known to be what was recorded, without reading the data; otherwise they are loaded."""
        return False

    def assets(self, student: nn.Module) -> dict[str, bytes]:
        """Return what has to lie beside a student's weights for it to be of use, such as a tokenizer: path -> content."""
        return {}

    @abstractmethod
    def summary(self) -> str:
        """Say in a line how much there is and of what."""

    @abstractmethod
    def loader(self, *, train: bool, device: torch.device, batch_size: int | None = None) -> Loader:
        """Return the batches of a split: augmented and in a new order each epoch to train on, else as they are.

        Args:
            train: the training split, not the evaluation's.
            device: where batches are made.
            batch_size: examples a batch; by default the settings'.
        """

    @abstractmethod
    def blank(self, count: int, device: torch.device) -> Given:
        """Return ``count`` blank examples as a network gets them, to show it before time is spent."""

    def cost_inputs(self, device: torch.device) -> dict[str, Callable[[int], Given]]:
        """Return what a network's cost is measured on: sizes of an example in words, and what gives so many of that size."""
        return {"": lambda count: self.blank(count, device)}

    @abstractmethod
    def check_output(self, output: Any, count: int, name: str) -> None:
        """Refuse what a student returned for ``count`` examples if it is not what the task needs.

        Args:
            output: what it returned.
            count: examples.
            name: the student's, for the message.

        Raises:
            TypeError: it is of a wrong kind.
            ValueError: it has a wrong shape.
        """

    def check_network(  # noqa: B027 (most tasks rely on nothing else)
        self, see: Callable[[Given], Any], role: str, name: str, device: torch.device
    ) -> None:
        """Refuse a network that takes the task's inputs and would not do with them what the task relies on.

        Args:
            see: the network in eval mode, from inputs to what it returns.
            role: ``student`` or ``teacher``, for the message.
            name: the network's, likewise.
            device: where it is.

        Raises:
            ValueError: it would not.
        """

    def must_take(self, network: nn.Module, failed: str) -> str:
        """Return the rule that a network broke which failed on blank examples, and the likely fix.

        Args:
            network: the student or a teacher.
            failed: which of them, and how.
        """
        return f"take what the data give and nothing else, but {failed}. Wrap it in a module that does."

    def explain(self, error: str) -> str:
        """Return an error about a network with the task's settings named where they would help."""
        return error

    def teacher_inputs(self, source: Any, own: Mapping[str, Any]) -> nn.Module | None:
        """Return what turns the student's inputs into a teacher's; None where both take the same.

        Args:
            source: the teacher's settings.
            own: what its weights, or the run that trained it, say of the inputs it was trained with.
        """
        return None

    @classmethod
    def as_learnt(cls, data: Any, learnt: Mapping[str, Any]) -> Any:
        """Return the settings of other data so that they are shown as those that a network was trained on.

        Args:
            data: the settings.
            learnt: the block ``data`` of the run that trained the network; empty where no run did.
        """
        return data

    def recall(self, folder: Path, recorded: Mapping[str, Any]) -> None:
        """Take over what a run wrote down of its data, instead of :meth:`load`: they may be gone.

        Args:
            folder: the run's.
            recorded: the block ``data`` of its ``config.yaml``.

        Raises:
            ValueError: something is lacking; or, as here, the task knows no files to predict.
        """
        raise ValueError(
            "`predict` must be given a run of the task images, text or another that reads files, got one of the task "
            f"`{self.settings.task}`."
        )

    def unseen(
        self, files: Sequence[str | Path], texts: Sequence[Any] | None, *, batch_size: int, device: torch.device
    ) -> Unseen:
        """Return examples from a person's files, shown as those of the evaluation split; :meth:`recall` comes first.

        Args:
            files: their paths.
            texts: texts at hand, in place of files.
            batch_size: examples a batch.
            device: where batches are made.

        Raises:
            ValueError: some cannot be read; all such are named.
        """
        raise NotImplementedError

    def answers(self, *, top: int | None, output: str | Path | None) -> Answers:
        """Return what makes predictions of what a network returns; :meth:`recall` comes first.

        Args:
            top: so many classes of each, where an example has one; refused elsewhere.
            output: the folder for what is written; needed where something is, and refused elsewhere.
        """
        raise NotImplementedError

    @abstractmethod
    def targets(self, batch: Batch, student: Signals) -> Targets:
        """Return what is right for a batch and what of it counts."""

    @abstractmethod
    def terms(self, student: Signals, targets: Targets) -> dict[str, Term]:
        """Return the task's own loss, its terms by name."""

    def scores(self, student: Signals, targets: Targets) -> dict[str, Term]:
        """Return what is shown of the student while it trains, measured on the batches it trains on; may be empty."""
        return {}

    @abstractmethod
    def meter(self, device: torch.device, teacher: Meter | None = None) -> Meter:
        """Return a new meter for the evaluation split.

        Args:
            device: where the batches are.
            teacher: the meter that has seen the teacher's answers, for metrics that compare with it.
        """

    def gallery(self, student: Meter, teacher: Meter | None, count: int) -> Gallery:
        """Return ``count`` evaluation examples drawn, with what is right and what the networks said, as their meters saw."""
        raise NotImplementedError

    def rate_teacher(self, meter: Meter) -> float:
        """Return the headline that the teacher came to; warn if it can hardly teach."""
        return meter.compute()[self.headline]


def left_as_learnt(data: D, learnt: Mapping[str, Any], *names: str) -> D:
    """Return settings of data with those of ``names`` that were left out as a run recorded them."""
    usual = {name: plain_tuple(learnt[name]) for name in names if getattr(data, name) is None and learnt.get(name)}
    return replace(data, **usual)  # type: ignore[type-var]


def plain_tuple(value: Any) -> Any:
    """Return a list, and the lists in it, as tuples."""
    return tuple(map(plain_tuple, value)) if isinstance(value, (list, tuple)) else value


@torch.no_grad()
def measure(
    see: nn.Module | Callable[[Any], Any],
    batches: Iterable[Batch],
    meter: Meter,
    stop: Callable[[], bool] = lambda: False,
) -> Meter:
    """Show every batch to a network and return the meter that was given its answers.

    Args:
        see: inputs to what the meter takes; a module is put in evaluation mode, and then gets each part's own mode back.
        batches: of the evaluation split.
        meter: is given every answer.
        stop: asked before each batch.

    Raises:
        Stopped: ``stop`` said so.
    """
    network = isinstance(see, nn.Module)
    with eval_mode(see) if network else nullcontext():  # type: ignore[arg-type]
        for batch in batches:
            if stop():
                raise Stopped
            meter.update(call(see, batch.inputs) if network else see(batch.inputs), batch)  # type: ignore[arg-type]
    return meter
