"""What is decoded, kept on disk: 60,000 CIFAR images decode in 5 s and load in 0.2 s. So with what numbers masks hold.

Files lie in the folder given by the environment variable ``LOGITKD_CACHE``, by default ``~/.cache/logitkd``; they can be
removed at any time. A file that cannot be written, or that does not hold what was put in, is as good as none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from logitkd.hashes import cache_folder, write_cached

__all__ = ["cached"]


def cached(key: str, make: Callable[[], Tensor]) -> Tensor:
    """Return the tensor stored under ``key``, or ``make()`` it and store it.

    Args:
        key: names the content: equal keys must mean equal tensors.
        make: computes a CPU tensor.
    """
    path = cache_folder() / "images" / f"{key}.safetensors"
    tensor = _load(path)
    if tensor is None:
        tensor = make()
        _store(path, tensor)
    return tensor


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy().data).hexdigest()


def _load(path: Path) -> Tensor | None:
    try:
        with safe_open(path, framework="pt") as file:
            # A clone: the file is memory-mapped, and somebody may overwrite it while we train.
            tensor = file.get_tensor("images").clone()
            intact = file.metadata()["sha256"] == _digest(tensor)
    except (OSError, SafetensorError, KeyError, TypeError):  # absent, cut off, not ours
        return None
    return tensor if intact else None


def _store(path: Path, tensor: Tensor) -> None:
    with suppress(SafetensorError):  # a full disk
        write_cached(path, lambda aside: save_file({"images": tensor}, aside, metadata={"sha256": _digest(tensor)}))
