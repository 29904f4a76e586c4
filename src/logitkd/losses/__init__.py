"""The losses, one paper a file. Importing this imports torch and nothing heavier."""

from logitkd.losses.base import LogitLoss
from logitkd.losses.block_kd import BlockKDLoss, block_kd_terms
from logitkd.losses.cwd import CWDLoss, cwd_terms
from logitkd.losses.dist import DISTLoss, dist_terms
from logitkd.losses.dkd import DKDLoss, dkd_terms
from logitkd.losses.gdkd import GDKD3Loss, GDKDLoss, gdkd3_terms, gdkd_terms
from logitkd.losses.icd import ICDLoss, gram_terms
from logitkd.losses.kd import KDLoss, kd_terms
from logitkd.losses.ldrld import LDRLDLoss, ldrld_terms
from logitkd.losses.ls import Standardized
from logitkd.losses.mlkd import MLKDLoss, mlkd_terms
from logitkd.losses.nkd import NKDLoss, nkd_terms
from logitkd.losses.sdd import SDDLoss

__all__ = [
    "BlockKDLoss",
    "CWDLoss",
    "DISTLoss",
    "DKDLoss",
    "GDKD3Loss",
    "GDKDLoss",
    "ICDLoss",
    "KDLoss",
    "LDRLDLoss",
    "LogitLoss",
    "MLKDLoss",
    "NKDLoss",
    "SDDLoss",
    "Standardized",
    "block_kd_terms",
    "cwd_terms",
    "dist_terms",
    "dkd_terms",
    "gdkd3_terms",
    "gdkd_terms",
    "gram_terms",
    "kd_terms",
    "ldrld_terms",
    "mlkd_terms",
    "nkd_terms",
]
