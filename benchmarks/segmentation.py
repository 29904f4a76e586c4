"""What does distilling maps cost? The term at one eighth of the images against a training step of DeepLabV3-ResNet-18.

    python benchmarks/segmentation.py [--methods kd gdkd] [--height 240] [--width 320] [--batch 4] [--repeats 15] [--record]

The step is the student's alone: forward, cross-entropy at the labels' size with the auxiliary head's, backward, SGD. The term
is what a method adds to it once both networks have answered: their maps brought onto one grid, the loss, its gradient down to
the student's map. The teacher's own pass is no part of either. Times are medians over repeats, alternating in one run.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from _record import record, seconds_alternating
from logitkd import methods
from logitkd.data import Batch
from logitkd.models import build_model
from logitkd.objective import Objective, Targets
from logitkd.reach import PairOptions, Taught, Teacher, Tutor, Wants, checked_map, make_pair

STEP = "a training step"


class Answer(nn.Module):
    """A network that answers with the map it holds, whatever it is shown."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        """Return the map."""
        return self.logits


def step_of(network: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], object]:
    """Return the student's training step on labels alone."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        maps = network.train()(images)
        full = {
            name: F.interpolate(each, labels.shape[1:], mode="bilinear", align_corners=False) for name, each in maps.items()
        }
        total = F.cross_entropy(full["out"], labels) + 0.4 * F.cross_entropy(full["aux"], labels)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step


def term_of(name: str, maps: tuple[Tensor, Tensor], images: Tensor, labels: Tensor) -> Callable[[], object]:
    """Return what a method adds to a step: from the maps of student and teacher to the gradient of the student's."""
    classes = maps[0].shape[1]
    method = methods.get(name)
    if "top_k" in method.options:
        method = method.replace(top_k=min(3, classes - 1))
    student, wants = Answer(maps[0]), Wants(method.wants.reads)
    teacher = Teacher(Answer(maps[1]), num_classes=classes, dense=True)
    batch = Batch(images, labels, torch.arange(len(images)))
    pair = make_pair(wants, student, Tutor(teacher, wants), batch, PairOptions(grid="coarser"))
    objective = Objective(method.loss, ce_weight=0.0)
    taught = Taught(checked_map(maps[1], "teacher"), images, {})
    stride = labels.shape[1] // maps[0].shape[2]
    seen = labels[:, ::stride, ::stride]
    targets = Targets(seen, example_weights=torch.ones(seen.shape, device=labels.device))

    def term() -> None:
        student.logits.grad = None
        signals, theirs = pair(batch, taught)
        objective.measure(signals, theirs, targets, 1).total().backward()

    return term


def main() -> None:
    """Print the table, and with ``--record`` append it to the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["kd", "dkd", "gdkd", "ls-kd", "cwd"])
    parser.add_argument("--student", default="deeplabv3:resnet18")
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)

    images = torch.randn(args.batch, 3, args.height, args.width, device=device)
    labels = torch.randint(args.classes, (args.batch, args.height, args.width), device=device)
    network = build_model(args.student, args.classes, output="maps").to(device)
    grid = network(images)["out"].shape[2:]
    student, teacher = (3 * torch.randn(args.batch, args.classes, *grid, device=device) for _ in range(2))

    actions = {STEP: step_of(network, images, labels)}
    actions |= {name: term_of(name, (student, teacher), images, labels) for name in args.methods}
    seconds = seconds_alternating(actions, repeats=args.repeats, device=device)
    base = statistics.median(seconds[STEP])
    shown = f"{args.batch} images of {args.height} x {args.width}, maps of {grid[0]} x {grid[1]} x {args.classes}"
    print(f"{args.student}, {shown} on {device}, n={args.repeats}, torch {torch.__version__}")
    table = {}
    for name, each in seconds.items():
        median = statistics.median(each)
        table[name] = {"ms": round(1e3 * median, 3), "share": round(median / base, 4)}
        print(f"{name:16} {1e3 * median:9.2f} ms {median / base:7.2%}")
    if args.record:
        size = {"student": args.student, "images": [args.batch, args.height, args.width], "map": [*grid, args.classes]}
        record("segmentation", device=device, dtype="float32", n=args.repeats, **size, table=table)


if __name__ == "__main__":
    main()
