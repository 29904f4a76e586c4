"""Slow references on plain Python floats, written from the definitions, and the random inputs to compare on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

Row = Sequence[float]

quick = settings(max_examples=25, deadline=None, derandomize=True)
temperatures = st.sampled_from([0.5, 1.0, 2.0, 4.0, 7.3])
seeds = st.integers(0, 10_000)
batches = st.integers(1, 5)


def draw(seed: int, *shape: int, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """Return student logits, teacher logits (float64, of ``shape``) and labels ``(shape[0],)``."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (scale * torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher, torch.randint(shape[-1], shape[:1], generator=generator)


def bounds(size: int, m: int) -> list[tuple[int, int]]:
    """Return where each of m cells of ``size`` rows begins and ends, as adaptive pooling is defined."""
    return [(i * size // m, -(-(i + 1) * size // m)) for i in range(m)]


def softmax(z: Row, temperature: float = 1.0) -> list[float]:
    powers = [math.exp((v - max(z)) / temperature) for v in z]
    return [v / sum(powers) for v in powers]


def kl(a: Row, b: Row) -> float:
    return sum(x * (math.log(x) - math.log(y)) for x, y in zip(a, b, strict=True))


def directed(student: Row, teacher: Row, kl_type: str) -> float:
    """KL of two distributions: teacher first (forward), student first (reverse), or the mean of the two."""
    return {
        "forward": kl(teacher, student),
        "reverse": kl(student, teacher),
        "both": (kl(teacher, student) + kl(student, teacher)) / 2,
    }[kl_type]


def within(student: Row, teacher: Row, group: Iterable[int], temperature: float, kl_type: str = "forward") -> float:
    """``T ** 2 * KL`` of the softmaxes over the classes of ``group`` alone."""
    group = list(group)
    s, t = (softmax([z[c] for c in group], temperature) for z in (student, teacher))
    return temperature**2 * directed(s, t, kl_type)


def masses(z: Row, groups: Sequence[Iterable[int]], temperature: float) -> list[float]:
    p = softmax(z, temperature)
    return [sum(p[c] for c in group) for group in groups]


def between(student: Row, teacher: Row, groups: Sequence[Iterable[int]], temperature: float) -> float:
    """``T ** 2 * KL`` of the probabilities of ``groups``, teacher first."""
    groups = [list(group) for group in groups]
    return temperature**2 * kl(masses(teacher, groups, temperature), masses(student, groups, temperature))


def kd(student: Row, teacher: Row, temperature: float) -> float:
    return within(student, teacher, range(len(student)), temperature)


def ce(z: Row, label: int) -> float:
    return -math.log(softmax(z)[label])


def ranked(z: Row) -> list[int]:
    """Classes from the largest logit to the smallest."""
    return sorted(range(len(z)), key=lambda c: -z[c])


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def assert_terms(terms: Mapping[str, Tensor], expected: Mapping[str, Row]) -> None:
    """Compare every named term of every example, relative 1e-9."""
    assert set(terms) == set(expected)
    for name, values in expected.items():
        assert terms[name].tolist() == pytest.approx(list(values), rel=1e-9, abs=1e-11), name


def assert_value(value: Tensor, expected: float) -> None:
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-11)
