"""What a run leaves in numbers: its steps', kept on the device and read rarely, a line an epoch and, at its end, the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from logitkd.logits import zero_masked
from logitkd.tensor_checks import not_finite

if TYPE_CHECKING:
    from logitkd.training.pupil import StepOutput

__all__ = ["NonFiniteLossError", "StepLog", "epoch_line", "flat_line"]

LARGEST = 1e6  # no trained network has such logits: one that has is diverging
SCORE = "score."  # before the names of what is shown of the student, to tell them from the terms of its loss
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
    """Collects each step's sums and masses on the device and adds them to an epoch's when read.

    Args:
        every: steps between two reads; fewer when the logits kept meanwhile would pass 64 MiB.
        sums: the epoch's to continue with: for each name its sum and its mass; ``count`` are the examples.
        headline: the score that sums of earlier versions hold.
    """

    def __init__(self, every: int, sums: Mapping[str, Any] | None = None, headline: str = "") -> None:
        self.every = every
        self.sums = _upgraded(sums or {}, headline)
        self._names: list[str] = []
        self._rows: list[Tensor] = []
        self._steps: list[tuple[int, int, StepOutput]] = []
        self._bytes = 0

    def add(self, epoch: int, step: int, out: StepOutput) -> bool:
        """Note one step; return whether it is time to :meth:`read`.

        Args:
            epoch: from 1.
            step: steps taken in the epoch, this one included.
            out: what it produced.
        """
        terms = {**out.terms, **{f"{SCORE}{name}": term for name, term in out.scores.items()}}
        self._names = list(terms)
        columns = [out.total, *(number for term in terms.values() for number in term)]
        self._rows.append(torch.stack([number.detach().float() for number in columns]))
        self._steps.append((epoch, step, out))
        logits = out.student_logits
        self._bytes += logits.numel() * logits.element_size() * (1 if out.teacher_logits is None else 2)
        return len(self._rows) >= self.every or self._bytes >= RING_BYTES

    def read(self) -> None:
        """Bring the noted steps to the host, add them to :attr:`sums`, and check them.

        Raises:
            NonFiniteLossError: a term of one of these steps is NaN or infinite.
        """
        if not self._rows:
            return
        rows, steps = torch.stack(self._rows).tolist(), self._steps
        self._rows, self._steps, self._bytes = [], [], 0
        for (total, *numbers), (epoch, step, out) in zip(rows, steps, strict=True):
            found = dict(zip(self._names, zip(numbers[::2], numbers[1::2], strict=True), strict=True))
            if any(number - number != 0 for number in (total, *numbers)):  # NaN or infinite
                raise NonFiniteLossError(_message(_culprit(total, found, epoch, step), out.student_logits, out.teacher_logits))
            count = out.count
            for name, (value, mass) in {"loss": (total * count, count), "count": (count, count), **found}.items():
                before = self.sums.get(name, [0.0, 0.0])
                self.sums[name] = [before[0] + value, before[1] + mass]

    def refuse(self, epoch: int, step: int, student_logits: Tensor, teacher_logits: Tensor | None) -> None:
        """Raise :class:`NonFiniteLossError` when the logits of a step that has no loss are not finite."""
        for role, logits, other in (("student", student_logits, teacher_logits), ("teacher", teacher_logits, student_logits)):
            if logits is not None and not_finite(logits, other).any():
                head = f"the {role}'s logits must be finite at epoch {epoch}, step {step}."
                raise NonFiniteLossError(_message(head, student_logits, teacher_logits))

    def means(self) -> dict[str, float]:
        """Return ``loss`` and each term, averaged over what counts in it, of the examples read so far."""
        return {name: value for name, value in self._means().items() if not name.startswith(SCORE)}

    def scores(self) -> dict[str, float]:
        """Return what is shown of the student, likewise."""
        return {name.removeprefix(SCORE): value for name, value in self._means().items() if name.startswith(SCORE)}

    def _means(self) -> dict[str, float]:
        return {name: value / mass for name, (value, mass) in self.sums.items() if mass and name != "count"}


def epoch_line(
    epoch: int, lr: float, log: StepLog, evaluation: dict[str, Any], seconds: float, eval_seconds: float
) -> dict[str, Any]:
    """Return the line of ``metrics.jsonl`` for an epoch.

    Args:
        epoch: from 1.
        lr: its last learning rate.
        log: with all its steps.
        evaluation: the entries ``split``, ``eval`` (the metrics) and ``best`` (so far).
        seconds: how long the steps took.
        eval_seconds: how long the evaluation took.
    """
    means = log.means()
    return {
        "epoch": epoch,
        "lr": lr,
        "loss": means.pop("loss"),
        "train": log.scores(),
        "terms": means,
        **evaluation,
        "seconds": seconds,
        "eval_seconds": eval_seconds,
        "examples_per_second": log.sums["count"][0] / seconds,
    }


def flat_line(line: dict[str, Any]) -> dict[str, float]:
    """Return an epoch's line as trackers take it, a name a number.

    >>> line = {"lr": 0.1, "loss": 2.5, "train": {}, "terms": {"ce": 2.0}, "eval": {"loss": 9.0}, "examples_per_second": 50.0}
    >>> flat_line(line)
    {'lr': 0.1, 'train/loss': 2.5, 'train/ce': 2.0, 'eval/loss': 9.0, 'examples_per_second': 50.0}
    """
    numbers = {"lr": line["lr"], "train/loss": line["loss"]} | {f"train/{name}": value for name, value in line["train"].items()}
    numbers |= {f"train/{name}": value for name, value in line["terms"].items()}
    numbers |= {f"eval/{name}": value for name, value in line["eval"].items()}
    return numbers | {"examples_per_second": line["examples_per_second"]}


def _upgraded(sums: Mapping[str, Any], headline: str) -> dict[str, list[float]]:
    """Return an epoch's sums; those of earlier versions had one number a name, and counted all or all labelled examples.

    >>> _upgraded({"loss": 6.0, "ce": 2.0, "correct": 1.0, "count": 3.0, "labelled": 2.0}, "f1")
    {'loss': [6.0, 3.0], 'ce': [2.0, 2.0], 'score.f1': [100.0, 2.0], 'count': [3.0, 3.0]}
    """
    if all(isinstance(value, (list, tuple)) for value in sums.values()):
        return {name: list(value) for name, value in sums.items()}
    count, labelled = sums["count"], sums.get("labelled", sums["count"])
    upgraded = {}
    for name, value in sums.items():
        if name == "correct":
            upgraded[f"{SCORE}{headline}"] = [100 * value, labelled]
        elif name != "labelled":
            upgraded[name] = [value, labelled if name == "ce" else count]
    return upgraded


def _culprit(total: float, found: dict[str, tuple[float, float]], epoch: int, step: int) -> str:
    terms = {name: value / mass if mass else value for name, (value, mass) in found.items() if not name.startswith(SCORE)}
    terms = {"loss": total, **terms}
    bad = [name for name, value in terms.items() if value - value != 0]
    name = next((n for n in bad if n != "loss"), bad[0])  # the total is not finite because a term is not
    shown = ", ".join(f"{n} {v:.4g}" for n, v in terms.items())
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
