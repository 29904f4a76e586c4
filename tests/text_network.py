"""A network of texts: token ids and their attention mask by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CLASSES", "Text", "texts"]

CLASSES = 3


class Block(nn.Module):
    """Attention to the tokens that the mask leaves, and a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.linear = nn.Linear(width, width)

    def forward(self, tokens: Tensor, padded: Tensor) -> Tensor:
        seen, _ = self.attention(tokens, tokens, tokens, key_padding_mask=padded, need_weights=False)
        return tokens + self.linear(seen).relu()


class Text(nn.Module):
    """Classifies token ids; every block and the pooling read the attention mask.

    Args:
        width: of a token.
        masks: who makes of the mask what the blocks read: the model's own code, or a module before the blocks.
    """

    def __init__(self, width: int = 8, masks: nn.Module | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, width)
        self.masks = masks
        self.blocks = nn.ModuleList(Block(width) for _ in range(3))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = self.embed(input_ids)
        padded = attention_mask == 0 if self.masks is None else self.masks(attention_mask)
        for block in self.blocks:
            tokens = block(tokens, padded)
        shares = attention_mask.to(tokens.dtype)
        return self.head((tokens * shares[:, :, None]).sum(1) / shares.sum(1, keepdim=True))


def texts(lengths: list[int], longest: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """Return token ids of texts of these lengths, padded, and their masks."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": torch.randint(1, 20, mask.shape, generator=generator) * mask, "attention_mask": mask}
