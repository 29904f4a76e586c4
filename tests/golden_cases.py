"""Where the golden numbers are: a small copy beside the tests, or the whole set (``LOGITKD_GOLDEN``, ``../shared/golden``)."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent


def folder() -> Path:
    """Return the folder of the loss cases: the whole set where there is one, else the copy in the repository."""
    whole = Path(os.environ.get("LOGITKD_GOLDEN", HERE.parents[1] / "shared" / "golden"))
    return whole if (whole / "index.json").is_file() else HERE / "golden" / "losses"


@functools.cache
def cases() -> list[dict[str, Any]]:
    """Return the loss cases of the set in use."""
    index = json.loads((folder() / "index.json").read_text())
    return [case for case in index["cases"] if not case["method"].startswith("region_")]


@functools.cache
def _file(name: str) -> dict[str, torch.Tensor]:
    return load_file(folder() / name)


def tensor(file: str, key: str) -> torch.Tensor:
    """Return one stored tensor."""
    return _file(file)[key]
