"""Small networks that return a map of logits: a plain one of strides of its own choice, and a SegFormer in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from network_folders import OWN_MEAN, OWN_STD

__all__ = ["TinySegmenter", "build", "build_aux", "build_teacher", "save_segformer", "tiny_map_network"]


class TinySegmenter(nn.Module):
    """Convolutions that halve the resolution, two that keep it, and a head: named as torchvision names its parts.

    Args:
        num_classes: C of its map.
        stride: pixels a side that a cell of the map stands for: 1, 2, 4, 8, ...
        aux: whether it has an auxiliary head behind the first of the two; then it returns ``{"out": map, "aux": map}``.
        width: channels within.
    """

    def __init__(self, num_classes: int, stride: int = 4, aux: bool = False, width: int = 8) -> None:
        super().__init__()
        assert stride & (stride - 1) == 0
        self.num_classes = num_classes
        downs = [self.block(3 if i == 0 else width, width, 2) for i in range(stride.bit_length() - 1)]
        self.backbone = nn.Sequential(*(downs or [self.block(3, width, 1)]), self.block(width, width, 1))
        self.context = self.block(width, width, 1)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        if aux:
            self.aux_classifier = nn.Conv2d(width, num_classes, 1)

    @staticmethod
    def block(before: int, after: int, stride: int) -> nn.Sequential:
        """Return a convolution, its batch norm and an activation."""
        return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, images: Tensor) -> Any:
        """Return a map ``(N, C, h, w)`` of images ``(N, 3, H, W)``, sides rounded up; with an auxiliary head a dict of two."""
        features = self.backbone(images)
        out = self.classifier(self.context(features))
        return {"out": out, "aux": self.aux_classifier(features)} if hasattr(self, "aux_classifier") else out


def tiny_map_network(num_classes: int, stride: int = 4, aux: bool = False, seed: int = 0) -> TinySegmenter:
    """Return a small network whose weights the seed decides, its norms used to what they get; in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TinySegmenter(num_classes, stride, aux)
        with torch.no_grad():
            for _ in range(20):
                network(torch.randn(4, 3, 4 * stride, 4 * stride))
    return network


def build(num_classes: int) -> TinySegmenter:
    """Return a student that returns a tensor: ``dense_networks:build``."""
    return TinySegmenter(num_classes, stride=8)


def build_aux(num_classes: int) -> TinySegmenter:
    """Return a student with an auxiliary head, which returns a dict: ``dense_networks:build_aux``."""
    return TinySegmenter(num_classes, stride=8, aux=True)


def build_teacher(num_classes: int) -> TinySegmenter:
    """Return a teacher of a finer grid, always of the same weights: ``dense_networks:build_teacher``."""
    return tiny_map_network(num_classes, stride=4, seed=1)


def save_segformer(
    folder: Path, num_classes: int, *, names: list[str] | None = None, whole: bool = True, processor: bool = True, seed: int = 0
) -> Any:
    """Write what ``save_pretrained`` of a tiny random SegFormer writes; return the network in eval mode.

    Args:
        folder: to write.
        num_classes: of its head.
        names: of its classes; by default transformers' ``LABEL_0``, ...
        whole: with its head; else its encoder alone.
        processor: whether to say what its images are normalised by: ``OWN_MEAN`` and ``OWN_STD`` of network_folders.
        seed: of the weights.
    """
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    names = names or [f"LABEL_{number}" for number in range(num_classes)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = SegformerConfig(
            depths=[1, 1, 1, 1],
            hidden_sizes=[4, 4, 8, 8],
            num_attention_heads=[1, 1, 1, 1],
            mlp_ratios=[1, 1, 1, 1],
            sr_ratios=[1, 1, 1, 1],  # so that small images will do
            decoder_hidden_size=8,
            id2label=dict(enumerate(names)),
            label2id={name: number for number, name in enumerate(names)},
        )
        model = SegformerForSemanticSegmentation(config)
    (model if whole else model.segformer).save_pretrained(folder)
    if processor:
        record = {"do_normalize": True, "image_mean": OWN_MEAN, "image_std": OWN_STD, "do_rescale": True}
        (folder / "preprocessor_config.json").write_text(json.dumps(record | {"rescale_factor": 1 / 255}))
    return model.eval()
