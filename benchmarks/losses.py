"""What does a loss cost? Forward and backward of every method against the plainest KD, alternating in one run.

    python benchmarks/losses.py [--examples 512] [--classes 1000] [--dtype float32] [--device cpu] [--repeats 50] [--record]

Time is the median over repeats; the ratio is to plain KD by ``F.kl_div`` and ``softmax``. Memory is the
highest sum of live allocations in forward and backward, gradient included, inputs not, in tensors of the logits' size.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from _record import peak_bytes, record, seconds_alternating
from logitkd import methods

PLAIN = "plain KD (F.kl_div)"


def plain_kd(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """The baseline: what everybody writes first."""
    log_p, q = F.log_softmax(student / temperature, -1), F.softmax(teacher / temperature, -1)
    return F.kl_div(log_p, q, reduction="batchmean") * temperature**2


def main() -> None:
    """Print the table, and with ``--record`` append it to the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)

    student = (3 * torch.randn(args.examples, args.classes, device=device)).to(dtype).requires_grad_()
    teacher = (3 * torch.randn(args.examples, args.classes, device=device)).to(dtype)
    labels = torch.randint(args.classes, (args.examples,), device=device)

    def step_of(loss: Callable[..., Tensor]) -> Callable[[], None]:
        def step() -> None:
            student.grad = None
            loss(student, teacher, labels).backward()

        return step

    steps = {PLAIN: step_of(lambda s, t, _: plain_kd(s, t))}
    steps |= {name: step_of(methods.get(name).loss) for name in methods.names() if methods.get(name).wants.reads == "logits"}
    seconds = seconds_alternating(steps, repeats=args.repeats, device=device)
    base = statistics.median(seconds[PLAIN])
    size = student.numel() * student.element_size()
    print(f"({args.examples}, {args.classes}) {args.dtype} on {device}, n={args.repeats}, torch {torch.__version__}")
    print(f"{'loss':22} {'ms':>8} {'ratio':>7} {'memory':>7}")
    table = {}
    for name, step in steps.items():
        median, memory = statistics.median(seconds[name]), peak_bytes(step, device) / size
        table[name] = {"ms": round(1e3 * median, 3), "ratio": round(median / base, 2), "memory": round(memory, 2)}
        print(f"{name:22} {1e3 * median:8.2f} {median / base:7.2f} {memory:7.2f}")
    if args.record:
        shape = [args.examples, args.classes]
        record("losses", device=device, dtype=args.dtype, n=args.repeats, shape=shape, table=table)


if __name__ == "__main__":
    main()
