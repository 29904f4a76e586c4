"""The fingerprint of data that are known already: which files it is of, and what beside them it depends on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import PIL

from logitkd.data.config import DataConfig
from logitkd.data.splits import IMAGES, find_folder
from logitkd.hashes import Snapshot, snapshot

__all__ = ["DECODING", "data_fingerprint", "data_snapshot", "source_snapshot"]

# To be raised when the same files come to other pixels here: what is in the caches is then not found.
DECODING = 1
# What of a DataConfig no fingerprint depends on: it is of the images as they are kept, whatever is then done to them.
SHAPING = (
    "source",
    "crop_padding",
    "flip",
    "image_size",
    "transforms",
    "crop_ratio",
    "interpolation",
    "workers",
    "mean",
    "std",
)


def data_fingerprint(config: DataConfig, *, seed: int = 0, labels: Literal["given", "none"] = "given") -> str | None:
    """Return the fingerprint that ``load_images`` of the same arguments would give its data, if that is known already.

    Nothing is loaded or decoded, only names, sizes and times of files are looked at.

    Args:
        config: where the images are.
        seed: a run's ``data_seed``.
        labels: as in ``load_images``.

    Returns:
        The fingerprint, or ``None`` where a file has changed since it was computed, it never was, or the images are on the hub.

    Raises:
        FileNotFoundError: no such source.
        ValueError: the source is a file.
    """
    files = data_snapshot(config, seed, labels)
    return None if files is None else files.known()


def data_snapshot(config: DataConfig, seed: int, labels: str) -> Snapshot | None:
    """Return what a source's files are like now, for the fingerprint to be kept with; ``None`` of images on the hub.

    Raises:
        FileNotFoundError: no such source.
        ValueError: the source is a file.
    """
    path = _digits_file() if config.source == "digits" else find_folder(config.source, IMAGES)
    reading = f"data, decoding {DECODING}, Pillow {PIL.__version__}"
    return source_snapshot(config, path, reading, SHAPING, seed, labels=labels, encoded=config.image_size is not None)


def source_snapshot(
    config: Any, path: Path | None, reading: str, shaping: Collection[str], seed: int, **more: object
) -> Snapshot | None:
    """Return what files are like now, for the fingerprint of what is read of them; ``None`` of what is on the hub.

    Args:
        config: a dataclass of settings.
        path: the files' folder, ``None`` for the hub.
        reading: how they are read, as text that changes when that does.
        shaping: settings that no fingerprint depends on.
        seed: decides which examples ``config.train_per_class`` keeps.
        more: what else it depends on.
    """
    if path is None:
        return None
    # All settings but those that certainly change nothing: a new one must not be forgotten.
    settings = {field.name: getattr(config, field.name) for field in fields(config) if field.name not in shaping}
    settings |= more
    if config.train_per_class is not None:
        settings["seed"] = seed
    return snapshot(f"{reading}, {sorted(settings.items())}", [path])


def _digits_file() -> Path | None:
    """Return scikit-learn's file of digits, without importing scikit-learn."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    return path if path.exists() else None
