"""The frozen teacher: always in eval mode, never a gradient, its input and its classes made the student's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from logitkd.reach.inputs import Given, Inputs, call, for_network
from logitkd.reach.label_map import LabelMap
from logitkd.reach.regions.model import RegionModel
from logitkd.reach.signals import Signals, read_output

__all__ = ["Teacher", "check_not_shared"]


class Teacher(nn.Module):
    """A frozen model that yields signals. It is frozen in place: its parameters stop requiring gradients.

    ``signals = finish(network(prepare(images)))``. It stays in eval mode whatever a parent module's ``train()`` says, and
    its outputs are constants that a loss may save for backward (``no_grad``, not inference mode).

    Args:
        model: The trained network.
        num_classes: Classes C of the data.
        scales: Also yield the logits of these regions, see ``RegionModel``; ``None`` for plain logits.
        nested: Pool regions as the authors' code does, see ``pool_cells``.
        pool: Path of the module that averages the last map, for ``scales``; found by itself if ``None``.
        head: Path of the module behind it, likewise.
        renormalize: Turns the student's input into the model's; ``None`` where both are normalised alike.
        label_map: From the model's classes to the data's; ``None`` where they are the same.
        role: Whose inputs it takes of a batch that has each network's own.
        dense: The network answers for every cell of a grid of each image, see ``checked_map``: its signals are dense, its
            streams among them.

    Raises:
        ValueError: The model says that it has another number of classes, or the label map leads to another; with
            ``scales``, ``pool`` or ``head`` is no module of the model, or the network is dense.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        num_classes: int,
        scales: Sequence[int] | None = None,
        nested: bool = False,
        pool: str | None = None,
        head: str | None = None,
        renormalize: nn.Module | None = None,
        label_map: LabelMap | None = None,
        role: str = "teacher",
        dense: bool = False,
    ) -> None:
        super().__init__()
        if label_map is not None and label_map.num_classes != num_classes:
            raise ValueError(
                f"the label map must lead to {num_classes} classes, as the data have, got {label_map.num_classes}."
            )
        self.num_classes = num_classes
        self._regions = (nested, pool, head)
        self.network: nn.Module = model
        self.renormalize = renormalize
        self.label_map = label_map
        self.role = role
        self.dense = dense
        says = getattr(model, "num_classes", None)
        if isinstance(says, int):
            self._check_classes(says, "built")
        self._watched: list[nn.Module] | None = None
        self.requires_grad_(False)
        self.yield_regions(scales)

    def yield_regions(self, scales: Sequence[int] | None) -> None:
        """Yield the regions of these ``scales`` from now on, or none; see the class's arguments."""
        if scales is not None and self.dense:
            raise ValueError(
                f"`scales` must be None for a dense network, got {tuple(scales)}: regions are those of a network that averages"
                " its last map, and each cell of this one has logits of its own."
            )
        nested, pool, head = self._regions
        self.network = self.model if scales is None else RegionModel(self.model, scales, nested, pool=pool, head=head)
        self.train(False)

    @property
    def scales(self) -> tuple[int, ...] | None:
        """Of the regions that it yields."""
        return self.network.scales if isinstance(self.network, RegionModel) else None

    @property
    def model(self) -> nn.Module:
        """The trained network as it was given."""
        return self.network.model if isinstance(self.network, RegionModel) else self.network

    def members(self) -> list[Teacher]:
        """Return the single teachers in it: itself."""
        return [self]

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever ``mode`` says."""
        self._watched = None
        return super().train(False)

    def prepare(self, inputs: Given) -> Inputs:
        """Return of a batch's inputs what the model takes: its own texts, images normalised by its own mean and std.

        Raises:
            TypeError: they are to be normalised but have names.
        """
        inputs = for_network(inputs, self.role)
        if self.renormalize is None:
            return inputs
        if not isinstance(inputs, Tensor):
            raise TypeError(f"`renormalize` must be given images, one tensor, got inputs by name ({', '.join(inputs)}).")
        return self.renormalize(inputs)

    def finish(self, logits: Tensor) -> Tensor:
        """Return the model's logits ``(..., own classes)`` over the data's classes, ``(..., C)``.

        Raises:
            ValueError: The last axis holds another number of classes than the model should have.
        """
        self._check_classes(logits.shape[-1], "trained")
        return logits if self.label_map is None else self.label_map(logits)

    @torch.no_grad()
    def logits(self, inputs: Given) -> Tensor:
        """Return the logits ``(N, C)`` of a batch alone, without what ``scales`` asks for; dense ``(N, C, h, w)``."""
        self.check_mode()
        signals = read_output(call(self.model, self.prepare(inputs)), "teacher", self.dense)
        return self.finish(signals.logits).movedim(-1, 1)  # of (N, C) the same axis

    def forward(self, inputs: Given) -> Signals:
        """Return the signals of a batch, images ``(N, 3, H, W)`` or several inputs by name.

        Raises:
            TypeError: The model returns no tensor, dense neither a map nor a mapping with one.
            ValueError: The logits are not ``(N, own classes)``, dense ``(N, own classes, h, w)``, or a part of the model was
                put in training mode.
        """
        return self.answer(self.prepare(inputs))

    @torch.no_grad()
    def answer(self, prepared: Inputs) -> Signals:
        """Return the signals of a batch that is as the model wants it; errors as :meth:`forward`."""
        self.check_mode()
        if isinstance(self.network, RegionModel):
            signals = self.network(prepared)
        else:
            signals = read_output(call(self.network, prepared), "teacher", self.dense)
        return self.finish_all(signals)

    def finish_all(self, signals: Signals) -> Signals:
        """Return the model's signals over the data's classes, see :meth:`finish`."""
        regions = None if signals.regions is None else self.finish(signals.regions)
        return Signals(self.finish(signals.logits), regions, streams=tree_map(self.finish, signals.streams))

    def _check_classes(self, count: int, how: str) -> None:
        if self.label_map is None and count != self.num_classes:
            raise ValueError(
                f"the teacher must have {self.num_classes} classes, as the data, got {count}: it was {how} for other classes."
                " Give another teacher, or a label map from its classes to the data's."
            )
        if self.label_map is not None and count != self.label_map.teacher_classes:
            raise ValueError(
                f"the teacher must have {self.label_map.teacher_classes} classes, as its label map, got {count}: it was"
                f" {how} for other classes."
            )

    def check_mode(self) -> None:
        """Raise ``ValueError`` if a part was put in training mode: dropout and batch statistics would teach noise."""
        if torch.compiler.is_compiling():
            return
        if self._watched is None:  # walking the modules costs more than looking at each: once, until the next `eval()`
            self._watched = list(self.network.modules())
        if any(module.training for module in self._watched):
            names = [name or "the whole model" for name, module in self.model.named_modules() if module.training]
            raise ValueError(
                f"the teacher must stay in eval mode, got {len(names)} of its modules in training mode ({', '.join(names[:3])}"
                f"{', ...' if len(names) > 3 else ''}): something called `.train()` on them. Call `teacher.eval()`."
            )


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
