"""The meter of segmentation: equal to a confusion matrix made by hand, pooled over images, void left out."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from logitkd.data import Batch
from logitkd.tasks.overlap import SegmentationMeter, class_map

CPU = torch.device("cpu")
NAMES = ("sky", "road", "car", "never")


def batches(seed=0):
    """Two batches of unlike sizes, with void, and logits of a coarser grid; the last class occurs nowhere."""
    random = torch.Generator().manual_seed(seed)
    for number, (height, width) in enumerate([(8, 12), (6, 6)]):
        labels = torch.randint(0, 3, (2, height, width), generator=random)
        labels[:, 0] = -1
        labels[1, 1, :2] = -2  # a label that is missing counts no more than void
        logits = torch.randn(2, 4, height // 2, width // 2, generator=random)
        logits[:, 3] = -100
        yield logits, Batch(torch.zeros(2, 3, height, width), labels, torch.arange(2) + 2 * number)


def by_hand(found):
    """Return per-class intersection over union and the share of right pixels, in percent, by loops."""
    matrix = np.zeros((4, 4))
    for logits, batch in found:
        answers = class_map(logits, tuple(batch.labels.shape[1:])).argmax(1)
        for truth, answer in zip(batch.labels.flatten().tolist(), answers.flatten().tolist(), strict=True):
            if truth >= 0:
                matrix[truth, answer] += 1
    unions = [matrix[c].sum() + matrix[:, c].sum() - matrix[c, c] for c in range(4)]
    overlaps = {name: 100 * matrix[c, c] / unions[c] for c, name in enumerate(NAMES) if unions[c]}
    return overlaps, 100 * np.trace(matrix) / matrix.sum()


def test_it_equals_a_confusion_matrix_made_by_hand_and_torchmetrics():
    meter, theirs = SegmentationMeter(NAMES, CPU), MulticlassJaccardIndex(4, ignore_index=-1, average="none")
    for logits, batch in batches():
        meter.update(logits, batch)
        theirs.update(class_map(logits, tuple(batch.labels.shape[1:])).argmax(1), batch.labels.clamp(min=-1))
    found, (overlaps, accuracy) = meter.compute(), by_hand(batches())
    assert {key: value for key, value in found.items() if "/" in key} == pytest.approx(
        {f"iou/{name}": value for name, value in overlaps.items()}
    )
    assert found["miou"] == pytest.approx(sum(overlaps.values()) / 3)  # the class that occurs nowhere is in no mean
    assert found["pixel_accuracy"] == pytest.approx(accuracy)
    assert [100 * value for value in theirs.compute()[:3].tolist()] == pytest.approx(list(overlaps.values()), rel=1e-5)
    assert "agreement" not in found


def test_a_class_that_is_only_answered_counts_as_missed():
    meter = SegmentationMeter(("a", "b"), CPU)
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 1, 0, 3] = 1
    meter.update(logits, Batch(torch.zeros(1, 3, 1, 4), torch.zeros(1, 1, 4, dtype=torch.long), torch.tensor([0])))
    assert meter.compute()["miou"] == pytest.approx(75 / 2)


def test_agreement_is_the_share_of_labelled_pixels_given_the_teachers_class():
    teacher = SegmentationMeter(NAMES, CPU)
    for logits, batch in batches():
        teacher.update(logits, batch)
    same, other = SegmentationMeter(NAMES, CPU, teacher), SegmentationMeter(NAMES, CPU, teacher)
    agreed = labelled = 0
    for logits, batch in batches():
        same.update(logits, batch)
        turned = logits.roll(1, dims=3)
        other.update(turned, batch)
        size = tuple(batch.labels.shape[1:])
        counts = batch.labels >= 0
        agreed += ((class_map(logits, size).argmax(1) == class_map(turned, size).argmax(1)) & counts).sum().item()
        labelled += counts.sum().item()
    assert same.compute()["agreement"] == 100
    assert other.compute()["agreement"] == pytest.approx(100 * agreed / labelled)
    assert 0 < agreed < labelled


def test_nothing_labelled_gives_numbers():
    meter = SegmentationMeter(("a", "b"), CPU)
    meter.update(torch.zeros(1, 2, 2, 2), Batch(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), -1), torch.tensor([0])))
    assert meter.compute() == {"loss": 0, "miou": 0, "pixel_accuracy": 0}


def test_the_largest_share_is_that_of_the_most_frequent_class_of_the_truth():
    meter = SegmentationMeter(("a", "b"), CPU)
    labels = torch.tensor([[[0, 1, 1, -1]]])
    meter.update(torch.zeros(1, 2, 1, 4), Batch(torch.zeros(1, 3, 1, 4), labels, torch.tensor([0])))
    assert meter.largest_share() == pytest.approx(200 / 3)
