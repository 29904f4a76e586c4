"""logitkd: make a small classifier as good as a big one through the big one's logits.

``import logitkd`` loads nothing: every public name is loaded when it is first used, the losses with torch alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logitkd.losses import (
        BlockKDLoss,
        DISTLoss,
        DKDLoss,
        GDKD3Loss,
        GDKDLoss,
        ICDLoss,
        KDLoss,
        LDRLDLoss,
        MLKDLoss,
        NKDLoss,
        SDDLoss,
        Standardized,
    )

__version__ = "0.1.0"

_LOSSES = (
    "BlockKDLoss",
    "DISTLoss",
    "DKDLoss",
    "GDKD3Loss",
    "GDKDLoss",
    "ICDLoss",
    "KDLoss",
    "LDRLDLoss",
    "MLKDLoss",
    "NKDLoss",
    "SDDLoss",
    "Standardized",
)
_HOME = {
    **dict.fromkeys(_LOSSES, "logitkd.losses"),
    "Objective": "logitkd.objective",
    "RegionModel": "logitkd.reach",
    "Teacher": "logitkd.reach",
    "train": "logitkd.engine",
    "evaluate": "logitkd.engine",
    "TrainConfig": "logitkd.engine",
    "build_model": "logitkd.models",
}

__all__ = [
    "BlockKDLoss",
    "DISTLoss",
    "DKDLoss",
    "GDKD3Loss",
    "GDKDLoss",
    "ICDLoss",
    "KDLoss",
    "LDRLDLoss",
    "MLKDLoss",
    "NKDLoss",
    "SDDLoss",
    "Standardized",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'logitkd' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
