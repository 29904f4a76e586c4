"""Running a model from the middle: equal to the whole, nothing before the cut computed again, every bad cut refused."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import logitkd.models  # noqa: F401 (registers the CIFAR networks)
from logitkd.reach.replay.replay import Replay
from plain_network import Plain

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def plain() -> Plain:
    torch.manual_seed(0)
    return Plain()


@pytest.mark.parametrize(
    ("name", "cuts", "size"),
    [
        ("cifar_resnet8x4", ["relu", "layer1", "layer2", "layer3"], 32),
        ("cifar_wrn_16_2", ["block1", "block2", "relu"], 32),
        ("resnet18", ["layer1", "layer2.0", "layer4"], 64),
        ("convnext_atto", ["stages.0", "stages.1.blocks.0", "stages.3"], 64),
        ("vit_tiny_patch16_224", ["blocks.3", "blocks.11", "norm"], 32),
        ("eva02_tiny_patch14_224", ["blocks.3"], 28),  # rotary positions are read by every block
        ("mobilenetv3_small_100", ["blocks.0", "blocks.5"], 64),
        ("torchvision", ["features.3", "classifier.1"], 64),
    ],
)
def test_from_each_cut_on_the_output_is_the_whole_models(name: str, cuts: list[str], size: int) -> None:
    torch.manual_seed(0)
    if name == "torchvision":
        model: nn.Module = torchvision.models.mobilenet_v2(num_classes=7)
    else:
        fitted = {"img_size": size} if "224" in name else {}
        model = timm.create_model(name, num_classes=7, **fitted)
    model.eval()
    images, other = torch.randn(2, 2, 3, size, size).unbind(0)
    expected = model(images)
    replay = Replay(model, cuts, images)
    replay.check(images)
    output, values, memo = replay.run(images)
    assert torch.equal(output, expected)
    replay.run(other)  # what was seen last must not matter
    for number, value in enumerate(values):
        assert torch.allclose(replay.resume(memo, number, value), expected, rtol=1e-4, atol=1e-5)
    replay.close()
    assert all("forward" not in vars(module) for module in model.modules())


def test_nothing_before_the_cut_runs_again_and_everything_after_it_does(plain: Plain) -> None:
    replay = Replay(plain, ["second"], IMAGES)
    _, (value,), memo = replay.run(IMAGES)
    ran: list[str] = []
    for name in ("first", "second", "third", "head"):
        inner = getattr(plain, name).weight

        def note(grad: Tensor, name: str = name) -> None:
            ran.append(name)

        inner.register_hook(note)
    replay.resume(memo, 0, value.detach()).sum().backward()
    assert sorted(ran) == ["head", "third"]
    assert plain.first.weight.grad is None
    assert plain.second.weight.grad is None


def test_gradients_of_a_resumed_pass_are_those_of_the_composition(plain: Plain) -> None:
    replay = Replay(plain, ["second"], IMAGES)
    memo = replay.run(IMAGES).memo
    value = torch.randn(2, 4, 32, 32, requires_grad=True)
    (by_replay,) = torch.autograd.grad(replay.resume(memo, 0, value).square().sum(), value)
    by_hand = plain.head(plain.third(torch.relu(value)).mean((2, 3))).square().sum()
    assert torch.allclose(by_replay, torch.autograd.grad(by_hand, value)[0], rtol=1e-5, atol=1e-6)


def test_a_cut_may_get_its_input_and_more_examples_than_ran(plain: Plain) -> None:
    replay = Replay(plain, ["third"], IMAGES)
    memo = replay.run(IMAGES).memo
    cells = torch.randn(6, 4, 1, 1)
    found = replay.resume(memo, 0, cells, into=True)
    assert torch.allclose(found, plain.head(plain.third(cells).mean((2, 3))))


def test_the_model_is_itself_while_attached_and_after(plain: Plain) -> None:
    before, names, state = plain(IMAGES), list(plain.state_dict()), copy.deepcopy(plain.state_dict())
    replay = Replay(plain, ["first", "third"], IMAGES)
    assert torch.equal(plain(IMAGES), before)
    assert torch.equal(copy.deepcopy(plain)(IMAGES), before)
    assert list(plain.state_dict()) == names
    replay.close()
    replay.close()
    assert torch.equal(plain(IMAGES), before)
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())


def test_two_replays_of_one_model_do_not_disturb_each_other(plain: Plain) -> None:
    one, two = Replay(plain, ["first"], IMAGES), Replay(plain, ["second"], IMAGES)
    expected, (first,), before = one.run(IMAGES)
    _, (second,), later = two.run(IMAGES)
    assert torch.allclose(one.resume(before, 0, first), expected)
    assert torch.allclose(two.resume(later, 0, second), expected)
    two.close()
    assert torch.allclose(one.resume(before, 0, first), expected)


def test_two_passes_are_resumed_in_any_order_and_more_than_once(plain: Plain) -> None:
    replay = Replay(plain, ["first", "third"], IMAGES)
    passes = [replay.run(images) for images in (IMAGES, -IMAGES[:1], torch.cat([IMAGES] * 2))]
    for _ in range(2):
        for output, values, memo in reversed(passes):
            for cut in (1, 0):
                assert torch.allclose(replay.resume(memo, cut, values[cut]), output)


def test_closed_in_any_order_nothing_is_left(plain: Plain) -> None:
    one, two, three = (Replay(plain, [path], IMAGES) for path in ("first", "second", "third"))
    expected, (value,), memo = three.run(IMAGES)
    two.close()
    assert torch.allclose(three.resume(memo, 0, value), expected)
    one.close()
    three.close()
    assert not any("forward" in vars(module) for module in plain.modules())


def test_a_forward_that_the_user_put_on_a_module_is_kept(plain: Plain) -> None:
    own = plain.first.forward

    def doubled(x: Tensor) -> Tensor:
        return 2 * own(x)

    plain.first.forward = doubled  # type: ignore[method-assign]
    before = plain(IMAGES)
    one, two = Replay(plain, ["first"], IMAGES), Replay(plain, ["second"], IMAGES)
    assert torch.equal(one.run(IMAGES)[0], before)
    one.close()
    two.close()
    assert torch.equal(plain(IMAGES), before)
    assert vars(plain.first)["forward"] is doubled


def test_a_module_that_writes_into_what_it_got_needs_no_care() -> None:
    class InPlace(Plain):
        def forward(self, images: Tensor) -> Tensor:
            x = self.first(images)
            x += 1.0
            return self.head(self.third(self.second(x).relu_()).mean((2, 3)))

    model = InPlace()
    replay = Replay(model, ["second"], IMAGES)
    replay.check(IMAGES)
    output, (value,), memo = replay.run(IMAGES)
    assert torch.allclose(replay.resume(memo, 0, value), output)


def test_outputs_that_are_tuples_keep_their_structure() -> None:
    class Pair(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            return self.layer(x), None

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Pair(nn.Conv2d(3, 4, 1)), Pair(nn.Conv2d(4, 5, 1))

        def forward(self, images: Tensor) -> Tensor:
            x, nothing = self.first(images)
            assert nothing is None
            return self.second(x)[0].mean((2, 3))

    replay = Replay(Model(), ["first"], IMAGES)
    replay.check(IMAGES)


def test_a_cut_that_later_parts_read_around_is_refused() -> None:
    class Skipping(Plain):
        def forward(self, images: Tensor) -> Tensor:
            early = self.first(images)
            return self.head((self.third(self.second(early)) + early).mean((2, 3)))

    replay = Replay(Skipping(), ["second"], IMAGES)
    with pytest.raises(ValueError, match="cut `second` of Skipping must put out all that the parts behind it read"):
        replay.check(IMAGES)


def test_a_refused_replay_leaves_the_model_as_it_was(plain: Plain) -> None:
    with pytest.raises(ValueError, match="`second` runs before `third`"):
        Replay(plain, ["third", "second"], IMAGES)
    assert all("forward" not in vars(module) for module in plain.modules())


@dataclasses.dataclass(frozen=True)
class Features:
    """An output that torch's tools do not see into."""

    low: Tensor
    names: tuple[str, ...] = ("low",)


class Packed(nn.Module):
    """Hands its first features on in an object; ``around``: they are read behind the second block, too."""

    def __init__(self, around: bool) -> None:
        super().__init__()
        self.first, self.second, self.head = Packer(), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 5)
        self.around = around

    def forward(self, x: Tensor) -> Tensor:
        features = self.first(x)
        x = self.second(features.low)
        return self.head((x + features.low if self.around else x).mean((2, 3)))


class Packer(nn.Module):
    """Puts out an object."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Features:
        return Features(self.conv(x))


def test_features_that_are_read_around_a_cut_out_of_an_object_are_seen() -> None:
    replay = Replay(Packed(around=False), ["second"], IMAGES)
    replay.check(IMAGES)
    expected, (value,), memo = replay.run(IMAGES)
    assert torch.allclose(replay.resume(memo, 0, torch.cat([value] * 2)), torch.cat([expected] * 2))
    with pytest.raises(ValueError, match="cut `second` of Packed must put out all that the parts behind it read"):
        Replay(Packed(around=True), ["second"], IMAGES).check(IMAGES)


class Counting(nn.Module):
    """Normalises in its own code, and counts what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 5)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.steps = self.steps + self.training
        x = nn.functional.batch_norm(self.first(x), self.mean, self.var, training=self.training)  # type: ignore[arg-type]
        return self.head(self.second(x.relu()).mean((2, 3)))


def test_a_resumed_pass_leaves_the_statistics_of_training_alone() -> None:
    model = Counting()
    once = copy.deepcopy(model)
    replay = Replay(model, ["second"], IMAGES)
    once(IMAGES)
    expected, (value,), memo = replay.run(IMAGES)
    again = replay.resume(memo, 0, value)
    assert torch.allclose(again, expected)
    (again.sum() + expected.sum()).backward()
    assert all(torch.equal(buffer, other) for buffer, other in zip(model.buffers(), once.buffers(), strict=True))


def test_images_of_another_size_are_refused(plain: Plain) -> None:
    replay = Replay(plain, ["second"], IMAGES)
    with pytest.raises(
        ValueError, match=r"`second` of Plain must put out one shape, got \(N, 4, 16, 16\) after \(N, 4, 32, 32\)"
    ):
        replay.run(IMAGES[:, :, :16, :16])


def test_a_cut_that_a_later_pass_leaves_out_or_repeats_is_refused(plain: Plain) -> None:
    class Fickle(Plain):
        times = 1

        def forward(self, images: Tensor) -> Tensor:
            x = self.first(images)
            for _ in range(self.times):
                x = self.second(x)
            return self.head(self.third(x).mean((2, 3)))

    model = Fickle()
    replay = Replay(model, ["second"], IMAGES)
    model.times = 0
    with pytest.raises(ValueError, match="`second` of Fickle must run in every pass"):
        replay.run(IMAGES)
    model.times = 2
    with pytest.raises(ValueError, match="`second` of Fickle must run once in a pass, but now runs again"):
        replay.run(IMAGES)


def test_a_run_may_give_what_the_cuts_took(plain: Plain) -> None:
    replay = Replay(plain, ["second", "third"], IMAGES)
    _, (second, third), _ = replay.run(IMAGES, into=True)
    assert torch.equal(second, torch.relu(plain.first(IMAGES)))
    assert torch.equal(third, torch.relu(plain.second(second)))


def test_a_skipped_module_that_the_last_pass_left_out_is_refused(plain: Plain) -> None:
    class Dropping(Plain):
        drop = False

        def forward(self, images: Tensor) -> Tensor:
            x = self.first(images)
            x = x if self.drop else self.second(x)
            return self.head(self.third(x).mean((2, 3)))

    model = Dropping()
    replay = Replay(model, ["third"], IMAGES)
    model.drop = True
    _, (value,), memo = replay.run(IMAGES)
    model.drop = False
    with pytest.raises(ValueError, match="Dropping must run the same modules in every pass up to its cut `third`"):
        replay.resume(memo, 0, value)
