"""What every logit loss shares: named per-example terms in, one weighted scalar out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from logitkd.tensor_checks import check_label_shape, check_weights

if TYPE_CHECKING:
    from logitkd.reach.signals import Signals

__all__ = ["LogitLoss", "Term", "check_inner"]


_LEAST = torch.finfo(torch.float32).tiny


class Term(NamedTuple):
    """A term of a loss over a batch: added up, and what it counts.

    Args:
        sum: over the examples that count, each times its weight: a scalar.
        mass: the sum of their weights: a scalar.
    """

    sum: Tensor
    mass: Tensor

    def __add__(self, other: tuple[Any, ...]) -> Term:
        """Return the term over both batches."""
        return Term(self.sum + other[0], self.mass + other[1])

    def mean(self) -> Tensor:
        """Return ``sum / mass``, 0 where there is no mass."""
        # The sum of no mass is 0, whatever it is then divided by.
        return self.sum / self.mass.clamp(min=_LEAST if self.mass.is_floating_point() else 1)

    @classmethod
    def of(cls, values: Tensor, weights: Tensor | None = None) -> Term:
        """Return the term of the examples' values ``(N,)`` and their weights ``(N,)``; without them each counts 1."""
        if weights is None:
            return cls(values.sum(), torch.full((), values.numel(), dtype=values.dtype, device=values.device))
        weights = weights.detach().reshape(-1).to(values.dtype)
        # A weight of 0 must also silence an example whose value overflowed: 0 * inf is NaN.
        return cls((torch.where(weights == 0, 0.0, values) * weights).sum(), weights.sum())


class LogitLoss(nn.Module):
    """A distillation loss on logits: a holder of hyper-parameters around a pure ``xxx_terms`` function.

    A subclass sets ``term_weights`` in its constructor and computes :meth:`terms`; calling it returns their weighted sum,
    averaged over examples. It has no parameters and no state, and nothing in it waits for the device.

    Attributes:
        term_weights: weight of each named term.
        reads: what one forward pass must yield for it: ``logits (N, C)``, ``maps (N, H, W, C)``, ``regions (N, S, C)``,
            ``stones``, or what another way of reaching into models yields, see :func:`logitkd.reach.register_pair`.
        needs_labels: whether ``labels`` must be given.
        without_labels: the constructor's options with which it needs none, where that is a matter of options.
        per_example: whether a batch's value is the mean of its examples' values.
        reads_weights: whether :meth:`terms` takes the ``weights`` too, as what does not count must not be compared with.
        recompute: whether an objective computes its terms on maps once more in the backward pass: else it would keep more than
            three maps for it.
        labelled_terms: terms that are cross-entropies with the labels: averaged over the labelled examples alone.
        two_classes: what becomes of it where there are two classes alone, in the words that follow its method's name; ``{kd}``
            stands for the method with KD in its place. Empty where it stays what it is.
        two_class_options: the constructor's options with which it takes two classes, where its defaults do not.
        unscaled_terms: terms that carry their own weight only: an objective applies neither ``kd_weight`` nor warm-up.
    """

    reads: ClassVar[str] = "logits"
    needs_labels: bool = False
    without_labels: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    two_class_options: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    per_example: bool = True
    reads_weights: bool = False
    recompute: ClassVar[bool] = False
    labelled_terms: frozenset[str] = frozenset()
    unscaled_terms: frozenset[str] = frozenset()

    def __init__(self, term_weights: dict[str, float]) -> None:
        super().__init__()
        self.term_weights = term_weights

    @property
    def two_classes(self) -> str:
        """What becomes of it with two classes alone: see the class."""
        return ""

    @property
    def needs_hard_labels(self) -> bool:
        """Whether every example must have a class index: none missing, none mixed."""
        return self.needs_labels

    @property
    def on_stream(self) -> LogitLoss:
        """What is measured of it on a further head's logits, such as an auxiliary one's; here all of it."""
        return self

    def read(self, student: Signals, teacher: Signals) -> dict[str, Any]:
        """Return what :meth:`terms` takes of one forward pass of student and teacher, by its arguments' names.

        Raises:
            ValueError: they do not hold it.
        """
        return {"student_logits": student.logits, "teacher_logits": teacher.logits}

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return every named term per example ``(N,)``: unweighted, nats, ``temperature ** 2`` included."""
        raise NotImplementedError

    def check_classes(self, num_classes: int) -> None:
        """Raise ``ValueError`` if a hyper-parameter does not fit the number of classes.

        A loss that reads something else than logits tries itself on what it reads, or has nothing to refuse.
        """
        if self.reads != "logits":
            return
        zeros = torch.zeros(1, num_classes)
        self.terms(zeros, zeros, torch.zeros(1, dtype=torch.int64))

    def unfit(self, output: str) -> str:
        """Return why it cannot be read of networks that return ``classes``, a row of logits an example, or ``maps`` of them.

        Empty where it can.
        """
        if output != "maps":
            one_row = "its loss compares the positions of a map, and networks of this task return a row of logits an example"
            return one_row if self.reads == "maps" else ""
        if self.reads == "regions":
            return "its loss compares the regions of an image that has one label"
        if self.reads == "maps" or self.per_example:
            return ""
        return "its loss compares the examples of a batch with each other, and what that means of pixels is not defined"

    def example_losses(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the weighted sum of the terms of each example, ``(N,)``."""
        return self.weigh(self.terms(student_logits, teacher_logits, labels))

    def weigh(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of ``terms``."""
        parts = [value if self.term_weights[name] == 1 else self.term_weights[name] * value for name, value in terms.items()]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        *,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            student_logits: ``(N, C)`` or ``(..., C)``; losses that read regions: ``(N, S, C)``. -inf here and in
                ``teacher_logits`` masks a class: it is no class of that example, and its gradient is 0.
            teacher_logits: same shape; receives no gradient.
            labels: class indices ``(N,)`` or ``(...)``, int64; only where the loss needs them.
            weights: weight of each example, ``(N,)`` or ``(...)``, finite, at least 0: the result is the weighted mean (0 where
                all weights are 0). Use it for masks, pixels and padding. A label whose weight is 0 is not read: any value will
                do.

        Raises:
            ValueError: shapes, class counts or label values that do not fit.
            TypeError: logits that are not floating point, labels that are not integers.
        """
        if self.reads == "logits" and isinstance(labels, Tensor) and labels.shape != student_logits.shape:  # soft labels pass
            check_label_shape(labels, student_logits)
        labels = self.readable(labels, weights, student_logits)
        return Term.of(self.example_losses(student_logits, teacher_logits, labels), weights).mean()

    def readable(self, labels: Tensor | None, weights: Tensor | None, logits: Tensor) -> Tensor | None:
        """Return ``labels`` with a class that the example has in place of each whose weight is 0.

        Raises:
            ValueError: weights that do not fit.
        """
        if weights is None or not isinstance(logits, Tensor):  # what is no tensor is refused where it is read
            return labels
        if not self.per_example:
            raise ValueError(
                f"`weights` must be None for {type(self).__name__}: it compares the examples of a batch with each other, so a "
                "masked example would still count. Select the examples first: loss(student[keep], teacher[keep])."
            )
        logits = logits[:, 0] if self.reads == "regions" else logits
        check_weights(weights, logits.shape[:-1])
        if not self.needs_labels or not isinstance(labels, Tensor):
            return labels
        unread, best = weights == 0, logits.detach().argmax(-1)
        if labels.dtype == torch.int64 and labels.shape == weights.shape:
            return torch.where(unread, best, labels)
        if labels.is_floating_point() and labels.shape == logits.shape:
            one_hot = torch.zeros_like(labels).scatter(-1, best.unsqueeze(-1), 1.0)
            return torch.where(unread.unsqueeze(-1), one_hot, labels)
        return labels

    def measure(
        self, terms: dict[str, Tensor], labels: Tensor | None, weights: Tensor | None, label_weights: Tensor | None = None
    ) -> dict[str, Term]:
        """Return each term's sum and mass over the examples that count.

        Args:
            terms: what :meth:`terms` returned.
            labels: what it was given.
            weights: weight of each example, as :meth:`readable` let pass; None weighs all alike.
            label_weights: likewise of each label, for ``labelled_terms``; by default the example's.
        """
        labelled = None
        if self.labelled_terms:  # else a step needs none of it
            labelled = _of_labelled(labels, weights if label_weights is None else label_weights)
        return {name: Term.of(value, labelled if name in self.labelled_terms else weights) for name, value in terms.items()}

    def extra_repr(self) -> str:
        """Return the hyper-parameters, for ``repr``."""
        shown = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        shown.pop("training", None)
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def _of_labelled(labels: Tensor | None, weights: Tensor | None) -> Tensor | None:
    """Return the weights of the examples that have a label, 0 for the others; without labels the weights as they are."""
    if labels is None:
        return weights
    mass = labels.sum(-1).flatten() if labels.is_floating_point() else (labels >= 0).flatten()
    return mass if weights is None else mass * weights.flatten()


def check_inner(name: str, loss: LogitLoss, reads: tuple[str, ...], hint: str = "") -> None:
    """Raise unless ``loss``, the argument ``name`` of a loss over other losses, is a loss that reads one of ``reads``."""
    if not isinstance(loss, LogitLoss):
        got = f"the class {loss.__name__}: call it, `{loss.__name__}()`" if isinstance(loss, type) else repr(loss)
        raise TypeError(f"`{name}` must be a loss such as KDLoss(), got {got}.")
    if loss.reads not in reads:
        raise ValueError(
            f"`{name}` must read {' or '.join(reads)}, got {type(loss).__name__}, which reads {loss.reads}. {hint}".rstrip()
        )
