"""A task of one's own: vectors of which the largest entry says the class, and a network for them. Not images."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from logitkd.data import Loader
from logitkd.fields import Record
from logitkd.objective import Targets, Term
from logitkd.tasks.task import Task


@dataclass(frozen=True)
class VectorsConfig(Record):
    """Where vectors come from: a random generator.

    Args:
        examples: to train on.
        noise: how far the entries are spread.
    """

    examples: int = 90
    noise: float = 0.5

    def problems(self, run=None):
        return [f"`data.examples` must be at least 3, got {self.examples}."] if self.examples < 3 else []


@dataclass(frozen=True)
class PaceConfig(VectorsConfig):
    """Vectors that are learnt in another way than images where nobody says how."""

    run_defaults: ClassVar[dict[str, Any]] = {
        "optim.name": "adamw",
        "optim.lr": 2e-3,
        "optim.clip_grad": 1.0,
        "schedule.name": "linear",
        "schedule.warmup": 0.1,
        "epochs": 3,
        "batch_size": 30,
    }
    method_defaults: ClassVar[dict[str, Any]] = {"warmup_epochs": 0}


class VectorFetcher:
    """Vectors and random bits -> the vectors, shifted by a little that the bits decide."""

    device = torch.device("cpu")

    def __init__(self, vectors):
        self.vectors, self.shape = vectors, tuple(vectors.shape[1:])

    def __len__(self):
        return len(self.vectors)

    def fetch(self, requests):
        for rows, bits in requests:
            yield self.vectors[rows] + 0.01 * (bits % 7).unsqueeze(1)


class Recall:
    """The mean over the classes of the share that is found, in percent."""

    def __init__(self, classes):
        self.found, self.there = torch.zeros(classes), torch.zeros(classes)

    def update(self, output, batch):
        hits = (output.argmax(1) == batch.labels).float()
        self.found.index_add_(0, batch.labels, hits)
        self.there.index_add_(0, batch.labels, torch.ones_like(hits))

    def compute(self):
        return {"recall": float(100 * (self.found / self.there).mean()), "seen": int(self.there.sum())}


class VectorTask(Task):
    """Each vector's class is where it is largest; a third of the training vectors has no label."""

    headline, title, units = "recall", "recall", "vectors"
    split = "held out"

    def load(self, *, train=True):
        generator = torch.Generator().manual_seed(5)
        data = self.settings.data
        self.classes = ("x", "y", "z")
        self.train_size, self.eval_size, self.unlabelled = data.examples, 60, data.examples // 3
        self.splits = {}
        for name, size in (("train", self.train_size), ("eval", self.eval_size)):
            labels = torch.arange(size) % 3
            vectors = nn.functional.one_hot(labels, 3) + data.noise * torch.randn(size, 3, generator=generator)
            self.splits[name] = vectors, labels
        self.splits["train"][1][: self.unlabelled] = -1

    def record(self):
        return {"fingerprint": str(float(self.splits["train"][0].sum())), "classes": list(self.classes)}

    def summary(self):
        return f"{self.train_size} vectors"

    def loader(self, *, train, device, batch_size=None):
        vectors, labels = self.splits["train" if train else "eval"]
        size = batch_size or self.settings.batch_size
        seed = self.settings.view_seed
        return Loader(VectorFetcher(vectors), labels, batch_size=size, device=device, seed=seed, shuffle=train)

    def blank(self, count, device):
        return torch.zeros(count, 3, device=device)

    def check_output(self, output, count, name):
        if tuple(output.shape) != (count, 3):
            raise ValueError(f"the student must return one number a class, got {tuple(output.shape)} ({name}).")

    def targets(self, batch, student):
        return Targets(batch.labels)

    def terms(self, student, targets):
        squares = student.logits.square().sum(1)
        return {"ce": targets.cross_entropy(student.logits), "size": Term.of(1e-3 * squares)}

    def meter(self, device, teacher=None):
        return Recall(3)


class Perceptron(nn.Module):
    """Three numbers in, three out."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.1), nn.ReLU(), nn.Linear(16, num_classes))

    def forward(self, vectors):
        return self.layers(vectors)
