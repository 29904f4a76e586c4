"""Run by test_blocks.py: under DistributedDataParallel two processes get the gradients that one gets from the whole batch."""

from __future__ import annotations

import itertools
import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from logitkd.losses import BlockKDLoss
from logitkd.reach import StoneModel, Teacher


def network(widths: list[int]) -> nn.Module:
    """Return linear blocks with widths in between, the last the classifier."""
    return nn.Sequential(*(nn.Linear(a, b, dtype=torch.float64) for a, b in itertools.pairwise(widths)))


def gradients(part: slice, parallel: bool) -> list[Tensor]:
    """Return the gradients of student and connectors from a part of the batch, averaged over the processes if ``parallel``."""
    torch.manual_seed(0)
    x, labels = torch.randn(4, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    student, teacher = network([6, 4, 5, 4]), Teacher(network([6, 8, 7, 4]), num_classes=4)
    stones = StoneModel(student, teacher, x, student_cuts=["0", "1"], teacher_cuts=["0", "1"]).double()
    learner = DistributedDataParallel(stones) if parallel else stones
    taught, signals = stones.teach(x[part]), learner(x[part])
    BlockKDLoss()(signals.logits, taught.logits, labels[part], stones=signals.stones).backward()
    return [parameter.grad for parameter in stones.parameters() if parameter.grad is not None]


def process(rank: int, port: int) -> None:
    """Compare this process's gradients with those of the whole batch."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    whole, shared = gradients(slice(0, 4), False), gradients(slice(2 * rank, 2 * rank + 2), True)
    for one, other in zip(whole, shared, strict=True):
        torch.testing.assert_close(one, other)
    dist.destroy_process_group()
    print("agrees", flush=True)


if __name__ == "__main__":
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        free = server.getsockname()[1]
    mp.spawn(process, args=(free,), nprocs=2)
