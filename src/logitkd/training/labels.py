"""What a run knows of its training labels - all, some, none, mixed ones - and which methods that leaves."""

from __future__ import annotations

from torch import Tensor

from logitkd import methods
from logitkd.methods import Method
from logitkd.runs.config import TrainConfig
from logitkd.training.folder import RunFolder

__all__ = ["check_label_use", "check_training_labels", "check_views", "labels_note", "missing_note", "resolve_method"]


def resolve_method(config: TrainConfig) -> Method:
    """Return the method a run trains with: its options applied, and with ``labels: none`` nothing in it reads a label.

    Raises:
        ValueError: the method, one of its options, or what :func:`check_label_use` refuses.
        TypeError: an option's value is of the wrong type.
    """
    method = methods.get(config.method).replace(**config.method_options)
    if config.labels == "none":
        method = method.without_labels(config.method_options)
    check_label_use(config, method)
    return method


def check_label_use(config: TrainConfig, method: Method) -> None:
    """Refuse what a method cannot do with labels that are mixed, or weigh where it has no cross-entropy.

    Raises:
        ValueError: the message lists the methods that can.
    """
    mixing = [name for name in ("mixup", "cutmix") if getattr(config, name)]
    if mixing and method.needs_hard_labels:
        raise ValueError(
            f"`{mixing[0]}` must be 0 for `{method.name}`, whose loss needs the class of every image, "
            f"got {getattr(config, mixing[0])}. {_others(method)}"
        )
    if config.class_weights is not None and method.ce_weight == 0:
        fix = "" if config.labels == "none" else ", or give the labels a share of the loss: `--method.ce_weight 0.1`"
        raise ValueError(
            f"`class_weights` must be left out where there is no cross-entropy to weigh, got {config.class_weights} for "
            f"`{method.name}` with `ce_weight` 0. Leave it out{fix}."
        )


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
            f"{share}. {_others(method)}"
        )
    if config.mixup or config.cutmix:
        raise ValueError(
            f"`mixup` and `cutmix` must be 0 where labels are missing, as a label cannot be mixed with none: {share}. With "
            "`labels: none` images alone are mixed."
        )


def check_views(config: TrainConfig, folder: RunFolder) -> None:
    """Refuse to go on with a run that saw other mixed images so far than it would from here on.

    Raises:
        ValueError: an earlier version, without ``data_seed``, began it, and images are mixed.
    """
    began = (folder.config() or {}).get("run", {})
    if (config.mixup or config.cutmix) and folder.begun() and "data_seed" not in began:
        raise ValueError(
            f"the run in {folder.path} was begun by an earlier version, which mixed each image with its neighbour in the batch"
            " and not with a partner out of the whole split: it cannot go on as it began. Finish it with that version, give"
            " another `output`, or delete the folder to start again."
        )


def _others(method: Method) -> str:
    can = ", ".join(name for name in methods.names() if not methods.get(name).needs_hard_labels)
    options = {name: value for name, value in method.label_free_options.items() if name != "ce_weight"}
    hint = ""
    if options and not method.replace(**options).needs_hard_labels:
        hint = " So can this one with " + ", ".join(f"`{name}: {value}`" for name, value in options.items()) + "."
    return f"These can do it: {can}.{hint}"


def missing_note(labels: Tensor) -> str:
    """Say how many training labels are missing.

    >>> import torch
    >>> missing_note(torch.tensor([0, -1, 2]))
    '1 of 3 training labels is missing (null or -1): the cross-entropy reads the others'
    """
    missing = int((labels < 0).sum())
    verb = "is" if missing == 1 else "are"
    return f"{missing:,} of {len(labels):,} training labels {verb} missing (null or -1): the cross-entropy reads the others"


def labels_note(method: Method) -> str:
    """Say what ``labels: none`` makes of a method.

    >>> labels_note(methods.get("sdd-kd").without_labels())
    'labels: none, so `sdd-kd` learns from the teacher alone: ce_weight 0.0, judge teacher'
    """
    options = ", ".join(f"{name} {value}" for name, value in method.label_free_options.items())
    return f"labels: none, so `{method.name}` learns from the teacher alone: {options}"
