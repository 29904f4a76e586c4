"""How fast is a training step? The engine's settings against a plain eager float32 loop, alternating in one run.

    python benchmarks/step.py [--teacher cifar_resnet32x4] [--student cifar_resnet8x4] [--batch 64] [--repeats 15] [--record]

All variants train the same networks with the same loss on the same batches. ``plain`` is the loop that everybody writes
first: teacher without gradient, student, loss, SGD, nothing cast and nothing rearranged. The others are the engine's own
step, the reading of its losses included. Times are medians over repeats.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from _record import record, seconds_alternating
from logitkd import ModelConfig, TrainConfig, methods
from logitkd.data import Batch
from logitkd.models import build_model
from logitkd.reach import Teacher, Tutor, make_pair
from logitkd.tasks.images import ImageTask
from logitkd.training.accelerator import open_accelerator
from logitkd.training.epoch_log import StepLog
from logitkd.training.folder import RunFolder
from logitkd.training.pupil import Pupil

CLASSES = 100
PLAIN = "plain float32"


def networks(args: argparse.Namespace, device: torch.device) -> tuple[nn.Module, nn.Module]:
    """Return student and teacher, the same weights at every call."""
    torch.manual_seed(0)
    return tuple(build_model(name, CLASSES).to(device) for name in (args.student, args.teacher))


def plain_step(args: argparse.Namespace, device: torch.device, batch: Batch) -> Callable[[], object]:
    """The loop that everybody writes first."""
    student, teacher = networks(args, device)
    teacher.eval().requires_grad_(False)
    method = methods.get(args.method)
    loss = method.loss
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        with torch.no_grad():
            teacher_logits = teacher(batch.inputs)
        logits = student(batch.inputs)
        total = method.ce_weight * nn.functional.cross_entropy(logits, batch.labels)
        total = total + method.kd_weight * loss(logits, teacher_logits, batch.labels)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step


def main() -> None:
    """Print the table, and with ``--record`` append it to the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="cifar_resnet32x4")
    parser.add_argument("--student", default="cifar_resnet8x4")
    parser.add_argument(
        "--method", default="dkd", choices=[n for n in methods.names() if methods.get(n).wants.reads == "logits"]
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    images = torch.randn(args.batch, 3, 32, 32, device=device)
    batch = Batch(images, torch.randint(CLASSES, (args.batch,), device=device), torch.arange(args.batch, device=device))
    fast_batch = batch._replace(inputs=images.to(memory_format=torch.channels_last))

    base = TrainConfig(ModelConfig(args.student), device=args.device, batch_size=args.batch)
    variants = {
        "float32": (base, batch),
        "float32 channels_last": (replace(base, channels_last=True), fast_batch),
        "bfloat16 channels_last": (replace(base, channels_last=True, precision="bfloat16"), fast_batch),
    }
    plain = plain_step(args, device, batch)
    print(f"{args.teacher} -> {args.student}, {args.method}, batch {args.batch}, {args.threads} threads, {args.device}")
    print(f"{'engine':28}{'images/s':>10}{'plain images/s':>16}{'ratio':>8}")
    speeds, ratios = {}, {}
    for name, (config, data) in variants.items():  # accelerate knows one precision at a time: each against plain
        with tempfile.TemporaryDirectory() as folder, open_accelerator(config, Path(folder)) as accelerator:
            actions = {PLAIN: plain, name: engine_step(args, device, config, data, accelerator)}
            seconds = seconds_alternating(actions, repeats=args.repeats, device=device)
        slow, fast = (statistics.median(seconds[key]) for key in (PLAIN, name))
        speeds[name], ratios[name] = round(args.batch / fast, 1), round(slow / fast, 3)
        print(f"{name:28}{args.batch / fast:10.0f}{args.batch / slow:16.0f}{slow / fast:8.2f}")
    if args.record:
        record(
            "step",
            device=device,
            dtype="float32, bfloat16",
            n=args.repeats,
            pair=f"{args.teacher} -> {args.student}",
            method=args.method,
            batch=args.batch,
            images_per_second=speeds,
            speedup_over_plain=ratios,
        )


def engine_step(
    args: argparse.Namespace, device: torch.device, config: TrainConfig, batch: Batch, accelerator: Accelerator
) -> Callable[[], object]:
    """The engine's step and what its loop does with the outcome."""
    method = methods.get(args.method)
    student, teacher = networks(args, device)
    tutor = Tutor(Teacher(teacher, num_classes=CLASSES), method.wants, fold=config.precision == "bfloat16")
    pair = make_pair(method.wants, student, tutor, batch)
    if config.channels_last:
        teacher.to(memory_format=torch.channels_last)
        pair.to(memory_format=torch.channels_last)
    task = ImageTask(config)
    task.class_weights = None
    pupil = Pupil(config, method, task, pair, accelerator, RunFolder(Path(".")), steps=10**9)
    pupil.progress.epoch = 20
    pupil.learner.train()
    log = StepLog(every=10)

    def step() -> None:
        with accelerator.autocast():
            taught = tutor.teach(batch, 20)
        if log.add(20, 1, pupil.step(batch, taught)):
            log.read()

    return step


if __name__ == "__main__":
    main()
