"""Data: any source of labelled images -> batches on the device that carry their index.

Small images of one size live on the device as one tensor; images of any size are decoded by workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logitkd.data.config import DataConfig
from logitkd.lazy import by_name, loader

if TYPE_CHECKING:
    from logitkd.data.batch import Batch
    from logitkd.data.images import ImageData, ImageSplit
    from logitkd.data.loader import Loader, make_loader
    from logitkd.data.mixing import Mixing
    from logitkd.data.source import load_images

__all__ = [
    "Batch",
    "DataConfig",
    "ImageData",
    "ImageSplit",
    "Loader",
    "Mixing",
    "load_images",
    "make_loader",
]

_HOME = by_name(
    {
        "batch": "Batch",
        "images": "ImageData ImageSplit",
        "loader": "Loader make_loader",
        "mixing": "Mixing",
        "source": "load_images",
    }
)
# The command line reads DataConfig to print its help, and needs no torch for that.
__getattr__ = loader(__name__, _HOME)
