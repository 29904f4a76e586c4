import pytest
import torch
from torch import nn

from logitkd.exporting.parity import ParityError, compare

IMAGES = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
BATCHES = {str(size): IMAGES[:size] for size in (1, 3, 8)}


@pytest.fixture
def student():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5)).eval()


def test_the_gap_is_the_largest_difference(student):
    def shifted(images):
        return student(images) + 5e-5 * (torch.arange(5) == 3)

    found = compare(student, shifted, BATCHES, "x.onnx")
    assert found.file == "x.onnx"
    assert found.gap == pytest.approx(5e-5, rel=0.01)
    assert found.allowed == pytest.approx(1e-4 * student(IMAGES).abs().max().item())


def test_what_is_allowed_grows_with_the_logits(student):
    with pytest.raises(ParityError, match=r"got a difference of 0\.002"):
        compare(student, lambda images: student(images) + 2e-3, BATCHES, "x.onnx")
    student[1].weight.data *= 1000  # a rounding error is one of the logit
    compare(student, lambda images: student(images) + 2e-3, BATCHES, "x.onnx")


def test_small_logits_are_compared_as_strictly(student):
    student[1].weight.data /= 1000
    student[1].bias.data.zero_()
    with pytest.raises(ParityError):
        compare(student, lambda images: student(images) + 1e-6, BATCHES, "x.onnx")


@pytest.mark.parametrize("size", [1, 3, 8])
def test_one_batch_size_that_differs_is_found(student, size):
    def wrong(images):
        return student(images) + (len(images) == size)

    with pytest.raises(ParityError, match=f"got a difference of 1 on a batch of {size}"):
        compare(student, wrong, BATCHES, "x.onnx")


def test_nan_shape_and_failure_are_no_agreement(student):
    with pytest.raises(ParityError, match="got a difference of nan"):
        compare(student, lambda images: student(images) * float("nan"), BATCHES, "x.onnx")
    with pytest.raises(ParityError, match=r"must give \(1, 5\) logits for a batch of 1, got \(1, 4\)"):
        compare(student, lambda images: student(images)[:, :4], BATCHES, "x.onnx")
    with pytest.raises(ParityError, match=r"x\.onnx must take a batch of 1, got RuntimeError: shape '\[2, 48\]'"):
        compare(student, lambda images: student(images.reshape(2, 48)), BATCHES, "x.onnx")
