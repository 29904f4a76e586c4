"""Runs that break off, as crashes and signals make them, and what must not depend on it."""

import json

from logitkd.training.display import Lines


def outcome(folder):
    """What must not depend on interruptions: the student's bytes, and the metrics but for times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "eval_seconds", "examples_per_second")
    numbers = [{key: value for key, value in line.items() if key not in timed} for line in lines]
    return (folder / "student.safetensors").read_bytes(), numbers


class StopAfter(Lines):
    """Breaks a run off after a number of steps, as a crash would: without a checkpoint for it."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def step(self, epoch, done, numbers):
        if done == self.steps:
            raise RuntimeError("crash")
