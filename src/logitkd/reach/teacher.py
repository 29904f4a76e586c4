"""The frozen teacher: always in eval mode, never a gradient, its class count checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from logitkd.reach.regions import RegionModel
from logitkd.reach.signals import Signals, check_logits

__all__ = ["Teacher", "check_not_shared"]


class Teacher(nn.Module):
    """A frozen model that yields signals. It is frozen in place: its parameters stop requiring gradients.

    It stays in eval mode whatever a parent module's ``train()`` says, and its outputs are constants that a loss may save
    for backward (``no_grad``, not inference mode).

    Args:
        model: The trained network; with ``scales`` it needs timm's interface.
        num_classes: Classes C of the data.
        scales: Also yield the logits of these regions, see ``RegionModel``; ``None`` for plain logits.
        nested: Pool regions as the authors' code does, see ``pool_cells``.

    Raises:
        TypeError: ``scales`` are given and the model lacks timm's interface.
        ValueError: The model says that it has another number of classes.
    """

    def __init__(
        self, model: nn.Module, *, num_classes: int, scales: Sequence[int] | None = None, nested: bool = False
    ) -> None:
        super().__init__()
        says = getattr(model, "num_classes", None)
        if isinstance(says, int) and says != num_classes:
            raise ValueError(
                f"the teacher must have {num_classes} classes, as the data, got {says}: it was built for other classes."
            )
        self.num_classes = num_classes
        self.network = model if scales is None else RegionModel(model, scales, nested)
        self.requires_grad_(False)
        self.train(False)

    @property
    def model(self) -> nn.Module:
        """The trained network as it was given."""
        return self.network.model if isinstance(self.network, RegionModel) else self.network

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever ``mode`` says."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Signals:
        """Return the signals of images ``(N, 3, H, W)``.

        Raises:
            TypeError: The model returns no tensor.
            ValueError: The logits are not ``(N, num_classes)``.
        """
        output = self.network(images)
        signals = output if isinstance(output, Signals) else Signals(output)
        check_logits(signals.logits, "teacher", self.num_classes)
        return signals


def check_not_shared(student: nn.Module, teacher: nn.Module) -> None:
    """Raise ``ValueError`` if student and teacher share a tensor: freezing the teacher would freeze the student.

    >>> layer = nn.Linear(2, 2)
    >>> check_not_shared(layer, nn.Linear(2, 2))
    >>> check_not_shared(layer, nn.Sequential(layer))
    Traceback (most recent call last):
    ValueError: student and teacher must not share tensors, got 2 shared (weight, bias): pass `copy.deepcopy(model)`.
    """
    held = {tensor.untyped_storage().data_ptr() for _, tensor in _tensors(teacher)}
    shared = [name for name, tensor in _tensors(student) if tensor.untyped_storage().data_ptr() in held]
    if shared:
        names = ", ".join(shared[:4]) + (", ..." if len(shared) > 4 else "")
        raise ValueError(
            f"student and teacher must not share tensors, got {len(shared)} shared ({names}): pass `copy.deepcopy(model)`."
        )


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the named parameters and buffers that have memory."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return [(name, tensor) for name, tensor in named if tensor.numel() and not tensor.is_meta]
