"""A loss of logitkd in a plain PyTorch loop: a small network learns scanned digits from a big one.

    python examples/own_loop.py

The idea is the three lines of `distil` between the two forward passes and the backward pass.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from logitkd import GDKDLoss


def distil(student, teacher, loader, epochs):
    """Train ``student`` on labels and on what ``teacher`` says of the same images."""
    loss = GDKDLoss(top_k=3)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    teacher.eval().requires_grad_(False)
    for _ in range(epochs):
        for images, labels in loader:
            with torch.no_grad():
                teacher_logits = teacher(images)
            student_logits = student(images)
            total = F.cross_entropy(student_logits, labels) + 0.5 * loss(student_logits, teacher_logits, labels)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()


def train(model, loader, epochs):
    """Train ``model`` on labels alone: how the teacher comes about here."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()


def network(width):
    """Return a classifier of 8x8 pixels with one hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def main():
    """Train both networks and print the student's accuracy."""
    torch.manual_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.images / 16, dtype=torch.float32), torch.tensor(digits.target)
    loader = DataLoader(TensorDataset(images[:1297], labels[:1297]), batch_size=64, shuffle=True)

    teacher, student = network(256), network(8)
    train(teacher, loader, epochs=10)
    distil(student, teacher, loader, epochs=20)
    with torch.no_grad():
        accuracy = (student(images[1297:]).argmax(dim=1) == labels[1297:]).float().mean()
    print(f"student accuracy: {accuracy:.3f}")


if __name__ == "__main__":
    main()
