"""Data: any source of labelled images, images with masks, or texts -> batches on the device that carry their index.

Small images of one size live on the device as one tensor; images of any size are decoded by workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logitkd.data.config import DataConfig
from logitkd.data.mask_config import MaskConfig
from logitkd.data.text_config import TextConfig
from logitkd.lazy import by_name, loader

if TYPE_CHECKING:
    from logitkd.data.batch import Batch
    from logitkd.data.images import ImageData, ImageSplit
    from logitkd.data.loader import Loader, make_loader
    from logitkd.data.masks import UNLABELLED, VOID, MaskData, MaskSplit, load_masks
    from logitkd.data.mixing import Mixing
    from logitkd.data.source import load_images
    from logitkd.data.texts import TextData, TextSplit, load_texts

__all__ = [
    "UNLABELLED",
    "VOID",
    "Batch",
    "DataConfig",
    "ImageData",
    "ImageSplit",
    "Loader",
    "MaskConfig",
    "MaskData",
    "MaskSplit",
    "Mixing",
    "TextConfig",
    "TextData",
    "TextSplit",
    "load_images",
    "load_masks",
    "load_texts",
    "make_loader",
]

_HOME = by_name(
    {
        "batch": "Batch",
        "images": "ImageData ImageSplit",
        "loader": "Loader make_loader",
        "masks": "UNLABELLED VOID MaskData MaskSplit load_masks",
        "mixing": "Mixing",
        "source": "load_images",
        "texts": "TextData TextSplit load_texts",
    }
)
# The command line reads the settings to print its help, and needs no torch for that.
__getattr__ = loader(__name__, _HOME)
