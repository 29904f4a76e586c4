"""From what a loss reads to the pair that yields it: the only file that knows every kind of pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from logitkd.checks import check_choice, unknown
from logitkd.reach.inputs import Example, count
from logitkd.reach.maps import Grid, MapPair
from logitkd.reach.pair import Pair, PlainPair
from logitkd.reach.regions.pair import RegionPair
from logitkd.reach.signals import Wants
from logitkd.reach.stones.pair import StonePair
from logitkd.reach.teacher import check_not_shared
from logitkd.reach.tutor import Tutor

__all__ = ["PairOptions", "make_pair", "register_pair"]


@dataclass(frozen=True)
class PairOptions:
    """What a person says of the networks where it is not to be found, and the seed of what is built.

    Args:
        student_pool: path of the module that averages the student's last map, for regions.
        student_head: path of the module behind it, likewise.
        student_cuts: paths of the modules that end the student's blocks, for stepping stones.
        teacher_cuts: likewise the teacher's.
        use: which stones: ``all``, ``last`` or their numbers.
        seed: of the weights of what is trained beside the student.
        grid: both networks are dense, and this is the grid on which they are compared, see :class:`MapPair`; ``None`` where
            they answer once an example.
    """

    student_pool: str | None = None
    student_head: str | None = None
    student_cuts: Sequence[str] | None = None
    teacher_cuts: Sequence[str] | None = None
    use: Literal["all", "last"] | Sequence[int] = "all"
    seed: int = 0
    grid: Grid | None = None


Build = Callable[[nn.Module, Tutor | None, Example, PairOptions], Pair]


def make_pair(
    wants: Wants, student: nn.Module, tutor: Tutor | None, example: Example, options: PairOptions = PairOptions()
) -> Pair:
    """Return student and teacher joined for what a loss reads, checked.

    Args:
        wants: what it reads; that of the tutor.
        student: where the example is.
        tutor: likewise; ``None`` to train on labels alone.
        example: a batch of two different examples.
        options: what a person says of the networks.

    Raises:
        PairError: a network is not what the loss needs.
        ValueError: no pair yields what is read, there is no teacher where one is needed, both networks hold a tensor, or one
            is dense and the other is not.
    """
    if wants.reads not in _KINDS:
        raise ValueError(unknown("way of reaching in", wants.reads, _KINDS))
    if count(example.inputs) < 2:
        raise ValueError(f"`example` must be a batch of two, got {count(example.inputs)}.")
    if tutor is not None:
        if tutor.wants != wants:
            raise ValueError(f"`wants` must be what the tutor was made for, {tutor.wants}, got {wants}.")
        check_not_shared(student, tutor.teacher)
        if tutor.teacher.dense != (options.grid is not None):
            rule = "None for a teacher that answers once an example" if options.grid else "given for a dense teacher"
            raise ValueError(f"`grid` must be {rule}, got {options.grid}: `Teacher(..., dense={not tutor.teacher.dense})`?")
    if options.grid is not None:
        check_choice("grid", options.grid, get_args(Grid))
    pair = _KINDS[wants.reads](student, tutor, example, options)
    if options.grid is not None:
        pair = MapPair(pair, options.grid)
    if tutor is not None:
        tutor.settle()  # a pair that had something to keep has done it
    pair.check(example)
    return pair


def register_pair(reads: str, build: Build) -> None:
    """Add a way of reaching in, for losses that read it.

    Args:
        reads: its name, as in ``Wants.reads``.
        build: returns the pair of ``(student, tutor, example, options)``.

    Raises:
        ValueError: the name is taken.
    """
    if reads in _KINDS:
        raise ValueError(f"`reads` must be a new name, got `{reads}`, which is taken. Taken are: {', '.join(_KINDS)}.")
    _KINDS[reads] = build


def _needed(tutor: Tutor | None, what: str) -> Tutor:
    if tutor is None:
        raise ValueError(f"`tutor` must be given where {what} are read, got None.")
    return tutor


def _plain(student: nn.Module, tutor: Tutor | None, example: Example, options: PairOptions) -> Pair:
    return PlainPair(student, tutor, dense=options.grid is not None)


def _maps(student: nn.Module, tutor: Tutor | None, example: Example, options: PairOptions) -> Pair:
    if options.grid is None:
        raise ValueError(
            "`grid` must be given where maps are read, got None: the loss needs a map of logits an example, (N, C, H, W), which"
            " segmentation networks return. Choose a method that reads logits, or train them."
        )
    return _plain(student, tutor, example, options)


def _regions(student: nn.Module, tutor: Tutor | None, example: Example, options: PairOptions) -> Pair:
    if options.grid is not None:
        raise ValueError(
            f"`grid` must be None where regions are read, got {options.grid}: SDD and iCD divide an image that has one"
            " answer, and a dense network answers for every cell. Choose a method that reads logits."
        )
    return RegionPair(student, _needed(tutor, "regions"), options.student_pool, options.student_head)


def _stones(student: nn.Module, tutor: Tutor | None, example: Example, options: PairOptions) -> Pair:
    cuts = options.student_cuts, options.teacher_cuts
    return StonePair(student, _needed(tutor, "stepping stones"), example, *cuts, options.use, options.seed)


_KINDS: dict[str, Build] = {"logits": _plain, "maps": _maps, "regions": _regions, "stones": _stones}
