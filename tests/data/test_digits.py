import torch
from sklearn.datasets import load_digits as sklearn_digits

from logitkd.data.digits import load_digits


def test_the_splits_are_the_source_divided():
    splits = load_digits()
    source = sklearn_digits()
    expected = sorted((int(label), tuple(image.ravel())) for image, label in zip(source.images, source.target, strict=True))
    found = sorted(
        (int(label), tuple((image[0].double() * 16 / 255).round().flatten().tolist()))
        for images, labels in splits.values()
        for image, label in zip(images, labels, strict=True)
    )
    assert found == expected


def test_the_test_split_is_stratified():
    assert torch.bincount(load_digits()["test"][1]).tolist() == [50] * 10


def test_values_and_channels():
    images, labels = load_digits()["train"]
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    assert (images.min(), images.max()) == (0, 255)
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    assert labels.dtype == torch.int64
