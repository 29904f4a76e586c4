"""evaluate(): the metrics of a network, or of a finished run's student, on an evaluation split."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from logitkd import tasks
from logitkd.cost import network_cost
from logitkd.data import Loader
from logitkd.models import opening
from logitkd.reach import Ensemble, Teacher
from logitkd.reach.inputs import call
from logitkd.runs.config import TrainConfig
from logitkd.runs.device import resolve_device
from logitkd.runs.folder import read_run, run_data
from logitkd.runs.networks import ModelConfig, TeacherConfig
from logitkd.runs.of_run import looked_up
from logitkd.runs.settings import SettingsError
from logitkd.runs.values import validate
from logitkd.tasks.task import Meter, Task, measure
from logitkd.training.network_checks import check_student, check_teacher
from logitkd.training.networks import build_teacher, load_network, recorded_student

__all__ = ["Prepared", "evaluate", "measured", "prepared", "resolved"]


def evaluate(
    model: nn.Module | ModelConfig | str | Path,
    data: Any = None,
    *,
    teacher: nn.Module | ModelConfig | str | Path | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    latency: bool = True,
    trust_code: bool = False,
) -> dict[str, Any]:
    """Return the metrics of ``model`` on the evaluation split of ``data``, and what it costs, in float32.

    Args:
        model: a module, a configuration of one, or a run folder (its student).
        data: what to evaluate on, the settings of a task's data, such as a ``DataConfig``; by default the run folder's. The
            student of a run sees images normalised as in its training, whatever data these are, unless ``data`` has a ``mean``
            or ``std`` of its own.
        teacher: the network to measure the agreement with, or with a ``TeacherConfig`` the networks; a run folder there
            means that run's student.
        batch_size: examples at a time; changes nothing but memory and speed. By default 256, images with masks 4.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        latency: also time batches of 1 and 64: about five passes each where one is slow, else at most half a second.
        trust_code: whether a ``package.module:callable`` that a run folder names may be imported from the folder itself; by
            default only from elsewhere.

    Returns:
        ``top1``, ``top5``, ``agreement`` and ``teacher_top1``, the teacher's own (percent), ``loss`` (nats),
        ``calibration_error`` (in [0, 1]), ``examples`` (the same under the task's word, ``images``), ``split`` and ``device``
        (on a CPU with its threads); under ``cost``, for ``student`` and, where there is one, ``teacher``:
        ``parameters``, ``macs`` (multiply-adds of one example: half its floating-point operations) and ``latency_ms`` (batch
        size to median). Of texts the last two are by length: ``{"16 tokens": ..., "128 tokens": ...}``.

    Raises:
        FileNotFoundError: the path is not a run folder.
        ValueError: ``data`` is missing or wrong, a network does not fit its classes or holds NaN, ``config.yaml`` is no
            run's, a run's student is not what the run wrote, or it is built by code that lies nowhere but in its folder.
    """
    where = resolve_device(device)
    folders = [network for network in (model, teacher) if isinstance(network, (str, Path))]
    with opening(folders, trust_code=trust_code):
        ready = prepared(*resolved(model, data, teacher, trust_code), batch_size, where)
        return _evaluate(ready, where, latency)


Network = nn.Module | ModelConfig


class Prepared(NamedTuple):
    """What is evaluated, on its device, and on what.

    Args:
        task: its data are read.
        network: as the data show it, checked.
        teacher: likewise, if there is one.
        loader: batches of the evaluation split.
        device: where all are.
    """

    task: Task
    network: nn.Module
    teacher: Teacher | Ensemble | None
    loader: Loader
    device: torch.device


def resolved(
    model: Network | str | Path, data: Any, teacher: Network | str | Path | None, trust_code: bool
) -> tuple[Network, str, Any, Network | None]:
    """Return model and teacher with run folders looked up, and between them the task and the settings of the data."""
    kind = tasks.name_of(data)
    if isinstance(model, (str, Path)):
        run = read_run(Path(model))["run"]
        kind, data = run.get("task", kind), run["data"] if data is None else data
        model = recorded_student(Path(model), trust_code=trust_code)
    if isinstance(teacher, (str, Path)):
        teacher = recorded_student(Path(teacher), trust_code=trust_code)
    if isinstance(model, ModelConfig):
        model = looked_up("model", model)
    if isinstance(teacher, ModelConfig):
        teacher = looked_up("teacher", teacher)
    return model, kind, data, teacher


def prepared(
    model: Network, kind: str, data: Any, teacher: Network | None, batch_size: int | None, where: torch.device
) -> Prepared:
    """Read the data of an evaluation, build the networks, and check both; as :func:`evaluate`."""
    if data is None:
        raise ValueError("`data` must be given unless `model` is a run folder.")
    kind_of_task = tasks.get(kind)
    for role, network in (("model", model), ("teacher", teacher)):
        if kind_of_task.named and isinstance(network, nn.Module):
            raise ValueError(
                f"`{role}` must be a run folder or a `ModelConfig` for data of the task `{kind}`, which are shown to it by what"
                f" belongs to its name (a tokenizer), got a {type(network).__name__}."
            )
    data = validate(tasks.settings_of(kind), data, "data.")
    if not isinstance(model, nn.Module):
        data = kind_of_task.as_learnt(data, run_data(model.checkpoint) or {})
    problems: list[str] = getattr(data, "problems", list)()
    if problems:
        raise SettingsError(problems)
    student, taught_by = (network if isinstance(network, ModelConfig) else None for network in (model, teacher))
    if taught_by is not None and not isinstance(taught_by, TeacherConfig):
        taught_by = TeacherConfig(**vars(taught_by))
    task = kind_of_task(TrainConfig(student or ModelConfig(""), taught_by, task=kind, data=data))
    task.load(train=False)
    loader = task.loader(train=False, device=where, batch_size=batch_size or task.at_once)
    network = (model if isinstance(model, nn.Module) else load_network(model, task.classes, **task.network_options)).to(where)
    name = f"`{type(model).__name__ if isinstance(model, nn.Module) else model.name}`"
    check_student(network, name, task, where)
    frozen = None
    if teacher is not None:
        frozen = _teacher(teacher, task).to(where)
        check_teacher(frozen, task, where)
    return Prepared(task, network, frozen, loader, where)


def measured(network: nn.Module | None, ready: Prepared) -> Meter | None:
    """Return a meter that has seen the answers of one of the two networks to the evaluation split."""
    if network is None:
        return None
    see = network.logits if isinstance(network, (Teacher, Ensemble)) else network
    return measure(see, ready.loader.epoch(1), ready.task.meter(ready.device))


def _evaluate(ready: Prepared, where: torch.device, latency: bool) -> dict[str, Any]:
    task, network, frozen = ready.task, ready.network, ready.teacher
    sizes = task.cost_inputs(where)
    costs = {"student": network_cost(partial(call, network), network, sizes, task.cost_batches, latency=latency)}
    taught, rated = measured(frozen, ready), {}
    if frozen is not None and taught is not None:
        rated = {f"teacher_{task.headline}": task.rate_teacher(taught)}
        costs["teacher"] = network_cost(frozen.logits, frozen, sizes, task.cost_batches, latency=latency)
    metrics = measure(network, ready.loader.epoch(1), task.meter(where, taught)).compute()
    return {
        **metrics,
        **rated,
        "examples": task.eval_size,
        task.units: task.eval_size,
        "split": task.split,
        "device": _named(where),
        "cost": costs,
    }


def _named(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def _teacher(teacher: nn.Module | ModelConfig, task: Task) -> Teacher | Ensemble:
    if isinstance(teacher, (Teacher, Ensemble)):
        return teacher
    if isinstance(teacher, nn.Module):
        dense = task.network_options.get("output") == "maps"
        return Teacher(teacher, num_classes=len(task.classes), dense=dense)
    return build_teacher(teacher, task)
