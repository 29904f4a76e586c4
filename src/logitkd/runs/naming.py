"""What a run folder is called by default: the networks, the method, what was changed, the seed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from os.path import normpath
from pathlib import Path
from typing import Any

from logitkd import methods, tasks
from logitkd.runs.config import TrainConfig
from logitkd.runs.folder import dotted
from logitkd.runs.networks import ModelConfig, TeacherConfig, file_name
from logitkd.runs.rules import usual_method
from logitkd.runs.values import plain

__all__ = ["default_folder", "pair_name", "run_name", "teacher_run"]

# Not part of the name: what the folders above it or its ends say, and how a run is shown or where it runs.
ELSEWHERE = {"method", "seed", "student.name", "teacher.name"}
ELSEWHERE |= {"output", "device", "checkpoint_every", "trackers", "quiet", "debug", "data.workers"}
LONGEST = 100  # characters; a file system takes 255 bytes


def default_folder(config: TrainConfig) -> Path:
    """Return the run folder of a configuration that names none.

    >>> str(default_folder(TrainConfig(ModelConfig("resnet18"), method="ce")))
    'runs/resnet18/ce-seed0'
    >>> str(default_folder(TrainConfig(ModelConfig("resnet18"), teacher=ModelConfig("resnet50"), epochs=100, seed=1)))
    'runs/resnet50-resnet18/kd-epochs100-seed1'
    """
    usual = TrainConfig(ModelConfig(config.student.name), method=config.method, task=config.task)
    usual = replace(usual, data=tasks.settings_of(config.task)())
    found = [] if config.teacher is None else [teacher_run(Path("runs"), config.teacher.name)]
    return Path("runs") / pair_name(config) / run_name(config, usual, found)


def teacher_run(home: Path, name: str) -> Path:
    """Return the folder of the run that trained the network ``name`` as a teacher, nothing changed."""
    return home / file_name(name) / "ce-seed0"


def pair_name(config: TrainConfig) -> str:
    """Return a folder's name for student and teachers, from their networks' names.

    >>> from logitkd.runs.networks import TeacherSource
    >>> pair_name(TrainConfig(ModelConfig("resnet18"), TeacherConfig("resnet50", others=(TeacherSource("resnet34"),))))
    'resnet50+resnet34-resnet18'
    """
    teacher = config.teacher
    teachers = [] if teacher is None else [teacher.name, *(other.name for other in getattr(teacher, "others", ()))]
    return "-".join(["+".join(map(file_name, teachers))] * bool(teachers) + [file_name(config.student.name)])


def run_name(config: TrainConfig, usual: TrainConfig, found: Iterable[Path] = ()) -> str:
    """Return the last part of a run folder's path: the method, what differs from ``usual``, the seed.

    Runs whose options differ get names that differ. What is no plain word (a path, say) is told apart by a hash behind what
    can be read of it, and a long name is cut and ends in one.

    Args:
        config: the run.
        usual: what its recipe, or the defaults, would be.
        found: run folders of the teacher that need not be said, as they are where it is looked for.
    """
    now, before = _options(config), _options(usual)
    parts = [_part(key, now[key]) for key in now if now[key] != before.get(key)]
    teacher = {"teacher": plain(TeacherConfig(""))}
    if config.data_seed == config.seed:  # which is its default
        config = replace(config, data_seed=None)
    flat, base = (dotted(teacher | {k: v for k, v in plain(one).items() if k != "teacher" or v}) for one in (config, usual))
    last = [key.rpartition(".")[2] for key in flat] + list(now)
    looked_for = {normpath(path) for path in found}
    for key in flat:
        value, end = flat[key], key.rpartition(".")[2]
        if key in ELSEWHERE or key.startswith("method_options") or value == base.get(key):
            continue
        if key == "teacher.checkpoint" and normpath(str(value)) in looked_for:
            continue
        if key == "teacher.others":
            value = [{k: v for k, v in other.items() if k != "name" and v is not None} for other in value]
            parts += [_part("others", value)] if any(value) else []
        elif end in ("name", "checkpoint"):
            parts.append(_part(key.rpartition(".")[0], value))
        else:
            parts.append(_part(key if last.count(end) > 1 else end, value))
    return _bounded(config.method, parts, f"seed{config.seed}")


def _options(config: TrainConfig) -> Mapping[str, Any]:
    """Return the hyper-parameters of a run's method, but those that ``labels: none`` decides."""
    if config.method not in methods.names():
        return config.method_options
    method = usual_method(config.method, config.task)
    decided = method.label_free_options if config.labels == "none" else {}
    return {key: value for key, value in {**method.options, **config.method_options}.items() if key not in decided}


def _part(key: str, value: Any) -> str:
    """Return ``key`` and ``value`` as a part of a name.

    >>> _part("lr", 0.1), _part("flip", False), _part("milestones", (0.5, 0.75)), _part("source", "../birds")
    ('lr0.1', 'flip_false', 'milestones0.5+0.75', 'source_birds_5e6ae6')
    """
    if isinstance(value, (list, tuple)) and all(_is_word(one) for one in value):
        text = "+".join(map(_word, value)) or "none"
    elif _is_word(value):
        text = _word(value)
    else:
        digest = hashlib.sha256(json.dumps(plain(value), default=repr).encode()).hexdigest()[:6]
        shown = re.sub(r"\W+", "_", Path(value).name, flags=re.ASCII).strip("_")[:24] if isinstance(value, str) else ""
        text = f"{shown}_{digest}" if shown else digest
        return f"{key}_{text}"
    return f"{key}{text}" if text[0].isdigit() else f"{key}_{text}"


def _is_word(value: Any) -> bool:
    if isinstance(value, str):
        return value != "null" and re.fullmatch(r"\w{1,40}", value, re.ASCII) is not None
    return value is None or isinstance(value, (bool, int, float))


def _word(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _bounded(start: str, parts: list[str], end: str) -> str:
    name = "-".join([start, *parts, end])
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    kept: list[str] = []
    for part in parts:
        if len("-".join([start[:40], *kept, part, digest, end])) > LONGEST:
            break
        kept.append(part)
    return "-".join([start[:40], *kept, digest, end])
