"""Students that train well and cannot be exported, each for a reason of its own."""

import torch
from tiny_net import TinyNet
from torch.nn import functional as F


class AlwaysDrops(TinyNet):
    """Drops out in eval mode too: a well-known slip."""

    def forward(self, images):
        return super().forward(F.dropout(images, 0.5))


class TracedOtherwise(TinyNet):
    """Computes something else when it is traced."""

    def forward(self, images):
        logits = super().forward(images)
        return logits * 1.01 if torch.compiler.is_exporting() else logits


class Branches(TinyNet):
    """Asks its input which way to go."""

    def forward(self, images):
        logits = super().forward(images)
        return logits if images.mean() > -100 else -logits
