"""The frozen teacher."""

import copy

import pytest
import timm
import torch
from torch import nn

import logitkd.models  # noqa: F401  (registers the CIFAR networks)
from logitkd.reach import LabelMap, Renormalize, Teacher, check_not_shared


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


def test_prepare_and_finish_are_what_forward_does_around_the_model(model, images):
    plain = Teacher(model, num_classes=7, scales=(1, 2))
    assert plain.prepare(images) is images
    renormalize, label_map = Renormalize([0.5] * 3, [0.2] * 3, [0.1] * 3, [0.4] * 3), LabelMap([0, 1, 2, 0, 1, 2, None], 3)
    teacher = Teacher(model, num_classes=3, scales=(1, 2), renormalize=renormalize, label_map=label_map)
    signals = teacher(images)
    own = plain(renormalize(images))
    torch.testing.assert_close(teacher.prepare(images), renormalize(images), rtol=0, atol=0)
    torch.testing.assert_close(signals.logits, label_map(own.logits), rtol=0, atol=0)
    torch.testing.assert_close(signals.regions, label_map(own.regions), rtol=0, atol=0)
    torch.testing.assert_close(teacher.finish(own.regions), signals.regions, rtol=0, atol=0)
    torch.testing.assert_close(teacher.logits(images), signals.logits, rtol=0, atol=0)
    assert teacher.model is model


def test_finish_lets_gradients_through(model):
    logits = torch.randn(2, 7, requires_grad=True)
    Teacher(model, num_classes=3, label_map=LabelMap([0, 1, 2, 0, 1, 2, None], 3)).finish(logits).sum().backward()
    assert logits.grad[:, 6].eq(0).all()
    torch.testing.assert_close(logits.grad.sum(1), torch.full((2,), 3.0))


@pytest.mark.parametrize("part", ["", "layer1.0.bn1"])
def test_a_part_put_in_training_mode_is_caught(model, images, part):
    teacher = Teacher(model, num_classes=7)
    teacher(images)
    model.get_submodule(part).train()
    words = rf"{part or 'the whole model'}.*something called `.train\(\)` on them"
    with pytest.raises(ValueError, match=words):
        teacher(images)
    with pytest.raises(ValueError, match=words):
        teacher.logits(images)
    teacher.eval()
    teacher(images)


def test_a_label_map_must_fit_model_and_data(model, images):
    seven = LabelMap([0, 1, 1, 1, 1, 1, 1], 2)
    with pytest.raises(ValueError, match="the label map must lead to 3 classes, as the data have, got 2"):
        Teacher(model, num_classes=3, label_map=seven)
    with pytest.raises(ValueError, match="must have 3 classes, as its label map, got 7: it was built"):
        Teacher(model, num_classes=2, label_map=LabelMap([0, 1, 1], 2))
    unsaid = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))
    with pytest.raises(ValueError, match="must have 7 classes, as its label map, got 5: it was trained"):
        Teacher(unsaid, num_classes=2, label_map=seven)(images)


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


@pytest.mark.parametrize("paths", [{"pool": "none"}, {"head": "none"}])
def test_where_regions_enter(model, images, paths):
    told = Teacher(model, num_classes=7, scales=(1, 2), head="fc")(images)
    torch.testing.assert_close(told.regions, Teacher(model, num_classes=7, scales=(1, 2))(images).regions)
    with pytest.raises(ValueError, match="`none` is no module of"):
        Teacher(model, num_classes=7, scales=(1, 2), **paths)


def test_regions_need_pooling(images):
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 30 * 30, 7))
    with pytest.raises(ValueError, match=r"`2` of Sequential reads every one of the 4 x 30 x 30 numbers of it"):
        Teacher(flat, num_classes=7, scales=(1, 2))(images)


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
