"""What ``config.yaml`` says about a run beyond its configuration: versions, commit, fingerprints."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from logitkd.models import parameter_count

__all__ = ["commit", "versions", "weights_fingerprint"]

PACKAGES = ("logitkd", "torch", "torchvision", "timm", "accelerate", "datasets", "torchmetrics", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Return the versions of Python and of every package that can change a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str | None:
    """Return the working folder's git commit, ``+changes`` added when files differ from it; none outside git."""
    try:
        run = [
            subprocess.run(["git", *command], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return run[0] + ("+changes" if run[1] else "")


def weights_fingerprint(model: nn.Module) -> str:
    """Return a hash of every parameter and buffer, name and value."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def model_record(model: nn.Module, *, weights: bool) -> dict[str, Any]:
    """Return a model's parameter count and, if asked, its weights' fingerprint."""
    record: dict[str, Any] = {"parameters": parameter_count(model)}
    if weights:
        record["weights"] = weights_fingerprint(model)
    return record
