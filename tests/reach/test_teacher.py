"""The frozen teacher."""

import copy

import pytest
import timm
import torch
from torch import nn

import logitkd.models  # noqa: F401  (registers the CIFAR networks)
from logitkd.reach import Teacher, check_not_shared


@pytest.fixture
def model():
    torch.manual_seed(0)
    return timm.create_model("cifar_resnet8", num_classes=7)


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scales", [None, (1, 2)])
def test_it_stays_in_eval_mode_and_frozen_inside_a_parent(model, images, scales):
    parent = nn.Module()
    parent.teacher = Teacher(model, num_classes=7, scales=scales)
    parent.student = nn.Linear(2, 2)
    before = copy.deepcopy(model.state_dict())
    parent.train()
    assert parent.student.training
    assert not any(module.training for module in parent.teacher.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    signals = parent.teacher(images)
    assert not signals.logits.requires_grad
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert parent.teacher.model is model
    torch.testing.assert_close(signals.logits, model(images))


def test_regions_only_where_asked(model, images):
    assert Teacher(model, num_classes=7)(images).regions is None
    signals = Teacher(model, num_classes=7, scales=(1, 2, 4))(images)
    assert signals.regions.shape == (4, 21, 7)
    torch.testing.assert_close(signals.regions[:, 0], signals.logits, rtol=0, atol=0)
    nested = Teacher(model, num_classes=7, scales=(1, 2, 4), nested=True)(images)
    torch.testing.assert_close(nested.regions, signals.regions)  # an 8x8 map
    assert not nested.regions.requires_grad


def test_its_outputs_can_be_saved_for_backward(model, images):
    student = nn.Linear(7, 7)
    teacher = Teacher(model, num_classes=7)(images).logits
    (student(teacher) * teacher).sum().backward()  # inference-mode tensors raise here
    assert student.weight.grad is not None


def test_the_class_count_is_checked_where_the_model_says_it(model):
    with pytest.raises(ValueError, match="must have 100 classes, as the data, got 7: it was built for other classes"):
        Teacher(model, num_classes=100)


def test_the_class_count_is_checked_on_the_logits():
    teacher = Teacher(nn.Sequential(nn.Flatten(), nn.Linear(12, 7)), num_classes=100)
    with pytest.raises(ValueError, match="must have 100 classes, as the data, got 7: it was trained for other classes"):
        teacher(torch.randn(2, 3, 2, 2))


class Pair(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)), {}


@pytest.mark.parametrize(
    ("network", "error", "words"),
    [
        (Pair(), TypeError, r"one tensor \(N, C\), got tuple"),
        (nn.Identity(), ValueError, r"of shape \(N, C\), got \(2, 3, 4, 4\)"),
    ],
)
def test_outputs_that_are_no_logits(network, error, words):
    with pytest.raises(error, match=words):
        Teacher(network, num_classes=3)(torch.randn(2, 3, 4, 4))


def test_integer_outputs_are_no_logits():
    class Rounded(nn.Module):
        def forward(self, x):
            return x.flatten(1).long()

    with pytest.raises(TypeError, match=r"floating-point logits, got torch\.int64"):
        Teacher(Rounded(), num_classes=3)(torch.randn(2, 3))


def test_regions_need_the_interface():
    with pytest.raises(TypeError, match="has no `forward_features`"):
        Teacher(nn.Linear(2, 2), num_classes=2, scales=(1, 2))


def test_sharing_with_the_student(model):
    check_not_shared(model, Teacher(copy.deepcopy(model), num_classes=7))
    with pytest.raises(ValueError, match=r"got \d+ shared \(conv1\.weight, .*\.\.\.\): pass `copy\.deepcopy"):
        check_not_shared(model, Teacher(model, num_classes=7))

    other = timm.create_model("cifar_resnet8", num_classes=7)
    other.fc.weight = nn.Parameter(model.fc.weight.detach().view_as(model.fc.weight))  # a view: the same memory
    with pytest.raises(ValueError, match=r"1 shared \(fc\.weight\)"):
        check_not_shared(model, other)
    other.fc.weight = nn.Parameter(model.fc.weight.detach().clone())
    check_not_shared(model, other)
