"""What the steps produced, kept on the device and read rarely: one host synchronisation for many steps."""

from __future__ import annotations

import torch
from torch import Tensor

from logitkd.logits import zero_masked
from logitkd.tensor_checks import not_finite

__all__ = ["NonFiniteLossError", "StepLog"]

LARGEST = 1e6  # no trained network has such logits: one that has is diverging
COUNTS = ("correct", "labelled")  # columns that are numbers of examples, not means over them
RING_BYTES = 64 * 2**20  # logits kept for the error message; no copy is made, the tensors are only not freed yet


class NonFiniteLossError(FloatingPointError):
    """A term of the loss became NaN or infinite; the message says which, where, and what the logits looked like."""


def describe(logits: Tensor) -> str:
    """Return min, max, mean and the finite share of ``logits``, over their finite entries.

    >>> describe(torch.tensor([[1.0, 3.0], [float("nan"), 2.0]]))
    'min 1, max 3, mean 2, 75.0 % finite'
    """
    values = logits.detach().double()
    finite = values[values.isfinite()]
    share = 100 * finite.numel() / max(values.numel(), 1)
    if not finite.numel():
        return f"{share:.1f} % finite"
    return f"min {finite.min():.4g}, max {finite.max():.4g}, mean {finite.mean():.4g}, {share:.1f} % finite"


class StepLog:
    """Collects each step's scalars on the device and adds them to an epoch's sums when read.

    Args:
        every: steps between two reads; fewer when the logits kept meanwhile would pass 64 MiB.
        sums: the epoch's sums to continue with.
    """

    def __init__(self, every: int, sums: dict[str, float] | None = None) -> None:
        self.every = every
        self.sums = dict(sums or {})
        self._rows: list[Tensor] = []
        self._logits: list[tuple[int, int, Tensor, Tensor | None]] = []  # epoch, step, student, teacher
        self._names: list[str] = []
        self._counts: list[int] = []
        self._bytes = 0

    def add(
        self,
        epoch: int,
        step: int,
        terms: dict[str, Tensor],
        correct: Tensor,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        labelled: Tensor | None = None,
    ) -> bool:
        """Note one step; return whether it is time to :meth:`read`.

        Args:
            epoch: from 1.
            step: steps taken in the epoch, this one included.
            terms: the total as ``loss`` and each named term: scalars, means over the batch.
            correct: number of right student predictions, a scalar.
            student_logits: ``(N, C)``.
            teacher_logits: ``(N, C)``, or none.
            labelled: number of examples that have a label, a scalar; none where all have.
        """
        columns = {**terms, "correct": correct} | ({} if labelled is None else {"labelled": labelled})
        self._names = list(columns)
        self._rows.append(torch.stack([t.detach().float() for t in columns.values()]))
        self._counts.append(student_logits.shape[0])
        kept = student_logits.detach()
        self._logits.append((epoch, step, kept, teacher_logits))
        self._bytes += kept.numel() * kept.element_size() * (1 if teacher_logits is None else 2)
        return len(self._rows) >= self.every or self._bytes >= RING_BYTES

    def read(self) -> None:
        """Bring the noted steps to the host, add them to :attr:`sums`, and check them.

        Raises:
            NonFiniteLossError: a term of one of these steps is NaN or infinite.
        """
        if not self._rows:
            return
        rows = torch.stack(self._rows).tolist()
        logits, names, counts = self._logits, self._names, self._counts
        self._rows, self._logits, self._counts, self._bytes = [], [], [], 0
        for row, count, (epoch, step, student, teacher) in zip(rows, counts, logits, strict=True):
            labelled = row[names.index("labelled")] if "labelled" in names else count
            for name, value in zip(names, row, strict=True):
                if value - value != 0:  # NaN or infinite
                    terms = dict(zip(names, row, strict=True))
                    raise NonFiniteLossError(_message(_culprit(terms, epoch, step), student, teacher))
                weight = 1 if name in COUNTS else labelled if name == "ce" else count
                self.sums[name] = self.sums.get(name, 0.0) + value * weight
            self.sums["count"] = self.sums.get("count", 0.0) + count

    def refuse(self, epoch: int, step: int, student_logits: Tensor, teacher_logits: Tensor | None) -> None:
        """Raise :class:`NonFiniteLossError` when the logits of a step that has no loss are not finite."""
        for role, logits, other in (("student", student_logits, teacher_logits), ("teacher", teacher_logits, student_logits)):
            if logits is not None and not_finite(logits, other).any():
                head = f"the {role}'s logits must be finite at epoch {epoch}, step {step}."
                raise NonFiniteLossError(_message(head, student_logits, teacher_logits))

    def means(self) -> dict[str, float]:
        """Return each term averaged over the examples read so far, and ``top1`` in percent.

        Cross-entropy and ``top1`` are over the labelled examples; without any there is neither.
        """
        count = self.sums.get("count", 0.0)
        if not count:
            return {}
        labelled = self.sums.get("labelled", count)
        sizes = dict.fromkeys(self.sums, count) | {"ce": labelled}
        means = {
            name: total / sizes[name] for name, total in self.sums.items() if name not in ("count", *COUNTS) and sizes[name]
        }
        return means | ({"top1": 100 * self.sums["correct"] / labelled} if labelled else {})


def _culprit(terms: dict[str, float], epoch: int, step: int) -> str:
    bad = [name for name, value in terms.items() if value - value != 0]
    name = next((n for n in bad if n != "loss"), bad[0])  # the total is not finite because a term is not
    shown = ", ".join(f"{n} {v:.4g}" for n, v in terms.items() if n not in COUNTS)
    return f"the loss term `{name}` must be finite, got {terms[name]} at epoch {epoch}, step {step} ({shown})."


def _message(head: str, student: Tensor, teacher: Tensor | None) -> str:
    if teacher is not None and not_finite(teacher, student).any():
        advice = "The teacher's logits are not finite: check its weights, or use `precision: float32`."
    elif not not_finite(student, teacher).any() and zero_masked(student).abs().max() < LARGEST:
        advice = "The student's logits were finite: the loss itself overflowed."
    else:
        advice = "The student had diverged: try a smaller `optim.lr`, `optim.clip_grad`, or a longer warm-up."
    lines = [
        head,
        f"  student logits: {describe(student)}",
        f"  teacher logits: {describe(teacher) if teacher is not None else 'none'}",
        advice,
    ]
    return "\n".join(lines)
