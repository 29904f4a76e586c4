"""What a command prints when it is done: the tables of `train`, `eval` and `export`, and the command to give next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitkd import tasks
from logitkd.cli import tables
from logitkd.runs.config import TrainConfig
from logitkd.runs.folder import CONFIG, read_result, read_run
from logitkd.runs.networks import ModelConfig, TeacherConfig

if TYPE_CHECKING:
    from logitkd.exporting.export import ExportResult
    from logitkd.tasks.task import Columns
    from logitkd.training.train import RunResult

__all__ = ["show_evaluations", "show_export", "show_result", "student_alone", "whence"]

# What may differ between a student and the same student alone: what it learns from and how, and how a run is shown.
FREE = {"teacher", "method", "method_options", "stones", "optim", "schedule"}
FREE |= {"output", "device", "checkpoint_every", "trackers", "quiet", "debug"}


def whence(teacher: ModelConfig) -> str:
    """Say where a teacher's weights come from and, if a run made them, how good it was and on what."""
    if teacher.checkpoint is None:
        return ""
    folder = Path(teacher.checkpoint)
    result = read_result(folder)
    if result is None:
        return f" from {folder}"
    headline, run = result.get("headline", "top1"), read_run(folder)["run"]
    title = _title(headline, _columns(run.get("task", TrainConfig.task), result))
    return f" from {folder}, {title} {result[headline]:.2f} on {run['data'].get('source', 'its data')}"


def _columns(task: str, metrics: Mapping[str, Any]) -> Columns:
    """Return the columns of a task's table; of one that names none a column a metric."""
    named = tasks.get(task).table if task in tasks.names() else ()
    return named or tuple((name, name, 1) for name, value in metrics.items() if isinstance(value, float))


def _title(headline: str, columns: Columns) -> str:
    """Return what a person calls a metric."""
    return next((title for title, key, _ in columns if key == headline), headline)


def show_result(config: TrainConfig, result: RunResult, recipe: str | None, flags: Mapping[str, str]) -> None:
    """Print what a run came to.

    Args:
        config: the run's.
        result: of it.
        recipe: the one that was named, if any.
        flags: those that were typed, by key.
    """
    epochs = f"{config.epochs} epoch{'s' * (config.epochs > 1)}"
    print(f"{result.folder}: {config.student.name}, {config.method}, seed {config.seed}, {epochs}")
    headline = result.headline
    columns = _columns(config.task, result.metrics)
    title = _title(headline, columns)
    rows = [["last epoch", *_numbers(result.metrics, columns)]]
    if result.teacher_score is not None:
        rows.append(["its teacher", *_numbers({headline: result.teacher_score}, columns)])
    tables.show(["", *(name for name, _, _ in columns)], rows, right=[name for name, _, _ in columns])
    _show_kinds(["last epoch"], [result.metrics])
    best = result.best
    print(f"best epoch: {best['epoch']}, {title} {best[headline]:.2f} (chosen on `{best['split']}`, so it flatters)")
    alone = student_alone(result.folder, headline)
    if alone is not None:
        folder, score = alone
        print(f"gain over the student alone ({folder}, {title} {score:.2f}): {result.score - score:+.2f}")
    print(f"the student, {result.parameters:,} parameters: {result.folder / 'student.safetensors'}")
    print("next: " + "\n      ".join(map(shlex.join, _next(result.folder, recipe, flags))))


def student_alone(folder: Path, headline: str = "top1") -> tuple[Path, float] | None:
    """Return the finished run, beside that in ``folder``, of the same student without a teacher (`ce`), and its headline.

    The same are the data, by their fingerprint, the seed, the epochs and all else but optimizer and schedule, which a recipe
    may set for a method. ``None`` where there is no such run, or the run itself is one.
    """
    record = read_run(folder)
    ours = _compared(record)
    if record["method"].get("name") == "ce" or ours["fingerprint"] is None:
        return None
    for other in sorted(path.parent for path in folder.parent.glob(f"*/{CONFIG}")):
        try:
            result = read_result(other)  # small and quick to read, unlike the settings
            if result is None or result.get("method") != "ce" or result.get("seed") != record["run"].get("seed"):
                continue
            if _compared(read_run(other)) == ours:
                return other, result[headline]
        except (OSError, ValueError):  # damaged, or not a run's: then it says nothing of this one
            continue
    return None


def _compared(record: dict[str, Any]) -> dict[str, Any]:
    run = {key: value for key, value in record["run"].items() if key not in FREE}
    run["data"] = {key: value for key, value in run["data"].items() if key != "workers"}
    run["student"] = {key: run["student"].get(key) for key in ("name", "checkpoint")}
    return {**run, "fingerprint": record.get("data", {}).get("fingerprint")}


def _next(folder: Path, recipe: str | None, flags: Mapping[str, str]) -> list[list[str]]:
    """Return the commands that a person may want to give next."""
    if recipe is None or flags.get("role") != "teacher":
        return [["logitkd", "eval", str(folder)], ["logitkd", "export", str(folder)]]
    words = ["logitkd", "train", recipe, "--method", "kd", "--teacher.checkpoint", str(folder)]
    for key, text in flags.items():
        if key.startswith("data.") or key in ("student.name", "teacher.name", "device"):
            words += [f"--{key.removesuffix('.name')}", text]
    return [words]


def _show_kinds(targets: Sequence[str], metrics: Sequence[Mapping[str, Any]]) -> None:
    """Print, of each metric that is there for several classes, as ``iou/NAME``, a line a class."""
    keys = list(dict.fromkeys(key for found in metrics for key in found if "/" in key))
    for kind in dict.fromkeys(key.partition("/")[0] for key in keys):
        named = {key: key.partition("/")[2] for key in keys if key.startswith(f"{kind}/")}
        rows = [[name, *(f"{found[key]:.2f}" if key in found else "-" for found in metrics)] for key, name in named.items()]
        print()
        tables.show([f"{kind} of", *targets], rows, right=list(targets))


def _numbers(metrics: Mapping[str, Any], columns: Columns) -> list[str]:
    return [f"{scale * metrics[key]:.2f}" if key in metrics else "-" for _, key, scale in columns]


def show_evaluations(
    targets: Sequence[str],
    plans: Sequence[tuple[ModelConfig, Any, TeacherConfig | None]],
    metrics: Sequence[dict[str, Any]],
) -> None:
    """Print a line for each target, then what the networks cost."""
    task = tasks.get(tasks.name_of(plans[0][1]))
    columns = _columns(tasks.name_of(plans[0][1]), metrics[0])
    if task.table and any(teacher is not None for *_, teacher in plans):
        columns = (*columns, (f"teacher {task.title}", f"teacher_{task.headline}", 1))
    rows: list[list[str]] = []
    costs: dict[tuple[str, ...], list[str]] = {}  # runs of one pair share their networks: a row each, not one a run
    for target, (model, data, teacher), found in zip(targets, plans, metrics, strict=True):
        on = f"{getattr(data, 'source', 'its data')} {found['split']} ({found['examples']:,})"
        rows.append([target, on, *_numbers(found, columns)])
        for role, named in (("student", model), ("teacher", teacher)):
            if named is not None:
                cost = found["cost"][role]
                for size, macs, spent in _by_size(cost):
                    counts = (named.name, role, f"{cost['parameters']:,}", size, f"{macs:,}")
                    costs.setdefault(counts, [*counts, *(f"{milliseconds:.2f}" for milliseconds in spent.values())])
    titles = [title for title, _, _ in columns]
    tables.show(["student", "data", *titles], rows, right=titles)
    _show_kinds(targets, metrics)
    shown = list(costs.values())
    titles = ["parameters", "size", "multiply-adds", *(f"ms, batch {count}" for count in task.cost_batches)]
    if not any(size for _, _, _, size, *_ in shown):
        shown, titles = [[*row[:3], *row[4:]] for row in shown], [title for title in titles if title != "size"]
    units = {tasks.get(tasks.name_of(data)).units for _, data, _ in plans}
    unit = units.pop().removesuffix("s") if len(units) == 1 else "example"
    print(f"\nOne {unit}, float32, {metrics[0]['device']}:")
    tables.show(["network", "role", *titles][: len(shown[0])], shown, right=titles)


def _by_size(cost: dict[str, Any]) -> list[tuple[str, int, dict[int, float]]]:
    """Return size, multiply-adds and latencies: one line without a size where all examples have the same."""
    macs, spent = cost["macs"], cost.get("latency_ms", {})
    if not isinstance(macs, dict):
        return [("", macs, spent)]
    return [(size, number, spent.get(size, {})) for size, number in macs.items()]


def show_export(result: ExportResult) -> None:
    """Print the files of an export and how well they agree with the student."""
    print(f"{result.folder}: README.md, config.json and, compared on {result.checked_on}:")
    rows = [
        [line.file, f"{(result.folder / line.file).stat().st_size:,}", f"{line.gap:.1e}", f"{line.allowed:.1e}"]
        for line in result.parity
    ]
    titles = ["bytes", "largest difference of a logit", "allowed"]
    tables.show(["file", *titles], rows, right=titles)
