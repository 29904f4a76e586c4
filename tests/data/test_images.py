import pytest
import torch

from logitkd.data.images import ImageData, ImageSplit, channel_statistics


def test_statistics_equal_float64():
    images = torch.randint(0, 256, (5000, 3, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 1] //= 3
    mean, std = channel_statistics(images)
    values = images.double().transpose(0, 1).flatten(1) / 255
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), values.mean(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.tensor(std, dtype=torch.float64), values.std(1, correction=0), rtol=1e-12, atol=0)


def test_statistics_are_the_same_in_any_order():
    images = torch.randint(0, 256, (5000, 3, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert channel_statistics(images) == channel_statistics(images.flip(0))


def test_a_constant_channel_is_refused():
    images = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8)
    images[:, 2] = 7
    with pytest.raises(ValueError, match=r"channel 2 of the training images has one value \(7\)"):
        channel_statistics(images)


def test_fingerprint_sees_every_part():
    def split(start):
        return ImageSplit((torch.arange(72) * 7 + start).to(torch.uint8).view(6, 3, 2, 2), torch.arange(6) % 2)

    def fingerprint(train, test, classes):
        return ImageData(train, test, classes, (0.5,) * 3, (0.5,) * 3).fingerprint

    train, test, classes = split(0), split(1), ("a", "b")
    base = fingerprint(train, test, classes)
    assert base == fingerprint(split(0), split(1), ("a", "b"))
    assert base == "95f95fd23efff2dc134031e64eba9488"
    pixel = train.images.clone()
    pixel[3, 1, 0, 1] ^= 1
    label = train.labels.clone()
    label[5] = 0
    others = [
        fingerprint(ImageSplit(pixel, train.labels), test, classes),
        fingerprint(ImageSplit(train.images, label), test, classes),
        fingerprint(ImageSplit(train.images.flip(0), train.labels.flip(0)), test, classes),
        fingerprint(ImageSplit(train.images.view(6, 3, 1, 4), train.labels), test, classes),
        fingerprint(test, train, classes),
        fingerprint(train, test, ("a", "c")),
    ]
    assert len({base, *others}) == 7
