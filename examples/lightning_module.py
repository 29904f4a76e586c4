"""A loss of logitkd in a Lightning module: a small network learns scanned digits from a big one.

    python examples/lightning_module.py

The idea is `training_step`, and that the teacher is a `logitkd.Teacher`: frozen, and in eval mode although Lightning puts
the whole module in training mode.
"""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from logitkd import DKDLoss, Teacher


class Distillation(lightning.LightningModule):
    """Train ``student`` on labels and, where there is a ``teacher``, on what it says of the same images."""

    def __init__(self, student, teacher=None, loss=None, weight=1.0):
        super().__init__()
        self.student, self.loss, self.weight = student, loss, weight
        self.teacher = None if teacher is None else Teacher(teacher, num_classes=10)

    def training_step(self, batch, batch_idx):
        """Return the loss of a batch."""
        images, labels = batch
        student_logits = self.student(images)
        total = F.cross_entropy(student_logits, labels)
        if self.teacher is not None:
            total = total + self.weight * self.loss(student_logits, self.teacher(images).logits, labels)
        return total

    def test_step(self, batch, batch_idx):
        """Log the accuracy."""
        images, labels = batch
        self.log("accuracy", (self.student(images).argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self):
        """Optimize the student alone."""
        return torch.optim.AdamW(self.student.parameters(), lr=3e-3)

    def on_save_checkpoint(self, checkpoint):
        """Leave the teacher out of checkpoints."""
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if not k.startswith("teacher.")}


def network(width):
    """Return a classifier of 8x8 pixels with one hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 10))


def main():
    """Train both networks and print the student's accuracy."""
    lightning.seed_everything(0, verbose=False)
    digits = load_digits()
    images, labels = torch.tensor(digits.images / 16, dtype=torch.float32), torch.tensor(digits.target)
    train = DataLoader(TensorDataset(images[:1297], labels[:1297]), batch_size=64, shuffle=True)
    test = DataLoader(TensorDataset(images[1297:], labels[1297:]), batch_size=500)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}

    teacher = network(256)
    lightning.Trainer(max_epochs=8, accelerator="cpu", **quiet).fit(Distillation(teacher), train)
    trainer = lightning.Trainer(max_epochs=15, accelerator="cpu", **quiet)
    module = Distillation(network(8), teacher, DKDLoss(), weight=0.5)
    trainer.fit(module, train)
    (found,) = trainer.test(module, test, verbose=False)
    print(f"student accuracy: {found['accuracy']:.3f}")


if __name__ == "__main__":
    main()
