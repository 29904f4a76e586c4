"""What do stepping stones cost? A Block-KD step with the last stone, and with all of them, against a plain KD step.

    python benchmarks/blocks.py [--teacher cifar_resnet32x4] [--student cifar_resnet8x4] [--batch 64] [--repeats 15] [--record]

The engine's own steps on the same batch, in turn. Times are medians over repeats; memory is the highest amount allocated
during a step beyond what is there between steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from _record import peak_bytes, record, seconds_alternating
from logitkd import ModelConfig, StonesConfig, TrainConfig, methods
from logitkd.data import Batch
from logitkd.models import build_model
from logitkd.reach import Teacher, Tutor, make_pair
from logitkd.reach.making import PairOptions
from logitkd.tasks.images import ImageTask
from logitkd.training.accelerator import open_accelerator
from logitkd.training.folder import RunFolder
from logitkd.training.pupil import Pupil

CLASSES = 100
VARIANTS = {
    "kd": ("kd", StonesConfig()),
    "block-kd, last stone": ("block-kd", StonesConfig(use="last")),
    "block-kd, all stones": ("block-kd", StonesConfig()),
}


def main() -> None:
    """Print the table, and with ``--record`` append it to the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="cifar_resnet32x4")
    parser.add_argument("--student", default="cifar_resnet8x4")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    images = torch.randn(args.batch, 3, 32, 32, device=device)
    batch = Batch(images, torch.randint(CLASSES, (args.batch,), device=device), torch.arange(args.batch, device=device))
    config = TrainConfig(ModelConfig(args.student), device=args.device, batch_size=args.batch, precision=args.precision)

    with tempfile.TemporaryDirectory() as folder, open_accelerator(config, Path(folder)) as accelerator:
        steps, counts = {}, {}
        for name, (method, stones) in VARIANTS.items():
            torch.manual_seed(0)
            student, teacher = (build_model(model, CLASSES).to(device) for model in (args.student, args.teacher))
            row = methods.get(method)
            tutor = Tutor(Teacher(teacher, num_classes=CLASSES), row.wants, fold=args.precision == "bfloat16")
            options = PairOptions(use=stones.use)
            pair = make_pair(row.wants, student, tutor, batch, options)
            task = ImageTask(config)
            task.class_weights = None
            pupil = Pupil(config, row, task, pair, accelerator, RunFolder(Path(folder)), steps=10**9)
            pupil.learner.train()
            counts[name] = len(getattr(pair, "connectors", ()))

            def step(tutor: Tutor = tutor, pupil: Pupil = pupil) -> None:
                with accelerator.autocast():
                    taught = tutor.teach(batch, 1)
                pupil.step(batch, taught)

            steps[name] = step
        seconds = seconds_alternating(steps, repeats=args.repeats, device=device)
        memory = {name: peak_bytes(step, device) / 2**20 for name, step in steps.items()}
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{args.teacher} -> {args.student}, {args.precision}, batch {args.batch}, {args.threads} threads, {args.device}")
    print(f"{'step':24}{'stones':>8}{'ms':>9}{'times kd':>10}{'peak MiB':>10}")
    table = {}
    for name, median in medians.items():
        ratio = median / medians["kd"]
        table[name] = {
            "stones": counts[name],
            "ms": round(1e3 * median, 1),
            "ratio": round(ratio, 3),
            "MiB": round(memory[name], 1),
        }
        print(f"{name:24}{counts[name]:8}{1e3 * median:9.1f}{ratio:10.2f}{memory[name]:10.1f}")
    if args.record:
        pair = f"{args.teacher} -> {args.student}"
        record("blocks", device=device, dtype=args.precision, n=args.repeats, pair=pair, batch=args.batch, steps=table)


if __name__ == "__main__":
    main()
