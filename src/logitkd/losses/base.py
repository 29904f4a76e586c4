"""What every logit loss shares: named per-example terms in, one weighted scalar out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from logitkd.tensor_checks import check_label_shape, check_weights

__all__ = ["LogitLoss", "Signal", "check_inner"]

Signal = Literal["logits", "regions", "stones"]


class LogitLoss(nn.Module):
    """A distillation loss on logits: a holder of hyper-parameters around a pure ``xxx_terms`` function.

    A subclass sets ``term_weights`` in its constructor and computes :meth:`terms`; calling it returns their weighted sum,
    averaged over examples. It has no parameters and no state, and nothing in it waits for the device.

    Attributes:
        term_weights: weight of each named term.
        reads: what one forward pass must yield for it: ``logits (N, C)``, ``regions (N, S, C)`` or ``stones``.
        needs_labels: whether ``labels`` must be given.
        without_labels: the constructor's options with which it needs none, where that is a matter of options.
        per_example: whether a batch's value is the mean of its examples' values.
        unscaled_terms: terms that carry their own weight only: an objective applies neither ``kd_weight`` nor warm-up.
    """

    reads: ClassVar[Signal] = "logits"
    needs_labels: bool = False
    without_labels: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    per_example: bool = True
    unscaled_terms: frozenset[str] = frozenset()

    def __init__(self, term_weights: dict[str, float]) -> None:
        super().__init__()
        self.term_weights = term_weights

    @property
    def needs_hard_labels(self) -> bool:
        """Whether every example must have a class index: none missing, none mixed."""
        return self.needs_labels

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return every named term per example ``(N,)``: unweighted, nats, ``temperature ** 2`` included."""
        raise NotImplementedError

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
        return self.reduce(self.example_losses(student_logits, teacher_logits, labels), weights)

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

    def reduce(self, losses: Tensor, weights: Tensor | None) -> Tensor:
        """Return the mean of ``losses`` ``(N,)``, or the mean weighed by ``weights`` as :meth:`readable` let pass."""
        if weights is None:
            return losses.mean()
        weights = weights.detach().reshape(-1).to(losses.dtype)
        # A weight of 0 must also silence an example whose loss overflowed: 0 * inf is NaN.
        weighted = torch.where(weights == 0, 0.0, losses) * weights
        total = weights.sum()
        return weighted.sum() / torch.where(total == 0, 1.0, total)

    def extra_repr(self) -> str:
        """Return the hyper-parameters, for ``repr``."""
        shown = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        shown.pop("training", None)
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def check_inner(name: str, loss: LogitLoss, reads: tuple[Signal, ...], hint: str = "") -> None:
    """Raise unless ``loss``, the argument ``name`` of a loss over other losses, is a loss that reads one of ``reads``."""
    if not isinstance(loss, LogitLoss):
        got = f"the class {loss.__name__}: call it, `{loss.__name__}()`" if isinstance(loss, type) else repr(loss)
        raise TypeError(f"`{name}` must be a loss such as KDLoss(), got {got}.")
    if loss.reads not in reads:
        raise ValueError(
            f"`{name}` must read {' or '.join(reads)}, got {type(loss).__name__}, which reads {loss.reads}. {hint}".rstrip()
        )
