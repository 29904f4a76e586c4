"""A teacher of other classes: its logits brought onto the student's classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from logitkd.checks import listed

__all__ = ["LabelMap"]


class LabelMap(nn.Module):
    """Logits over a teacher's classes become logits over the student's.

    The probability of a student class is the sum over the teacher classes mapped to it, at temperature 1, after teacher
    classes mapped to none are left out::

        mapped[s] = log(sum(exp(logits[t]) for t mapped to s))

    Where one teacher class makes one student class this picks a logit, exactly; sums are computed in float32.

    Args:
        target: for each teacher class the index of its student class, ``None`` to leave it out.
        num_classes: the student's classes C.

    Raises:
        ValueError: an index out of range, or a student class that no teacher class is mapped to.

    >>> LabelMap([1, 0, 1, None], 2)(torch.tensor([[1.0, 3.0, 1.0, 9.0]]))  # log(e + e) = 1.693
    tensor([[3.0000, 1.6931]])
    """

    columns: Tensor
    empty: Tensor

    def __init__(self, target: Sequence[int | None], num_classes: int) -> None:
        super().__init__()
        groups: list[list[int]] = [[] for _ in range(num_classes)]
        for teacher_class, student_class in enumerate(target):
            if student_class is None:
                continue
            if not 0 <= student_class < num_classes:
                raise ValueError(
                    f"a student class must be in [0, {num_classes - 1}], got {student_class} for teacher class {teacher_class}."
                )
            groups[student_class].append(teacher_class)
        holes = [student_class for student_class, group in enumerate(groups) if not group]
        if holes:
            raise ValueError(
                f"every student class needs a teacher class, but none is mapped to {len(holes)} of {num_classes}:"
                f" {listed(holes)}."
            )
        self.teacher_classes = len(target)
        self.num_classes = num_classes
        self.target = tuple(target)
        self.sums = max(map(len, groups)) > 1
        # A row of teacher classes for each student class, filled up to one length with entries that do not count.
        width = max(map(len, groups))
        rows = [group + [group[0]] * (width - len(group)) for group in groups]
        empty = [[False] * len(group) + [True] * (width - len(group)) for group in groups]
        self.register_buffer("columns", torch.tensor(rows).reshape(-1), persistent=False)  # (C * width,)
        self.register_buffer("empty", torch.tensor(empty), persistent=False)  # (C, width)

    def forward(self, logits: Tensor) -> Tensor:
        """Return ``(..., C)`` of the teacher's ``(..., teacher_classes)``."""
        picked = logits.index_select(-1, self.columns)
        if not self.sums:
            return picked
        groups = picked.float().unflatten(-1, self.empty.shape).masked_fill(self.empty, -torch.inf)
        return groups.logsumexp(-1)
