"""What stands beside exported weights: the model card for people, ``config.json`` for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from logitkd import methods
from logitkd.exporting.kind import Input, Kind
from logitkd.exporting.parity import Parity
from logitkd.exporting.public import public_name, public_source
from logitkd.models import parameter_count

__all__ = ["CARD", "card", "describe"]

CARD = "README.md"


def describe(
    kind: Kind,
    student: nn.Module,
    run: dict[str, Any],
    result: dict[str, Any],
    given: Input,
    parity: Sequence[Parity],
) -> dict[str, Any]:
    """Return what ``config.json`` says: other programs' keys, then all about the run under ``logitkd``.

    Args:
        kind: what is exported.
        student: the network.
        run: what the run's ``config.yaml`` says.
        result: what its ``result.json`` says.
        given: what the student takes.
        parity: how well each file agrees.
    """
    config, name, data = run["run"], run["run"]["student"]["name"], run["run"]["data"]
    headline = result.get("headline", "top1")  # which the first run folders lack
    record = kind.facts(student, run, given)
    record["logitkd"] = {
        "version": run["versions"]["logitkd"],
        "student": {"name": public_name(name), "parameters": parameter_count(student)},
        "teachers": _teachers(run),
        "method": run["method"],
        "data": {
            "source": public_source(data["source"]),
            "train_split": data["train_split"],
            "eval_split": result["split"],
            "train_per_class": data.get("train_per_class"),
            "fingerprint": run["data"]["fingerprint"],
            "train": run["data"]["train"],
            "eval": run["data"]["eval"],
        },
        **kind.ours(run),
        "epochs": config["epochs"],
        "seed": config["seed"],
        "precision": config["precision"],
        "accuracy": {key: result[key] for key in (headline, "split", "epoch", "metrics")},
        "files": {line.file: {"largest_gap": line.gap, "allowed_gap": line.allowed} for line in parity},
        "checked_on": f"{given.words}, in batches of {', '.join(given.batches)}",
        "versions": run["versions"],
        "commit": run.get("commit"),
    }
    return record


def _teachers(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a reader may know of each teacher: never where its weights lie on this machine."""
    config, record = run["run"].get("teacher"), run["teacher"]
    if config is None:
        return []
    names = [config["name"], *(other["name"] for other in config.get("others", ()))]
    records = [{key: value for key, value in record.items() if key != "others"}, *record.get("others", {}).values()]
    return [{"name": public_name(name), **one} for name, one in zip(names, records, strict=True)]


def card(kind: Kind, record: dict[str, Any]) -> str:
    """Return the model card, Markdown with the front matter of a hub."""
    ours = record["logitkd"]
    name, data, accuracy = ours["student"]["name"], ours["data"], ours["accuracy"]
    teachers = " and ".join(teacher["name"] for teacher in ours["teachers"])
    sizes = ", ".join(f"{teacher['name']} of {teacher['parameters']:,} parameters" for teacher in ours["teachers"])
    method = methods.get(ours["method"]["name"])
    options = ", ".join(f"{key} {value}" for key, value in ours["method"].items() if key != "name")
    share = f", {data['train_per_class']} {kind.units} a class" if data["train_per_class"] else ""
    labels = kind.labels(record)
    scored = f"`{accuracy['split']}` ({data['eval']:,} {kind.units})"
    rows = {
        "pair": f"{teachers} (teacher) -> {name} (student)" if teachers else name,
        "student": f"{name}, {ours['student']['parameters']:,} parameters",
        "teacher": f"{sizes}; not in these files" if teachers else "none",
        "method": f"{method.name}: {method.summary}. {method.paper}".rstrip(),
        "its options": options or "none",
        "data": f"{data['source']}, split `{data['train_split']}`: {data['train']:,} {kind.units}{share}",
        "data fingerprint": f"`{data['fingerprint']}`",
        "classes": f"{len(labels)}: {', '.join(labels[:10])}{', ...' if len(labels) > 10 else ''}",
        **kind.scores(accuracy, scored),
        "epochs, seed": f"{ours['epochs']}, {ours['seed']}; one run",
        "licence": "to be stated by whoever publishes this: the terms of data and teacher may bind it",
    }
    table = "\n".join(f"| {key} | {_cell(value)} |" for key, value in rows.items())
    files = "\n".join(
        f"| `{file}` | {line['largest_gap']:.1e} | {line['allowed_gap']:.1e} |" for file, line in ours["files"].items()
    )
    loading = "\n\n".join(f"```python\n{block}\n```" for block in kind.loading(record))
    versions = ", ".join(f"{package} {number}" for package, number in ours["versions"].items())
    return f"""\
---
library_name: {kind.library(record)}
pipeline_tag: {kind.pipeline}
tags:
- {kind.pipeline}
- knowledge-distillation
---
# {name}{f", distilled from {teachers}" if teachers else ""}

{kind.classifier} of {len(labels)} classes, trained with logitkd {ours["version"]}.

| | |
|---|---|
{table}

## Input

{kind.input_section(record)}

## Load

{loading}

## Checked

Each file was read back and compared with the trained network, on {ours["checked_on"]}.

| file | largest difference of a logit | allowed |
|---|---|---|
{files}

Trained with {versions}{f", commit {ours['commit']}" if ours["commit"] else ""}.
"""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
