"""What a student is trained on: the task's own loss plus a method's loss, with its weights and warm-up, in sums and masses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint

from logitkd.checks import check_int, check_range
from logitkd.logits import finite, widen
from logitkd.losses.base import Term
from logitkd.reach.signals import Signals
from logitkd.tensor_checks import check_selection, check_targets

if TYPE_CHECKING:
    from logitkd.losses.base import LogitLoss

__all__ = ["Measured", "Objective", "Targets", "Term", "cross_entropy_term"]


@dataclass(frozen=True)
class Targets:
    """What is right for a batch, and what of it counts.

    Args:
        labels: class indices ``(...)``, -1 where one is missing, or class probabilities ``(..., C)``; None for none.
        label_weights: weight of each example in the task's own loss, ``(...)``, at least 0; None weighs all alike. A label
            whose weight is 0 is not read.
        example_weights: weight of each example in distillation, ``(...)``, at least 0: 0 for padding and masked pixels, above
            0 with or without a label. None weighs all alike.
    """

    labels: Tensor | None = None
    label_weights: Tensor | None = None
    example_weights: Tensor | None = None

    def cross_entropy(self, logits: Tensor, class_weights: Tensor | None = None) -> Term:
        """Return the cross-entropy with the labels that are there and count, see :func:`cross_entropy_term`.

        Raises:
            ValueError: labels that do not fit the logits ``(..., C)``, or none at all.
            TypeError: likewise, by their type.
        """
        labels = self.read_labels()
        check_targets(labels, logits, "cross-entropy (`ce_weight` above 0)")
        return cross_entropy_term(logits, labels, class_weights, self.label_weights)  # type: ignore[arg-type]

    def read_labels(self) -> Tensor | None:
        """Return the labels with those of weight 0 missing, whatever stands there; a class probability is 1 / C there."""
        labels, weights = self.labels, self.label_weights
        if labels is None or weights is None:
            return labels
        if labels.is_floating_point():
            return torch.where((weights == 0).unsqueeze(-1), 1 / labels.shape[-1], labels)
        return torch.where(weights == 0, -1, labels)


@dataclass(frozen=True)
class Measured:
    """The terms of a batch, each with its weight, sum and mass: two of them can be added before anything is divided.

    So accumulated batches, or those of several processes, come to the total of one batch that holds all their examples.

    Args:
        weights: what each term is multiplied by in the total.
        terms: each term's sum and mass.
    """

    weights: Mapping[str, float]
    terms: Mapping[str, Term]

    def __add__(self, other: Measured) -> Measured:
        """Add sums and masses.

        Raises:
            ValueError: the other has other terms or weights: it is of another objective or epoch.
        """
        if self.weights != other.weights:
            raise ValueError(f"what is added must have the same weights, {dict(self.weights)}, got {dict(other.weights)}.")
        return Measured(self.weights, {name: term + other.terms[name] for name, term in self.terms.items()})

    def total(self) -> Tensor:
        """Return the sum over the terms of ``weight * sum / mass``, a scalar with gradient; a term of no mass adds 0."""
        parts = [self.weights[name] * term.mean() for name, term in self.terms.items()]
        return sum(parts[1:], start=parts[0])


def cross_entropy_term(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, label_weights: Tensor | None = None
) -> Term:
    """Return the cross-entropy in nats as sum and mass, each weighed by class and example; nothing waits for the device.

    ::

        w[n, c] = label_weights[n] * class_weights[c] * labels[n, c]     # one-hot for a class index, zeros where it is missing
        sum  = sum_nc(-w[n, c] * log_softmax(logits)[n, c])
        mass = sum_nc(w[n, c])

    Args:
        logits: ``(..., C)``.
        labels: class indices ``(...)``, -1 where missing, or class probabilities ``(..., C)``.
        class_weights: ``(C,)``, each above 0; None weighs all alike.
        label_weights: ``(...)``, each at least 0; None weighs all alike. Where it is 0 the label is not read.

    Differs: from ``F.cross_entropy`` in mixed labels with class weights, where torch divides by the number of examples. Here
    a one-hot row is its class index.
    """
    logits = widen(logits).flatten(0, -2)
    weight = None if class_weights is None else class_weights.to(logits.dtype)
    own = None if label_weights is None else label_weights.detach().flatten().to(logits.dtype)
    if labels.is_floating_point():
        labels = labels.reshape(logits.shape).to(logits.dtype)
        if own is not None:
            labels = torch.where(own.unsqueeze(1) == 0, 0.0, labels * own.unsqueeze(1))
        mass = labels if weight is None else labels * weight
        return Term(F.cross_entropy(finite(logits), labels, weight, reduction="sum"), mass.sum())
    labels = labels.flatten()
    if own is not None:
        labels = torch.where(own == 0, -1, labels)
    labelled = labels >= 0
    if own is None:
        total = F.cross_entropy(logits, labels, weight, ignore_index=-1, reduction="sum")
    else:
        values = F.cross_entropy(logits, labels, weight, ignore_index=-1, reduction="none")
        total = torch.where(labelled, values * own, 0.0).sum()
    if weight is None and own is None:
        return Term(total, labelled.sum())
    counts = torch.ones_like(labels, dtype=logits.dtype) if weight is None else weight[labels.clamp(min=0)]
    return Term(total, torch.where(labelled, counts if own is None else counts * own, 0.0).sum())


class Objective(nn.Module):
    """``ce_weight * task + warmup(epoch) * kd_weight * loss``, ``warmup = min(epoch / warmup_epochs, 1)``.

    The task's own loss is the cross-entropy over the labelled examples, 0 where there is none, unless the task gives others;
    the loss reads all valid examples, labelled or not. Terms that a loss names in ``unscaled_terms`` (iCD's Gram term,
    Block-KD's task) are added with their own weight only.

    Args:
        loss: a distillation loss; None trains on the labels alone.
        ce_weight: weight of the task's own loss, the cross-entropy with the labels; 0 needs no labels for it.
        kd_weight: weight of the loss.
        warmup_epochs: epochs over which the weight of the loss grows to ``kd_weight``; 0 for none.
        class_weights: ``(C,)``, a weight above 0 for each class in the cross-entropy; see :func:`cross_entropy_term`.
        streams: further logits of the student that are trained likewise, such as an auxiliary head's ``{"aux": 0.4}``: their
            names in ``Signals.streams``, and what their terms' weights are multiplied by. The loss is also measured on each
            that the student has, against the teacher's of that name or else its logits; ``kd`` is called ``kd_aux`` there. So
            are the task's own terms of them, such as ``ce_aux``.

    >>> from logitkd.losses import KDLoss
    >>> from logitkd.reach import Signals
    >>> signals, labels = Signals(torch.zeros(2, 4)), torch.tensor([1, -1])
    >>> total, terms = Objective(KDLoss())(signals, signals, labels, epoch=1)
    >>> {name: round(float(value), 4) for name, value in terms.items()}
    {'ce': 1.3863, 'kd': 0.0}
    """

    class_weights: Tensor | None

    def __init__(
        self,
        loss: LogitLoss | None,
        ce_weight: float = 1.0,
        kd_weight: float = 1.0,
        warmup_epochs: int = 0,
        *,
        class_weights: Tensor | None = None,
        streams: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        check_range("ce_weight", ce_weight, 0, None)
        for stream, share in streams.items():
            check_range(f"streams[{stream!r}]", share, 0, None)
        check_range("kd_weight", kd_weight, 0, None)
        check_int("warmup_epochs", warmup_epochs, 0)
        if loss is None and ce_weight == 0:
            raise ValueError(
                "`ce_weight` must be above 0 where there is no distillation loss, got 0: nothing would be trained."
            )
        self.loss, self.ce_weight, self.kd_weight, self.warmup_epochs = loss, ce_weight, kd_weight, warmup_epochs
        self.streams = dict(streams)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def warmup(self, epoch: int) -> float:
        """Return the share of ``kd_weight`` in force at ``epoch``, counted from 1.

        >>> Objective(None, warmup_epochs=20).warmup(5)
        0.25
        """
        check_int("epoch", epoch, 1, None, "epochs are counted from 1")
        return min(epoch / self.warmup_epochs, 1.0) if self.warmup_epochs else 1.0

    def forward(
        self,
        student: Signals,
        teacher: Signals | None,
        targets: Targets | Tensor | None,
        epoch: int,
        task_terms: Mapping[str, Term] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total, a scalar with gradient, and each named term: detached means, unweighted.

        Arguments as of :meth:`measure`.
        """
        measured = self.measure(student, teacher, targets, epoch, task_terms)
        return measured.total(), {name: term.mean().detach() for name, term in measured.terms.items()}

    def measure(
        self,
        student: Signals,
        teacher: Signals | None,
        targets: Targets | Tensor | None,
        epoch: int,
        task_terms: Mapping[str, Term] | None = None,
    ) -> Measured:
        """Return every term's weight, sum and mass.

        Args:
            student: what the student's forward pass yielded.
            teacher: the same of the teacher; None where there is no distillation loss.
            targets: what is right and what counts, or labels alone. A loss that needs labels takes neither -1 nor
                probabilities, but where the example's weight is 0.
            epoch: the current epoch, counted from 1.
            task_terms: the task's own loss, its terms by name; by default ``ce``, the cross-entropy with ``targets.labels``,
                and ``ce_STREAM`` of each stream. Not read where ``ce_weight`` is 0.
        """
        if not isinstance(targets, Targets):
            targets = Targets(targets)
        weights: dict[str, float] = {}
        terms: dict[str, Term] = {}
        heads = {f"_{name}": (name, share) for name, share in self.streams.items() if name in student.streams}
        if self.ce_weight > 0:
            if task_terms is None:
                logits = {"ce": student.logits} | {f"ce{end}": student.streams[name] for end, (name, _) in heads.items()}
                task_terms = {name: targets.cross_entropy(each, self.class_weights) for name, each in logits.items()}
            terms |= task_terms
            for name in task_terms:
                share = next((share for end, (_, share) in heads.items() if name.endswith(end)), 1.0)
                weights[name] = self.ce_weight * share
        if self.loss is not None:
            if teacher is None:
                raise ValueError(f"`teacher` must be given for {type(self.loss).__name__}, got None.")
            scale = self.kd_weight * self.warmup(epoch)
            measured = [("", 1.0, self.loss, student, teacher)]
            for end, (name, share) in heads.items():
                theirs = teacher.streams.get(name, teacher.logits)
                measured.append((end, share, self.loss.on_stream, Signals(student.streams[name]), Signals(theirs)))
            for end, share, loss, mine, other in measured:
                for name, term in self._distill(loss, loss.read(mine, other), targets).items():
                    terms[f"{name}{end}"] = term
                    weight = loss.term_weights[name] * (1.0 if name in loss.unscaled_terms else scale)
                    weights[f"{name}{end}"] = weight * share
        return Measured(weights, terms)

    @staticmethod
    def _distill(loss: LogitLoss, read: dict[str, Any], targets: Targets) -> dict[str, Term]:
        weights, labels, label_weights = targets.example_weights, targets.labels, targets.label_weights
        if weights is not None and not loss.per_example:
            # What compares the examples of a batch with each other is given those that count, and no others.
            check_selection(weights, type(loss).__name__)
            keep = weights != 0
            if not keep.any():
                nothing = (finite(read["student_logits"]) * 0).sum()
                return {name: Term(nothing, torch.zeros_like(nothing)) for name in loss.term_weights}
            read = tree_map(lambda value: value[keep], read)
            labels, weights = None if labels is None else labels[keep], None
            label_weights = None if label_weights is None else label_weights[keep]
        if loss.labelled_terms:
            labels = Targets(labels, label_weights).read_labels()
        labels = loss.readable(labels, weights, read["student_logits"])
        if loss.reads_weights:
            read["weights"] = weights
        if loss.recompute and read["student_logits"].ndim > 3:
            terms = checkpoint(loss.terms, **read, labels=labels, use_reentrant=False, preserve_rng_state=False)
        else:
            terms = loss.terms(**read, labels=labels)
        return loss.measure(terms, labels, weights, label_weights)
