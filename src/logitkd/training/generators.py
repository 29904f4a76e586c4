"""The random generators that a network may draw from: torch's, numpy's and Python's own, seeded, saved and restored as one."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Generators", "seed_generators"]


def seed_generators(seed: int) -> None:
    """Seed torch's, numpy's and Python's global generators: a network's own code may draw from any of them."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # it takes no more
    random.seed(seed)


@dataclass(frozen=True)
class Generators:
    """Where the global generators stand.

    Args:
        tensors: torch's states, uint8: ``random.cpu`` and, on a GPU, ``random.cuda``.
        others: Python's and numpy's, as JSON; empty where an earlier version did not keep them.
    """

    tensors: dict[str, Tensor]
    others: str = ""

    @classmethod
    def now(cls, device: torch.device) -> Generators:
        """Return where they stand; of the GPUs, that of ``device``."""
        tensors = {"random.cpu": torch.get_rng_state()}
        if device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(device)
        others = {"python": random.getstate(), "numpy": np.random.get_state(legacy=False)}
        return cls(tensors, json.dumps(others, default=lambda array: array.tolist()))

    def restore(self, device: torch.device) -> None:
        """Put them back.

        Raises:
            Exception: of whatever kind, where these are no states.
        """
        torch.set_rng_state(self.tensors["random.cpu"])
        if device.type == "cuda" and "random.cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors["random.cuda"], device)
        if self.others:
            others = json.loads(self.others)
            version, numbers, gauss = others["python"]
            random.setstate((version, tuple(numbers), gauss))
            np.random.set_state(others["numpy"])
