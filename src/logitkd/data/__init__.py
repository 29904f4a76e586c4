"""Data: any source of labelled images -> batches on the device that carry their index.

Small images of one size live on the device as one tensor; images of any size are decoded by workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logitkd.data.config import DataConfig

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

_HOMES = {
    "Batch": "batch",
    "ImageData": "images",
    "ImageSplit": "images",
    "Loader": "loader",
    "Mixing": "mixing",
    "load_images": "source",
    "make_loader": "loader",
}


def __getattr__(name: str) -> Any:
    # Lazy: the command line reads DataConfig to print its help, and needs no torch for that.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
