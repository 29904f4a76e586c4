"""A loss of logitkd in the transformers `Trainer`: a small vision transformer learns scanned digits from a bigger one.

    python examples/transformers_trainer.py

The idea is `compute_loss`. Both models are built from a configuration, so that nothing is downloaded; with
`AutoModelForImageClassification.from_pretrained(...)` the trainer is the same.
"""

import tempfile

import torch
from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from logitkd import LDRLDLoss


class DistillingTrainer(Trainer):
    """A `Trainer` whose loss is the model's own plus ``weight`` times a loss of logitkd."""

    loss_is_scaled_for_ga = False  # ours is a batch mean: the trainer divides it by the steps of gradient accumulation

    def __init__(self, *args, teacher, loss, weight=1.0, **options):
        super().__init__(*args, **options)
        self.teacher = teacher.to(self.args.device).eval().requires_grad_(False)
        self.loss, self.weight = loss, weight

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss of a batch, and the student's outputs where the trainer asks for them."""
        outputs = model(**inputs)
        with torch.no_grad():
            teacher_logits = self.teacher(pixel_values=inputs["pixel_values"]).logits
        total = outputs.loss + self.weight * self.loss(outputs.logits, teacher_logits, inputs["labels"])
        return (total, outputs) if return_outputs else total


def transformer(width, layers):
    """Return a vision transformer for 8x8 gray images in patches of 4x4."""
    config = ViTConfig(image_size=8, patch_size=4, num_channels=1, num_labels=10, hidden_size=width)
    config.num_hidden_layers, config.num_attention_heads, config.intermediate_size = layers, 4, 2 * width
    return ViTForImageClassification(config)


def main():
    """Train both models and print the student's accuracy."""
    digits = load_digits()
    rows = [
        {"pixel_values": torch.tensor(image / 8 - 1, dtype=torch.float32)[None], "labels": int(label)}
        for image, label in zip(digits.images, digits.target, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=6, per_device_train_batch_size=64, learning_rate=4e-3, seed=0,
            use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        teacher, student = transformer(64, 2), transformer(32, 1)
        Trainer(teacher, arguments, train_dataset=rows[:1297]).train()
        trainer = DistillingTrainer(
            student, arguments, train_dataset=rows[:1297], teacher=teacher, loss=LDRLDLoss(), weight=0.1
        )
        trainer.train()
        found = trainer.predict(rows[1297:])
    print(f"student accuracy: {(found.predictions.argmax(axis=1) == found.label_ids).mean():.3f}")


if __name__ == "__main__":
    main()
