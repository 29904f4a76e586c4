"""Reaching into a model without editing it: what one forward pass can yield beyond its logits, and the frozen teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logitkd.lazy import by_name, loader

if TYPE_CHECKING:
    from logitkd.reach.ensemble import Ensemble
    from logitkd.reach.inputs import eval_mode
    from logitkd.reach.label_map import LabelMap
    from logitkd.reach.making import PairOptions, make_pair, register_pair
    from logitkd.reach.maps import MapPair
    from logitkd.reach.normalization import Renormalize
    from logitkd.reach.pair import Pair, PairError, PlainPair
    from logitkd.reach.regions.model import RegionModel
    from logitkd.reach.regions.pooling import pool_cells
    from logitkd.reach.resize import resize_map
    from logitkd.reach.signals import Signals, Wants, checked_map
    from logitkd.reach.stones.model import StoneModel
    from logitkd.reach.teacher import Teacher, check_not_shared
    from logitkd.reach.tutor import Taught, Tutor

__all__ = [
    "Ensemble",
    "LabelMap",
    "MapPair",
    "Pair",
    "PairError",
    "PairOptions",
    "PlainPair",
    "RegionModel",
    "Renormalize",
    "Signals",
    "StoneModel",
    "Taught",
    "Teacher",
    "Tutor",
    "Wants",
    "check_not_shared",
    "checked_map",
    "eval_mode",
    "make_pair",
    "pool_cells",
    "register_pair",
    "resize_map",
]

_HOME = by_name(
    {
        "ensemble": "Ensemble",
        "inputs": "eval_mode",
        "label_map": "LabelMap",
        "making": "PairOptions make_pair register_pair",
        "maps": "MapPair",
        "normalization": "Renormalize",
        "pair": "Pair PairError PlainPair",
        "regions.model": "RegionModel",
        "regions.pooling": "pool_cells",
        "resize": "resize_map",
        "signals": "Signals Wants checked_map",
        "stones.model": "StoneModel",
        "teacher": "Teacher check_not_shared",
        "tutor": "Taught Tutor",
    }
)
# The table of methods says what a loss reads, and needs nothing that runs a model from the middle.
__getattr__ = loader(__name__, _HOME)
