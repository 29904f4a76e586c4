"""What making a batch costs beside the training step that uses it (at most 5 % is the aim).

    python benchmarks/pipeline.py [--batch-size 64] [--device cpu] [--threads 2] [--repeats 40]

CIFAR-shaped random images, batches from ``make_loader`` with crop and flip as in training, and the same mixed by mixup and
CutMix, against forward, backward and SGD step of cifar_resnet20, taken in turn. Appends a line to benchmarks/results.jsonl.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import count

import timm
import torch
import torch.nn.functional as F

import logitkd.models  # noqa: F401  # registers the CIFAR networks in timm
from _record import record, seconds_alternating, spread
from logitkd.data import Batch, DataConfig, ImageData, ImageSplit, Loader, Mixing, make_loader


def batches_for_ever(loader: Loader) -> Iterator[Batch]:
    for epoch in count(1):
        yield from loader.epoch(epoch)


def training_step(batch: Batch, device: torch.device, channels_last: bool, bfloat16: bool) -> Callable[[], None]:
    model = timm.create_model("cifar_resnet20", num_classes=100).to(device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss = F.cross_entropy(model(batch.inputs), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--images", type=int, default=50_000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    images = torch.randint(0, 256, (options.images, 3, 32, 32), dtype=torch.uint8)
    split = ImageSplit(images, torch.randint(0, 100, (options.images,)))
    data = ImageData(split, split, tuple(map(str, range(100))), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

    print(f"{'':28}{'batch':>10}{'mixed':>10}{'step':>10}{'share':>9}   (median of {options.repeats}, milliseconds)")
    for dtype, channels_last in (("float32", False), ("bfloat16", True)):
        batches, mixed = (
            batches_for_ever(
                make_loader(
                    data,
                    DataConfig(),
                    train=True,
                    batch_size=options.batch_size,
                    device=device,
                    channels_last=channels_last,
                    mixing=mixing,
                )
            )
            for mixing in (None, Mixing(mixup=0.2, cutmix=1.0))
        )
        step = training_step(next(batches), device, channels_last, dtype == "bfloat16")
        actions = {"batch": lambda made=batches: next(made), "mixed": lambda made=mixed: next(made), "step": step}
        seconds = seconds_alternating(actions, repeats=options.repeats, device=device)
        batch, blend, train = (spread(seconds[name]) for name in actions)
        share = batch["median"] / train["median"]
        label = f"{dtype}, {'channels_last' if channels_last else 'contiguous'}"
        print(
            f"{label:28}{batch['median'] * 1e3:>10.3f}{blend['median'] * 1e3:>10.3f}{train['median'] * 1e3:>10.2f}{share:>9.2%}"
        )
        record(
            "pipeline",
            device=device,
            dtype=dtype,
            n=options.repeats,
            channels_last=channels_last,
            batch_size=options.batch_size,
            batch_seconds=batch,
            mixed_batch_seconds=blend,
            step_seconds=train,
            share=share,
        )


if __name__ == "__main__":
    main()
