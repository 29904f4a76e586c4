"""Everything that can be refused, in the order in which it is, before time is spent: settings, data, networks, their pair."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from logitkd.data import Batch
from logitkd.methods import Method
from logitkd.reach import Ensemble, Teacher, check_not_shared
from logitkd.reach.inputs import apply, count, take
from logitkd.reach.making import PairOptions, make_pair
from logitkd.reach.pair import Pair, PairError
from logitkd.reach.tutor import Tutor
from logitkd.runs.config import TrainConfig
from logitkd.runs.rules import checked, hints, without_hard_labels
from logitkd.tasks.task import Task
from logitkd.training.folder import RunFolder
from logitkd.training.network_checks import check_learns, check_one_example, check_student, check_teacher
from logitkd.training.networks import build_networks
from logitkd.training.provenance import input_record, same_files

__all__ = ["Ready", "check_finished", "check_views", "live", "static"]


@dataclass(frozen=True)
class Ready:
    """What passed: all that a run is made of, on its device.

    Args:
        pair: student and teacher, joined for the method.
        tutor: the teacher as the method sees it; None where it learns from none.
        teacher: the teacher, also where only its score is asked for; None where there is none.
        record: the blocks ``data``, ``student`` and ``teacher`` of ``config.yaml``.
    """

    pair: Pair
    tutor: Tutor | None
    teacher: Teacher | Ensemble | None
    record: dict[str, Any]


def static(config: TrainConfig) -> TrainConfig:
    """Return the settings of a run, each value in its type, after all that can be refused without data or a network.

    Warns of what is allowed and unlikely to be meant.

    Raises:
        ValueError: with all the problems at once; see :mod:`logitkd.runs.rules`.
        TypeError: they are no ``TrainConfig``.
    """
    if not isinstance(config, TrainConfig):
        raise TypeError(
            f"`config` must be a TrainConfig, got {type(config).__name__}. `logitkd.runs.plan.plan` makes one of a recipe and "
            "values by key."
        )
    settings = checked(config)
    for message in hints(settings):
        warnings.warn(message, stacklevel=3)
    return settings


def live(config: TrainConfig, method: Method, task: Task, folder: RunFolder, device: torch.device) -> Ready:
    """Check what only the data and the networks themselves can tell; build the networks on the way.

    Args:
        config: what ``static`` let pass.
        method: resolved.
        task: loaded.
        folder: the run's, open.
        device: where to train.

    Warns of a method that is another one with two classes.

    Raises:
        TypeError: a network does not return a tensor.
        ValueError: labels are missing that the method needs; the method does not fit the classes; a network does not fit the
            task, holds NaN or cannot learn; the folder's run saw other data or weights; the last batch is too small.
    """
    check_training_labels(method, task)
    method.check_classes(len(task.classes))
    note = method.note_classes(len(task.classes))
    if note:
        warnings.warn(note, stacklevel=2)
    student, teacher = build_networks(config, task)
    record = input_record(config, task, student, teacher)
    check_inputs(folder, record, task)

    for network in (student, teacher):
        if network is not None:
            network.to(device)
            if config.channels_last:
                network.to(memory_format=torch.channels_last)
    name = f"`{config.student.name}`"
    check_student(student, name, task, device)
    check_learns(student, name, task, device)
    if config.batch_size == 1:
        check_one_example(student, name, task, device)
    if teacher is not None:
        check_not_shared(student, teacher)  # also where its score alone is asked for: it is frozen
        check_teacher(teacher, task, device)

    tutor = None
    if teacher is not None and method.has_teacher:
        # In half precision the frozen teacher's batch norms are folded, in place; in float32 nothing is rearranged.
        tutor = Tutor(teacher, method.wants, fold=config.precision == "bfloat16")
    example = _example(task, device)
    with _told_of(config, task):
        pair = make_pair(method.wants, student, tutor, example, PairOptions(**config.pair_options(), grid=task.grid))
    for part in (pair, *pair.stored().values()):
        part.to(device)
        if config.channels_last:
            part.to(memory_format=torch.channels_last)
    check_last_batch(pair, task.train_size, config.batch_size)
    return Ready(pair, tutor, teacher, record)


def check_training_labels(method: Method, task: Task) -> None:
    """Refuse a training split that is labelled in part where every example must have its class.

    Raises:
        ValueError: the message lists the methods that can do it.
    """
    if task.unlabelled and method.needs_hard_labels:
        raise ValueError(
            f"every training example must have a label for `{method.name}`, whose loss needs the class of each, but "
            f"{task.unlabelled:,} of {task.train_size:,} training labels are missing. "
            f"{without_hard_labels(method, task.network_options.get('output', 'classes'))}"
        )


def check_inputs(folder: RunFolder, record: dict[str, Any], task: Task) -> None:
    """Check that the run in ``folder`` saw these inputs.

    Raises:
        ValueError: it saw others; what differs is named.
    """
    others = (f"others.{index}.files" for index in record["teacher"].get("others", ()))
    for block, now in record.items():  # the same weights may come in other files
        folder.check_same(block, now, ignore=("files", *others), absent=task.implied() if block == "data" else {})


def check_views(config: TrainConfig, folder: RunFolder) -> None:
    """Refuse to go on with a run that saw other mixed examples so far than it would from here on.

    Raises:
        ValueError: an earlier version, without ``data_seed``, began it, and examples are mixed.
    """
    began = (folder.config() or {}).get("run", {})
    if (config.mixup or config.cutmix) and folder.begun() and "data_seed" not in began:
        raise ValueError(
            f"the run in {folder.path} was begun by an earlier version, which mixed each example with its neighbour in the"
            " batch and not with a partner out of the whole split: it cannot go on as it began. Finish it with that version,"
            " give another `output`, or delete the folder to start again."
        )


def check_finished(config: TrainConfig, task: Task, folder: RunFolder) -> None:
    """Check that the finished run in ``folder`` saw the data and the weights that the settings mean now.

    Where neither data nor checkpoints have changed since they were last looked at, nothing is read and nothing is built.

    Raises:
        ValueError: it saw others; what differs is named.
    """
    recorded = folder.config() or {}
    same_data, same_networks = task.unchanged(recorded["data"]), same_files(config, recorded)
    if not same_data or not same_networks:  # networks are built for the classes of the data
        task.load()
    if not same_data:
        folder.check_same("data", task.record(), absent=task.implied())
    if not same_networks:
        check_inputs(folder, input_record(config, task, *build_networks(config, task)), task)


def check_last_batch(pair: Pair, examples: int, batch_size: int) -> None:
    """Refuse an epoch that ends in a batch of one example, which may have no variance for a batch norm to divide by.

    Where batches are all of one example, ``check_one_example`` has tried the student; what is trained beside it has not been.

    Raises:
        ValueError: it does, and what is trained has batch norms in training mode.
    """
    if (examples % batch_size or batch_size) != 1:
        return
    tried = set(pair.student.modules()) if batch_size == 1 else set()
    modules = (module for trained in pair.trained().values() for module in trained.train().modules())
    if any(isinstance(module, _BatchNorm) and module.training and module not in tried for module in modules):
        rule = "not leave one example for an epoch's last batch" if batch_size > 1 else "be at least 2"
        other = next((size for size in range(batch_size + 1, examples + 1) if examples % size != 1), 0)
        raise ValueError(
            f"`batch_size` must {rule}, as what is trained has batch norms, for which one example may have no variance, got "
            f"{batch_size} with {examples} training examples. {f'Try {other}' if other else 'Give more examples'}."
        )


def _example(task: Task, device: torch.device) -> Batch:
    """Return two training examples, as the networks get them; of a single one twice the same."""
    with closing(task.loader(train=True, device=device, batch_size=2).epoch(1)) as batches:
        batch = next(batches)
    inputs, labels, index = take(batch.inputs, 2), batch.labels[:2], batch.index[:2]
    if count(inputs) == 1:
        inputs = apply(lambda tensor: torch.cat([tensor, tensor]), inputs)
        labels, index = torch.cat([labels, labels]), torch.cat([index, index])
    return Batch(inputs, labels, index)


@contextmanager
def _told_of(config: TrainConfig, task: Task) -> Iterator[None]:
    """Say in an error inside the block which network it is by its name, and name the settings in place of arguments."""
    try:
        yield
    except PairError as error:
        role, source = list(config.networks().items())[0 if error.member is None else 1 + error.member]
        text = error.reason
        for key in ("pool", "head"):
            several = "[" in role  # of several teachers each is an entry
            text = text.replace(f"`{key}=`", f"`{role}.{key}`" if several else f"`--{role}.{key} PATH`")
            text = re.sub(rf"`{key}='(.*?)'`", rf"`{role}.{key}: \1`" if several else rf"`--{role}.{key} \1`", text)
        raise ValueError(f"the {role} `{source.name}` {error.what} for `{config.method}`: {task.explain(text)}") from error
