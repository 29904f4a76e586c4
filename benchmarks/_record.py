"""What every benchmark script shares: alternating timings, and a line in the results file that says how it was made."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from logitkd.training.provenance import commit, versions

RESULTS = Path(__file__).parent / "results.jsonl"


def device_name(device: torch.device) -> str:
    """The processor's name, with the threads in use on a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def seconds_alternating(
    actions: Mapping[str, Callable[[], object]], *, repeats: int, device: torch.device, warmup: int = 3
) -> dict[str, list[float]]:
    """Time each action ``repeats`` times, in turn, so that a busy moment of the machine hits all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(warmup + repeats):
        for name, action in actions.items():
            _wait(device)
            start = time.perf_counter()
            action()
            _wait(device)
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(step: Callable[[], None], device: torch.device) -> int:
    """Return the highest sum of live bytes that ``step`` allocates."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def spread(seconds: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(seconds, n=4)
    return {"median": middle, "quartile_low": low, "quartile_high": high}


def record(name: str, *, device: torch.device, dtype: str, n: int, **numbers: object) -> None:
    """Append one result to ``results.jsonl``: the numbers, and device, dtype, load, versions, date, commit, n.

    ``load`` is the machine's load average now: far above the threads in use, the numbers are those of a crowded machine.
    """
    line = {
        "benchmark": name,
        "date": date.today().isoformat(),
        "commit": commit(),
        "device": device_name(device),
        "dtype": dtype,
        "load": round(os.getloadavg()[0], 1),
        "n": n,
        **numbers,
        "versions": versions(),
    }
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
