"""Reaching into a model without editing it: what one forward pass can yield beyond its logits, and the frozen teacher."""

from logitkd.reach.ensemble import Ensemble
from logitkd.reach.label_map import LabelMap
from logitkd.reach.modes import eval_mode
from logitkd.reach.normalization import Renormalize
from logitkd.reach.regions.model import RegionModel
from logitkd.reach.regions.pooling import pool_cells
from logitkd.reach.signals import Signals
from logitkd.reach.stones.model import StoneModel, find_stones
from logitkd.reach.teacher import Teacher, check_not_shared

__all__ = [
    "Ensemble",
    "LabelMap",
    "RegionModel",
    "Renormalize",
    "Signals",
    "StoneModel",
    "Teacher",
    "check_not_shared",
    "eval_mode",
    "find_stones",
    "pool_cells",
]
