"""Several frozen teachers that speak as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn

from logitkd.checks import check_choice
from logitkd.reach.inputs import Given
from logitkd.reach.resize import grid_size, resize_map
from logitkd.reach.signals import Signals
from logitkd.reach.teacher import Teacher

__all__ = ["Ensemble"]


class Ensemble(nn.Module):
    """The mean of several teachers, used as one :class:`Teacher` is; each keeps its own normalisation and label map.

    ``probabilities`` (of temperature 1) weighs all alike whatever the scale of their logits; ``logits`` lets a teacher of
    larger logits say more::

        probabilities: log(mean_m(softmax(logits_m)))
        logits:        mean_m(logits_m)

    Dense teachers of unlike grids are brought onto the coarsest of them first, see ``resize_map``; their streams are left.

    Args:
        teachers: at least two, for the same classes; with the same scales, or all with none; all dense, or none.
        combine: what to average.

    Raises:
        ValueError: fewer than two teachers, teachers for different numbers of classes, dense ones beside others, or
            another word than these.
    """

    def __init__(self, teachers: Sequence[Teacher], combine: Literal["probabilities", "logits"] = "probabilities") -> None:
        super().__init__()
        check_choice("combine", combine, ["probabilities", "logits"])
        if len(teachers) < 2:
            raise ValueError(f"several teachers are at least 2, got {len(teachers)}.")
        counts = [teacher.num_classes for teacher in teachers]
        if len(set(counts)) > 1:
            raise ValueError(f"several teachers must end in the same classes, got {', '.join(map(str, counts))} of them.")
        if len({teacher.dense for teacher in teachers}) > 1:
            raise ValueError(
                "several teachers must all be dense, or none, got "
                f"{', '.join('dense' if teacher.dense else 'one answer an example' for teacher in teachers)}."
            )
        self.num_classes, self.dense = counts[0], teachers[0].dense
        self.combine = combine
        self.teachers = nn.ModuleList(teachers)
        self.train(False)

    def members(self) -> list[Teacher]:
        """Return the single teachers in it."""
        return [teacher for teacher in self.teachers if isinstance(teacher, Teacher)]

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever ``mode`` says."""
        return super().train(False)

    @torch.no_grad()
    def logits(self, inputs: Given) -> Tensor:
        """Return the logits ``(N, C)`` of a batch alone; dense ``(N, C, h, w)``."""
        return self._mean([teacher.logits(inputs).movedim(1, -1) for teacher in self.members()]).movedim(-1, 1)

    @torch.no_grad()
    def forward(self, inputs: Given) -> Signals:
        """Return the signals of a batch; see :meth:`Teacher.forward` for what is raised."""
        signals = [teacher(inputs) for teacher in self.members()]
        regions = [one.regions for one in signals if one.regions is not None]
        return Signals(self._mean([one.logits for one in signals]), self._mean(regions) if regions else None)

    def _mean(self, logits: Sequence[Tensor]) -> Tensor:
        if self.dense:
            size = min((grid_size(each) for each in logits), key=math.prod)
            logits = [resize_map(each, size) for each in logits]
        stacked = torch.stack([each.float() for each in logits])  # (M, ..., C)
        if self.combine == "logits":
            return stacked.mean(0)
        return stacked.log_softmax(-1).logsumexp(0) - math.log(len(logits))
