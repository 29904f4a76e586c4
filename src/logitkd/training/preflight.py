"""Everything that can be refused, in the order in which it is, before time is spent: settings, data, networks, their pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_flatten, tree_map

from logitkd import methods
from logitkd.checks import listed
from logitkd.data import Batch
from logitkd.methods import Method
from logitkd.reach import Ensemble, Teacher, Tutor, eval_mode
from logitkd.reach.inputs import Inputs, call, count, take
from logitkd.reach.making import PairOptions, make_pair
from logitkd.reach.pair import Pair
from logitkd.runs.config import TrainConfig
from logitkd.tasks.task import Task
from logitkd.training.folder import RunFolder
from logitkd.training.networks import build_networks
from logitkd.training.provenance import input_record, same_files

__all__ = ["Ready", "check_finished", "check_student", "check_teacher", "live"]


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


def live(config: TrainConfig, method: Method, task: Task, folder: RunFolder, device: torch.device) -> Ready:
    """Check what only the data and the networks themselves can tell; build the networks on the way.

    Args:
        config: what ``static`` let pass.
        method: resolved.
        task: loaded.
        folder: the run's, open.
        device: where to train.

    Raises:
        TypeError: a network does not return a tensor.
        ValueError: labels are missing that the method needs; the method does not fit the classes; a network does not fit the
            task, holds NaN or cannot learn; the folder's run saw other data or weights; the last batch is too small.
    """
    check_training_labels(method, task)
    method.check_classes(len(task.classes))
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
        check_teacher(teacher, task, device)

    tutor = None
    if teacher is not None and method.has_teacher:
        # In half precision the frozen teacher's batch norms are folded, in place; in float32 nothing is rearranged.
        tutor = Tutor(teacher, method.wants, fold=config.precision == "bfloat16")
    example = _example(task, device)
    stones = config.stones
    options = PairOptions(config.student.pool, config.student.head, stones.student, stones.teacher, stones.use, config.seed)
    with _flags_named(config):
        pair = make_pair(method.wants, student, tutor, example, options)
        pair.check(example)
    if config.channels_last:
        pair.to(memory_format=torch.channels_last)
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
            f"{task.unlabelled:,} of {task.train_size:,} training labels are missing. {methods.without_hard_labels(method)}"
        )


def check_inputs(folder: RunFolder, record: dict[str, Any], task: Task) -> None:
    """Check that the run in ``folder`` saw these inputs.

    Raises:
        ValueError: it saw others; what differs is named.
    """
    for block, now in record.items():  # folders of earlier versions know no hashes of files
        folder.check_same(block, now, absent=task.implied() if block == "data" else _files_of(now))


def _files_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return the hashes of files in a block ``student`` or ``teacher``, where they are in it."""
    others = {index: _files_of(other) for index, other in record.get("others", {}).items()}
    return {key: record[key] for key in ("files",) if key in record} | ({"others": others} if others else {})


def check_finished(config: TrainConfig, task: Task, folder: RunFolder) -> None:
    """Check that the finished run in ``folder`` saw the data and the weights that the settings mean now.

    Where neither data nor checkpoints have changed since they were last looked at, nothing is read and nothing is built.

    Raises:
        ValueError: it saw others; what differs is named.
    """
    recorded = folder.config() or {}
    fingerprint = task.recorded_fingerprint()
    if fingerprint is None or fingerprint != recorded["data"]["fingerprint"]:
        task.load()
        folder.check_same("data", task.record(), absent=task.implied())
    if not same_files(config, recorded):
        task.load()
        check_inputs(folder, input_record(config, task, *build_networks(config, task)), task)


def check_student(student: nn.Module, name: str, task: Task, device: torch.device) -> None:
    """Show the student two blank examples, in eval mode and without a gradient; modes and random state stay as they are.

    Args:
        student: on ``device``.
        name: as it was asked for, for the message.
        task: loaded; it knows what the student has to return.
        device: where.

    Raises:
        TypeError: it does not return a tensor.
        ValueError: its weights hold NaN, it cannot take such examples alone, or does not return what the task needs.
    """
    with _left_as_it_was(student, device), torch.no_grad():
        output = check_network(lambda inputs: call(student, inputs), student, "student", name, task, device, 2)
    task.check_output(output, 2, name)


def check_teacher(teacher: Teacher | Ensemble, task: Task, device: torch.device) -> None:
    """Show each teacher one blank example; raises as :func:`check_student`."""
    for member in teacher.members():
        check_network(member.logits, member.model, "teacher", type(member.model).__name__, task, device, 1)


def check_network(
    see: Callable[[Any], Any], network: nn.Module, role: str, name: str, task: Task, device: torch.device, number: int
) -> Any:
    """Show a network ``number`` blank examples, ``see(inputs)``; return what it made of them.

    Raises:
        ValueError: its weights hold NaN, or it cannot take such inputs alone.
    """
    tensors = {key: tensor for key, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}
    counts = {key: int(tensor.isnan().sum()) for key, tensor in tensors.items() if tensor.is_floating_point()}
    bad = {key: holes for key, holes in counts.items() if holes}
    if bad:
        shown = (f"`{key}` ({holes:,} of {tensors[key].numel():,})" for key, holes in bad.items())
        raise ValueError(
            f"the {role}'s weights must be numbers, but {name} holds NaN in {len(bad)} of {len(tensors)} tensors: "
            f"{listed(shown, 3)}. Its training diverged, or its file is damaged: give other weights."
        )
    try:
        return see(task.blank(number, device))  # which may be more than memory holds
    except Exception as error:  # each library refuses in its own way
        if str(error).startswith(f"the {role}"):  # its classes or its output, already in our words
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")[:200]
        raise ValueError(f"the {role} must {task.must_take(network, f'{name} fails on one ({reason})')}") from error


def check_learns(student: nn.Module, name: str, task: Task, device: torch.device) -> None:
    """Show the student two examples and see that its output depends on something that training changes; no trace is left.

    Args:
        student: on ``device``; it passed :func:`check_student`.
        name: as it was asked for, for the message.
        task: loaded.
        device: where.

    Raises:
        ValueError: it has no parameters, or all are frozen, or its output depends on none of those that are not.
    """
    what = f"the student must have logits that depend on parameters to train, but {name}"
    parameters = list(student.parameters())
    if not parameters:
        raise ValueError(
            f"{what} has no parameters. Give a network with some; layers in a plain list are not found, use `nn.ModuleList`."
        )
    trained = {id(parameter) for parameter in parameters if parameter.requires_grad}
    if not trained:
        raise ValueError(
            f"{what} has {len(parameters)} parameters and all of them are frozen (`requires_grad` is False). Leave at least"
            " those of its last layer trainable."
        )
    inputs = task.blank(2, device)
    with _left_as_it_was(student, device), torch.enable_grad():
        learns = _reaches(call(student, inputs), trained)
        if not learns:  # some turn gradients off in eval mode alone
            learns = _reaches(_trained_on(student, inputs), trained)
    if not learns:
        raise ValueError(
            f"{what} returns logits that depend on none of its {len(trained)} trainable parameters: they are detached. Take"
            " `.detach()`, `torch.no_grad()` and the like out of its `forward`, or unfreeze layers that the logits come from."
        )


def check_one_example(student: nn.Module, name: str, task: Task, device: torch.device) -> None:
    """Train the student's norms on one blank example, for runs whose batches are no larger; no trace is left.

    Raises:
        ValueError: a batch norm gets one value a channel, which has no variance.
    """
    try:
        with _left_as_it_was(student, device), torch.no_grad():
            _trained_on(student, task.blank(1, device))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):  # torch's words
            raise
        raise ValueError(
            f"`batch_size` must be at least 2, as a batch norm of {name} gets one value a channel of one example, which has no"
            " variance, got 1. Try 2."
        ) from error


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
    with closing(task.loader(train=True, device=device, batch_size=max(2, task.settings.batch_size)).epoch(1)) as batches:
        batch = next(batches)
    inputs, labels, index = take(batch.inputs, 2), batch.labels[:2], batch.index[:2]
    if count(inputs) == 1:
        inputs, labels, index = tree_map(lambda tensor: torch.cat([tensor, tensor]), (inputs, labels, index))
    return Batch(inputs, labels, index)


@contextmanager
def _left_as_it_was(student: nn.Module, device: torch.device) -> Iterator[None]:
    """Put the student in eval mode for the block; its modes and torch's random state are then as before."""
    with eval_mode(student), torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _trained_on(student: nn.Module, inputs: Inputs) -> object:
    """Return what the student makes of inputs in training mode, in which it stays; its running statistics are as before."""
    before = [(buffer, buffer.clone()) for buffer in student.buffers()]
    try:
        return call(student.train(), inputs)
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)


def _reaches(output: object, parameters: set[int]) -> bool:
    """Whether one of the parameters, given by their ``id``, is in the graph that ``output`` was computed by."""
    leaves = [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor)]
    waiting = [leaf.grad_fn for leaf in leaves if leaf.grad_fn is not None]
    seen: set[Any] = set(waiting)
    while waiting:
        node = waiting.pop()
        if id(getattr(node, "variable", None)) in parameters:  # where a gradient ends
            return True
        following = {other for other, _ in getattr(node, "next_functions", ()) if other is not None} - seen
        waiting += following
        seen |= following
    return False


@contextmanager
def _flags_named(config: TrainConfig) -> Iterator[None]:
    """Name in an error inside the block the flags in place of the arguments ``pool=`` and ``head=``."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise error
