"""The frozen teacher as a source of signals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from logitkd.data import Batch
from logitkd.reach import RegionModel, Teacher, Tutor, Wants
from logitkd.reach.inputs import Inputs
from plain_network import Plain

BATCH = Batch(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(2), torch.arange(2))


def test_regions_are_asked_for_once() -> None:
    teacher = Teacher(Plain(), num_classes=5)
    tutor = Tutor(teacher, Wants("regions", (1, 2)))
    asked = teacher.network
    assert isinstance(asked, RegionModel)
    assert Tutor(teacher, tutor.wants).teacher.members()[0].network is asked
    more = Tutor(teacher, Wants("regions", (1, 2, 4))).teach(BATCH, 1).signals.regions
    assert more is not None
    assert more.shape == (2, 21, 5)
    assert Tutor(teacher, Wants()).teach(BATCH, 1).signals.regions is None
    assert not any(module.training for module in teacher.modules())


def test_a_teacher_in_training_mode_is_caught() -> None:
    tutor = Tutor(Teacher(Plain(), num_classes=5), Wants())
    tutor.teach(BATCH, 1)
    tutor.teacher.members()[0].model.first.train()  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="the teacher must stay in eval mode"):
        tutor.teach(BATCH, 1)


def test_who_watches_is_given_what_each_pass_left() -> None:
    tutor = Tutor(Teacher(Plain(), num_classes=5), Wants())
    passes: list[Inputs] = []

    @contextmanager
    def recording(inputs: Inputs) -> Iterator[int]:
        passes.append(inputs)
        yield len(passes)

    tutor.watch("me", recording)
    assert [tutor.teach(BATCH, 1).memo["me"] for _ in range(2)] == [1, 2]
    assert passes[0] is BATCH.inputs
    tutor.unwatch("me")
    assert tutor.teach(BATCH, 1).memo == {}
