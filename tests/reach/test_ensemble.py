"""Several frozen teachers that speak as one."""

import math

import pytest
import timm
import torch
from torch import nn

import logitkd.models  # noqa: F401  (registers the CIFAR networks)
from logitkd.reach import Ensemble, LabelMap, Renormalize, Teacher


class Says(nn.Module):
    """Says the same logits of every image."""

    def __init__(self, *logits):
        super().__init__()
        self.register_buffer("row", torch.tensor(logits))

    def forward(self, images):
        return self.row.expand(len(images), -1)


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def pair(combine):
    # softmax: (3/4, 1/4) and (1/2, 1/2); the second one's logits are large
    return Ensemble([Teacher(Says(math.log(3.0), 0.0), num_classes=2), Teacher(Says(50.0, 50.0), num_classes=2)], combine)


def test_the_mean_of_probabilities_by_hand():
    logits = pair("probabilities")(IMAGES).logits
    torch.testing.assert_close(logits, torch.tensor([[5 / 8, 3 / 8]] * 2).log())


def test_the_mean_of_logits_by_hand():
    logits = pair("logits")(IMAGES).logits
    torch.testing.assert_close(logits, torch.tensor([[(math.log(3.0) + 50) / 2, 25.0]] * 2))


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_extreme_logits_stay_finite(combine):
    extreme = [Teacher(Says(1e4, -1e4), num_classes=2), Teacher(Says(-1e4, 1e4), num_classes=2)]
    torch.testing.assert_close(Ensemble(extreme, combine)(IMAGES).logits.softmax(-1), torch.full((2, 2), 0.5))


def networks(num_classes):
    torch.manual_seed(0)
    return [timm.create_model("cifar_resnet8", num_classes=num_classes) for _ in range(2)]


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_regions_are_averaged_like_logits(combine):
    scales = (1, 2)
    teachers = [Teacher(model, num_classes=4, scales=scales) for model in networks(4)]
    signals = Ensemble(teachers, combine)(IMAGES)
    assert signals.regions.shape == (2, 5, 4)
    torch.testing.assert_close(signals.regions[:, 0], signals.logits)
    regions = torch.stack([teacher(IMAGES).regions for teacher in teachers])
    expected = regions.softmax(-1).mean(0).log() if combine == "probabilities" else regions.mean(0)
    torch.testing.assert_close(signals.regions, expected)
    torch.testing.assert_close(Ensemble(teachers, combine).logits(IMAGES), signals.logits)


def test_each_keeps_its_own_normalisation_and_label_map():
    plain, mapped = networks(4)
    renormalize = Renormalize([0.5] * 3, [0.2] * 3, [0.1] * 3, [0.4] * 3)
    label_map = LabelMap([0, 1, 1, None], 2)
    first = Teacher(mapped, num_classes=2, renormalize=renormalize, label_map=label_map)
    plain.reset_classifier(2)
    both = Ensemble([first, Teacher(plain, num_classes=2)], "logits")
    expected = (label_map(mapped(renormalize(IMAGES))) + plain(IMAGES)) / 2
    torch.testing.assert_close(both(IMAGES).logits, expected)
    assert [teacher.model for teacher in both.members()] == [mapped, plain]


def test_it_stays_in_eval_mode_and_frozen_and_one_put_in_training_mode_is_caught():
    models = networks(4)
    parent = nn.Module()
    parent.teacher = Ensemble([Teacher(model, num_classes=4) for model in models])
    parent.train()
    assert not any(module.training for module in parent.teacher.modules())
    assert not parent.teacher(IMAGES).logits.requires_grad
    models[1].bn1.train()
    with pytest.raises(ValueError, match=r"\(bn1\): something called"):
        parent.teacher(IMAGES)


def test_what_is_no_ensemble():
    one, other = Teacher(Says(0.0, 0.0), num_classes=2), Teacher(Says(0.0, 0.0, 0.0), num_classes=3)
    with pytest.raises(ValueError, match="at least 2, got 1"):
        Ensemble([one])
    with pytest.raises(ValueError, match="the same classes, got 2, 3"):
        Ensemble([one, other])
    with pytest.raises(ValueError, match="Did you mean `logits`"):
        Ensemble([one, one], "logit")
