"""Mixup and CutMix: what they compute, that nothing but an example's random bits decides it, and their distributions."""

import pytest
import torch

from logitkd.data import Batch, Mixing
from logitkd.data.mixing import Mixer
from logitkd.data.rng import Stream, random_bits


def batch(n=8, height=6, width=5, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, height, width, generator=generator)
    return Batch(images, torch.randint(classes, (n,), generator=generator), torch.arange(n) + 100)


def mixer(**options):
    """Return a function (batch, epoch) -> batch that mixes each example with the one before it."""
    mix = Mixer(**{"mixup": 0.0, "cutmix": 0.0, "num_classes": 4, **options})

    def mixed(batch, epoch):
        bits = random_bits(3, epoch, batch.index, Stream.MIXING)
        own, labels = batch.inputs, batch.labels
        return Batch(*mix(own, own.roll(1, 0), labels, labels.roll(1), bits), batch.index)

    return mixed


def test_mixup_is_the_share_of_its_labels():
    before = batch(classes=100)
    before.labels.copy_(torch.arange(8))  # all different: the shares can be read off
    after = mixer(mixup=1.0, num_classes=8)(before, 2)
    for i in range(8):
        j = (i - 1) % 8
        share = after.labels[i, i]
        expected = share * before.inputs[i] + (1 - share) * before.inputs[j]
        torch.testing.assert_close(after.inputs[i], expected)
        row = torch.zeros(8)
        row[i], row[j] = share, 1 - share
        torch.testing.assert_close(after.labels[i], row)
    assert torch.equal(after.index, before.index)


def test_cutmix_is_a_box_and_its_area():
    before = batch(64)
    before.labels.copy_(torch.arange(64))
    after = mixer(cutmix=1.0, num_classes=64)(before, 1)
    areas = []
    for i in range(64):
        foreign = (after.inputs[i] == before.inputs[(i - 1) % 64]).all(0)
        assert torch.equal(foreign, (after.inputs[i] != before.inputs[i]).any(0))
        rows, columns = foreign.any(1), foreign.any(0)
        assert torch.equal(foreign, rows[:, None] & columns[None])
        for line in (rows, columns):  # in one piece
            assert (line[1:] != line[:-1]).sum() <= 2
        areas.append(foreign.float().mean())
        assert after.labels[i, i].item() == pytest.approx(1 - areas[-1].item())
    assert min(areas) == 0  # a share near 1 has a box of less than two pixels, so none
    assert max(areas) > 0.5


def test_a_pair_of_one_class_keeps_it():
    before = batch(classes=1)
    for options in ({"mixup": 0.3}, {"cutmix": 1.0}, {"mixup": 0.3, "cutmix": 1.0}):
        labels = mixer(**options)(before, 1).labels
        torch.testing.assert_close(labels, torch.nn.functional.one_hot(before.labels, 4).float())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_shares_are_beta(alpha):
    before = batch(4000, 1, 1)
    before.labels.copy_(torch.arange(4000) % 2)  # neighbours differ
    labels = mixer(mixup=alpha, num_classes=2)(before, 1).labels
    share = labels.gather(1, before.labels[:, None]).flatten().double()
    assert share.mean().item() == pytest.approx(0.5, abs=0.03)
    assert share.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)  # Beta's variance


def test_both_toss_a_coin():
    before = batch(2000, 4, 4)
    before.labels.copy_(torch.arange(2000) % 2)
    after = mixer(mixup=1.0, cutmix=1.0, num_classes=2)(before, 1)
    pasted = ((after.inputs == before.inputs) | (after.inputs == before.inputs.roll(1, 0))).flatten(1).all(1)
    assert pasted.float().mean().item() == pytest.approx(0.5, abs=0.06)
    torch.testing.assert_close(after.labels.sum(1), torch.ones(2000))


def test_bits_decide():
    before, mix = batch(), mixer(mixup=1.0, cutmix=1.0)
    first = mix(before, 1)
    assert torch.equal(first.inputs, mixer(mixup=1.0, cutmix=1.0)(before, 1).inputs)
    assert not torch.equal(first.inputs, mix(before, 2).inputs)
    assert not torch.equal(first.inputs, mix(before._replace(index=before.index.roll(1)), 1).inputs)
    part = Batch(*(tensor[:5] for tensor in before))  # all but the first have the same partner
    assert torch.equal(mix(part, 1).inputs[1:], first.inputs[1:5])


def test_nothing_mixes_where_both_are_off():
    assert Mixing().mixer(4, "cpu") is None
    assert Mixing(mixup=0.5).mixer(4, "cpu").num_classes == 4
    assert Mixing(cutmix=0.5, labels=False).mixer(4, "cpu").num_classes is None


def test_without_classes_only_images_are_mixed():
    before = batch()
    before.labels.fill_(-1)
    after = mixer(cutmix=1.0, num_classes=None)(before, 1)
    assert torch.equal(after.labels, before.labels)
    assert not torch.equal(after.inputs, before.inputs)


def test_memory_format_and_dtype_stay():
    before = batch()
    before = before._replace(inputs=before.inputs.to(memory_format=torch.channels_last))
    for options in ({"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}):
        images = mixer(**options)(before, 1).inputs
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"), [({}, "nothing would be mixed"), ({"mixup": -1.0}, "`mixup` must be at least 0")]
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        mixer(**options)
