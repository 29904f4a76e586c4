"""What a run knows of its training labels: all, some, none, mixed ones."""

from __future__ import annotations

import torch
from torch import Tensor

from logitkd.data.mixing import Mixer
from logitkd.methods import Method
from logitkd.runs.config import TrainConfig
from logitkd.runs.rules import without_hard_labels

__all__ = ["check_training_labels", "labels_note", "make_mixer", "missing_note"]


def check_training_labels(config: TrainConfig, method: Method, labels: Tensor) -> None:
    """Refuse a training split that is labelled in part where every example must have its class.

    Args:
        config: the run's.
        method: resolved.
        labels: ``(N,)`` of the training split, -1 where one is missing.

    Raises:
        ValueError: the message lists the methods that can do it.
    """
    missing = int((labels < 0).sum())
    if config.labels == "none" or not missing:
        return
    share = f"{missing:,} of {len(labels):,} training labels are missing"
    if method.needs_hard_labels:
        raise ValueError(
            f"every training image must have a label for `{method.name}`, whose loss needs the class of every image, but "
            f"{share}. {without_hard_labels(method)}"
        )
    if config.mixup or config.cutmix:
        raise ValueError(
            f"`mixup` and `cutmix` must be 0 where labels are missing, as a label cannot be mixed with none: {share}. With "
            "`labels: none` images alone are mixed."
        )


def missing_note(labels: Tensor) -> str:
    """Say how many training labels are missing.

    >>> missing_note(torch.tensor([0, -1, 2]))
    '1 of 3 training labels is missing (null or -1): the cross-entropy reads the others'
    """
    missing = int((labels < 0).sum())
    verb = "is" if missing == 1 else "are"
    return f"{missing:,} of {len(labels):,} training labels {verb} missing (null or -1): the cross-entropy reads the others"


def labels_note(method: Method) -> str:
    """Say what ``labels: none`` makes of a method.

    >>> from logitkd import methods
    >>> labels_note(methods.get("sdd-kd").without_labels())
    'labels: none, so `sdd-kd` learns from the teacher alone: ce_weight 0.0, judge teacher'
    """
    options = ", ".join(f"{name} {value}" for name, value in method.label_free_options.items())
    return f"labels: none, so `{method.name}` learns from the teacher alone: {options}"


def make_mixer(config: TrainConfig, num_classes: int, device: torch.device) -> Mixer | None:
    """Return what mixes a run's batches, or None; without labels only their images are mixed."""
    if not config.mixup and not config.cutmix:
        return None
    classes = num_classes if config.labels == "given" else None
    return Mixer(mixup=config.mixup, cutmix=config.cutmix, num_classes=classes, seed=config.seed, device=device)
