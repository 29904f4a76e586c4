"""SDD: Luo, "Scale Decoupled Distillation", CVPR 2024, arXiv 2403.13512."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from logitkd.checks import check_choice, check_int, check_range, shown
from logitkd.losses.base import LogitLoss, check_inner
from logitkd.tensor_checks import check_labels, check_logits

if TYPE_CHECKING:
    from logitkd.reach.signals import Signals

__all__ = ["RegionLoss", "SDDLoss", "check_regions", "check_scales"]


def check_scales(scales: Sequence[int]) -> tuple[int, ...]:
    """Return ``scales`` as a tuple; raise unless it is a non-empty, ascending list of grid sizes."""
    if not isinstance(scales, Sequence) or isinstance(scales, str):
        raise TypeError(f"`scales` must be a list of grid sizes, such as (1, 2, 4), got {shown(scales)}.")
    scales = tuple(scales)
    for scale in scales:
        check_int("scales", scale, 1)
    if not scales or list(scales) != sorted(set(scales)):
        raise ValueError(f"`scales` must be ascending grid sizes without repeats, such as (1, 2, 4), got {scales}.")
    return scales


def check_regions(regions: Tensor, scales: tuple[int, ...], name: str) -> None:
    """Raise unless ``regions`` is ``(N, S, C)`` with one region for each cell of each scale."""
    if not isinstance(regions, Tensor):
        raise TypeError(
            f"`{name}` must be a tensor (N, S, C), got {type(regions).__name__}. Pass the `regions` of its Signals."
        )
    expected = sum(m * m for m in scales)
    if regions.ndim != 3 or regions.shape[1] != expected:
        raise ValueError(
            f"`{name}` must have shape (N, {expected}, C), one region for each cell of scales {scales}, "
            f"got {tuple(regions.shape)}. Region logits come from logitkd.reach.RegionModel(model, scales={scales})."
        )


class RegionLoss(LogitLoss):
    """A loss that reads regions, see :class:`LogitLoss`.

    Attributes:
        scales: grid sizes of the regions.
    """

    reads: ClassVar[str] = "regions"
    scales: tuple[int, ...]

    def read(self, student: Signals, teacher: Signals) -> dict[str, Any]:
        """Return the regions of both."""
        if student.regions is None or teacher.regions is None:
            raise ValueError(f"{type(self).__name__} reads region logits: wrap both models in logitkd.reach.RegionModel.")
        return {"student_logits": student.regions, "teacher_logits": teacher.regions}

    def check_classes(self, num_classes: int) -> None:
        """Raise ``ValueError`` if a hyper-parameter does not fit the number of classes."""
        zeros = torch.zeros(1, sum(m * m for m in self.scales), num_classes)
        self.terms(zeros, zeros, torch.zeros(1, dtype=torch.int64))


class SDDLoss(RegionLoss):
    """Any per-example loss on every region of the image, doubled where a region and the whole disagree.

    ::

        for every example n and region s:
            weight = 1 if the teacher is right about y[n] on both region s and region 0, or wrong on both, else disagreement
            # judge="teacher": weight = 1 if the teacher predicts one class on region s and region 0, else disagreement
            loss  += weight * base(student[n, s], teacher[n, s], y[n])
        loss /= N * S                                      # not by the sum of the weights

    Args:
        loss: the per-example loss of a region; reads logits.
        scales: grid sizes of the regions, coarse first: (1, 2, 4) for unlike networks, (1, 2) for like ones. Region 0 is the
            whole image, so the first must be 1.
        disagreement: weight of a region whose teacher prediction is right where the global one is wrong, or the reverse.
        judge: what is right: the ``label``, or the ``teacher``'s own prediction for the whole image (needs no labels).

    Its terms are those of ``loss``, each averaged over an example's regions, with their own weights.

    Differs: ``judge="teacher"`` is ours, for images without labels. Nothing is zeroed; where the authors replace a NaN or
    infinite loss by 0, ours stays finite or stops the run.

    Source: section 3 of the paper; SDD-CVPR2024 and iCD ``mdistiller/distillers/SDD_KD.py``, ``SDD_DKD.py``.

    >>> import torch
    >>> from logitkd.losses import KDLoss
    >>> regions = torch.zeros(2, 5, 10)                                          # (N, S, C), S = 1 + 4
    >>> float(SDDLoss(KDLoss(), scales=(1, 2))(regions, regions, torch.tensor([3, 4])))
    0.0
    """

    without_labels = MappingProxyType({"judge": "teacher"})

    def __init__(
        self,
        loss: LogitLoss,
        scales: Sequence[int] = (1, 2, 4),
        disagreement: float = 2.0,
        judge: Literal["label", "teacher"] = "label",
    ) -> None:
        check_inner("loss", loss, ("logits",))
        if not loss.per_example:
            raise ValueError(
                f"`loss` must be a per-example loss, got {type(loss).__name__}, "
                "which compares the examples of a batch with each other."
            )
        check_range("disagreement", disagreement, 0, None)
        check_choice("judge", judge, ["label", "teacher"])
        super().__init__(loss.term_weights)
        self.loss, self.scales, self.disagreement = loss, check_scales(scales), disagreement
        self.judge, self.needs_labels = judge, judge == "label" or loss.needs_labels
        if self.scales[0] != 1:
            raise ValueError(f"`scales` must start with 1 (region 0 is the whole image), got {self.scales}.")

    def terms(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the terms of ``loss`` per example, averaged over its weighted regions.

        Args:
            student_logits: ``(N, S, C)``, region 0 the whole image.
            teacher_logits: same shape.
            labels: ``(N,)``; not used, may be None, where neither the judge nor ``loss`` needs them.
        """
        check_regions(student_logits, self.scales, "student_logits")
        check_logits(student_logits, teacher_logits)
        predicted = teacher_logits.detach().argmax(-1)  # (N, S)
        region_labels = None
        truth = predicted[:, :1]
        if self.needs_labels:
            check_labels(labels, student_logits[:, 0], "SDD" if self.judge == "label" else type(self.loss).__name__)
            region_labels = labels.unsqueeze(-1).expand(student_logits.shape[:-1])  # type: ignore[union-attr]
            truth = region_labels if self.judge == "label" else truth
        right = predicted == truth
        weights = torch.where(right == right[:, :1], 1.0, self.disagreement)
        terms = self.loss.terms(student_logits, teacher_logits, region_labels)
        return {name: (weights * value.view_as(weights)).mean(-1) for name, value in terms.items()}
