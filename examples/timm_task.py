"""A method of logitkd inside timm's training task interface (timm 1.0.23 or newer).

    python examples/timm_task.py

A timm task holds everything between a batch and its loss, and timm's training loop sees nothing else. `LogitTask` is timm's
`LogitDistillationTask` for any method of logitkd's table: the frozen teacher and our objective go in, a dict comes out.
"""

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.task import ClassificationTask, TrainingTask
from torch.nn.parallel import DistributedDataParallel

import logitkd.models  # noqa: F401 (registers the CIFAR networks in timm)
from logitkd import Signals, Teacher, methods
from logitkd.data import DataConfig, load_images, make_loader


class LogitTask(TrainingTask):
    """Cross-entropy and the distillation loss of a method, with the method's weights and warm-up."""

    def __init__(self, student, teacher, method, **options):
        super().__init__(**options)
        self.trainable_module = student  # what timm optimizes, averages, wraps and saves
        self.teacher = Teacher(teacher, num_classes=student.num_classes)  # frozen, in eval mode whatever happens
        self.objective = method.objective()
        self.epoch = 1  # for the warm-up; set it at the start of each epoch

    def prepare_distributed(self, device_ids=None, **options):
        """Wrap the student alone: the teacher has nothing to synchronise."""
        self.trainable_module = DistributedDataParallel(self.trainable_module, device_ids=device_ids, **options)
        return self

    def forward(self, input, target):
        """Return ``loss``, ``output`` and the named terms."""
        student = Signals(self.trainable_module(input))
        loss, terms = self.objective(student, self.teacher(input), target, self.epoch)
        return {"loss": loss, "output": student.logits, **terms}


def fit(task, loader, epochs):
    """Train as timm's `train.py` does: all it asks of a task is ``task(input, target)["loss"]``."""
    model = task.get_trainable_module()
    optimizer = create_optimizer_v2(model, opt="adamw", lr=3e-3)
    for task.epoch in range(1, epochs + 1):
        model.train()
        for images, labels, _ in loader.epoch(task.epoch):
            optimizer.zero_grad()
            task(images, labels)["loss"].backward()
            optimizer.step()


def main():
    """Train a teacher and a student on the scanned digits that come with logitkd; print the student's accuracy."""
    torch.manual_seed(0)
    config = DataConfig(crop_padding=1, flip=False)
    data = load_images(config)
    loader = make_loader(data, config, train=True, batch_size=64, device="cpu")
    teacher, student = (timm.create_model(name, num_classes=10) for name in ("cifar_resnet14", "cifar_resnet8"))
    fit(ClassificationTask(teacher, verbose=False), loader, epochs=2)
    task = LogitTask(student, teacher, methods.get("dkd").replace(warmup_epochs=1))
    fit(task, loader, epochs=4)

    (batch,) = make_loader(data, config, train=False, batch_size=500, device="cpu").epoch(1)
    with torch.no_grad():
        accuracy = (task.get_eval_model().eval()(batch.inputs).argmax(dim=1) == batch.labels).float().mean()
    print(f"student accuracy: {accuracy:.3f}")


if __name__ == "__main__":
    main()
