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
    from logitkd.training.train import RunResult

__all__ = ["show_evaluations", "show_export", "show_result", "student_alone", "whence"]

Columns = tuple[tuple[str, str, int], ...]  # title, key, factor
METRICS: Columns = (
    ("top-1", "top1", 1),
    ("top-5", "top5", 1),
    ("agreement", "agreement", 1),
    ("ECE", "calibration_error", 100),
)

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
    headline = result.get("headline", "top1")
    source = read_run(folder)["run"]["data"].get("source", "its data")
    return f" from {folder}, {_title(headline)} {result[headline]:.2f} on {source}"


def _title(headline: str) -> str:
    """Return what a person calls a metric."""
    return next((title for title, key, _ in METRICS if key == headline), headline)


def _own(metrics: Mapping[str, Any]) -> Columns:
    """Return a column a metric, for a task of one's own."""
    return tuple((name, name, 1) for name in metrics)


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
    title = _title(headline)
    columns = METRICS if title != headline else _own(result.metrics)
    rows = [["last epoch", *_numbers(result.metrics, columns)]]
    if result.teacher_score is not None:
        rows.append(["its teacher", *_numbers({headline: result.teacher_score}, columns)])
    tables.show(["", *(name for name, _, _ in columns)], rows, right=[name for name, _, _ in columns])
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


def _numbers(metrics: dict[str, Any], columns: Sequence[tuple[str, str, int]] = METRICS) -> list[str]:
    return [f"{scale * metrics[key]:.2f}" if key in metrics else "-" for _, key, scale in columns]


def show_evaluations(
    targets: Sequence[str],
    plans: Sequence[tuple[ModelConfig, Any, TeacherConfig | None]],
    metrics: Sequence[dict[str, Any]],
) -> None:
    """Print a line for each target, then what the networks cost."""
    columns: Columns = METRICS
    if any(teacher is not None for *_, teacher in plans):
        columns = (*METRICS, ("teacher top-1", "teacher_top1", 1))
    if not any(key in found for _, key, _ in METRICS for found in metrics):  # a task of one's own
        columns = _own({key: value for key, value in metrics[0].items() if isinstance(value, float)})
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
    shown, titles = list(costs.values()), ["parameters", "size", "multiply-adds", "ms, batch 1", "ms, batch 64"]
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
