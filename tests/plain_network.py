"""A network to cut: three convolutions one after the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Plain"]


class Plain(nn.Module):
    """Three blocks with code of its own between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4, 4))
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.first(images))
        x = torch.relu(self.second(x))
        return self.head(self.third(x).mean((2, 3)))
