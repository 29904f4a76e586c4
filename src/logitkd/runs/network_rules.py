"""What can be refused of a run's networks by their settings and by what there is: names, files, layers."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from logitkd import tasks
from logitkd.checks import collector
from logitkd.models import Output, find_own, read_name
from logitkd.models.names import read_source
from logitkd.runs.config import TrainConfig
from logitkd.runs.folder import CONFIG, read_run, run_folder_of
from logitkd.runs.networks import ModelConfig, TeacherSource
from logitkd.runs.of_run import is_path

__all__ = ["brings_weights", "check_recorded_output", "network_problems", "output_of"]

WORDS = {"classes": "of every example, (N, C)", "maps": "of every cell of a grid, (N, C, h, w)"}


def network_problems(settings: TrainConfig, refused: Collection[str] = ()) -> list[str]:
    """Return what is wrong with the networks of a run, a message each.

    Args:
        settings: the run's.
        refused: keys that were refused before: nothing is said of those networks' names and files.
    """
    found: list[str] = []
    for role, network in settings.networks().items():
        if not {role, f"{role}.name"} & set(refused):
            found += _network(role, network, output_of(settings))
    return found + _layers(settings)


def brings_weights(network: ModelConfig) -> bool:
    """Whether a network's weights come from somewhere: a checkpoint, a name that stands for them, one's own callable."""
    source = read_name(network.name)
    return network.checkpoint is not None or source.has_head or source.kind == "own"


def output_of(settings: Any) -> Output:
    """Return what the networks of a run return, as its data settings say: logits of an example where they say nothing."""
    output: Output = getattr(settings.data, "output", "classes")
    return output


def check_recorded_output(role: str, checkpoint: str | None, output: Output) -> None:
    """Check that the run that wrote a checkpoint trained a network that returns what is wanted here.

    Args:
        role: the key that the network is set under.
        checkpoint: its weights; what no run wrote is no matter.
        output: what it must return.

    Raises:
        ValueError: it returns something else.
    """
    folder = run_folder_of(checkpoint)
    if folder is None:
        return
    task = read_run(folder)["run"].get("task", TrainConfig.task)
    if task not in tasks.names():  # one that a person registered elsewhere: nobody knows
        return
    found: Output = getattr(tasks.settings_of(task), "output", "classes")
    if found != output:
        raise ValueError(
            f"`{role}` must return logits {WORDS[output]}, but the network of {folder} returns them {WORDS[found]}: it was"
            f" trained with `task: {task}`. Give a run of the same task."
        )


def _network(role: str, network: ModelConfig, output: Output) -> list[str]:
    """What a network's settings name and is not there."""
    found: list[str] = []
    check = collector(found)
    if is_path(network.name):
        saved = (Path(network.name) / "config.json").is_file()
        hint = f" Give what `save_pretrained` wrote as `transformers:{network.name}`." if saved else ""
        found.append(f"`{role}` must be a network's name or a run folder, but there is no {Path(network.name) / CONFIG}.{hint}")
    else:
        check(read_source, network.name, network.checkpoint, output)
    if read_name(network.name).kind == "own":
        try:
            check(find_own, network.name)
        except ImportError as error:  # it is there; something that it imports is not
            found.append(f"model `{network.name}` cannot be imported: {error}.")
    if network.checkpoint is not None and not Path(network.checkpoint).exists():
        found.append(f"`{role}.checkpoint` must be a file or a run folder, but there is no {network.checkpoint}.")
    check(check_recorded_output, role, network.checkpoint, output)
    label_map = network.label_map if isinstance(network, TeacherSource) else None
    if label_map is not None and not Path(label_map).is_file():
        found.append(f"`{role}.label_map` must be a file, but there is no {label_map}.")
    return found


def _layers(settings: TrainConfig) -> list[str]:
    """What stands in the way of a student that starts from some of its teacher's layers."""
    student, teacher = settings.student, settings.teacher
    found = [
        f"`{role}.layers` must be left out, got {list(network.layers)}: it is the student that starts from layers."
        for role, network in settings.networks().items()
        if network.layers is not None and network.checkpoint is None and role != "student"
    ]
    if student.layers is None:
        return found
    start, got = "`student.layers` must be left out", f"got {list(student.layers)}"
    folder = run_folder_of(student.checkpoint)
    if folder is not None and read_run(folder)["run"]["student"].get("layers") == list(student.layers):
        return found  # a student that is there already: so many layers it has
    if student.checkpoint is not None:
        found.append(f"{start} where `student.checkpoint` has its weights, {got}. Leave one of them out.")
    elif teacher is None:
        found.append(
            f"{start} without a teacher, whose layers they are, {got}. Give one, `--teacher`; `ce` asks no more of it."
        )
    elif teacher.others:
        found.append(f"{start} with several teachers, {got}: it starts from one teacher's layers.")
    elif teacher.label_map is not None:
        found.append(f"{start} with `teacher.label_map`, {got}: the teacher's classifier is of other classes.")
    else:
        found += [
            f"{start} unless student and teacher are text networks of one family, `transformers:ID_OR_FOLDER`, {got} and "
            f"`{role}` {network.name}."
            for role, network in (("student", student), ("teacher", teacher))
            if read_name(network.name).kind != "transformers" and not is_path(network.name)  # of which is told
        ]
    return found
