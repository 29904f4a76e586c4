"""Regions of models without timm's interface: found or told where cells enter, proved, or refused with what to pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from logitkd.reach import RegionModel

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """An 8x8 map, averaged by a function, and a head of several layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.norm = nn.BatchNorm2d(6)
        self.fc1, self.fc2 = nn.Linear(6, 7), nn.Linear(7, 5)

    def map(self, images: Tensor) -> Tensor:
        return self.norm(self.stem(images))

    def pool(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))

    def head(self, cell: Tensor) -> Tensor:
        return self.fc2(torch.tanh(self.fc1(cell)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.map(images)))


class FixedKernel(Net):
    """Takes no other map size: cells enter its head."""

    def pool(self, maps: Tensor) -> Tensor:
        return F.avg_pool2d(F.relu(maps), 8).flatten(1)


class Silu(Net):
    """Cells enter behind the function."""

    def pool(self, maps: Tensor) -> Tensor:
        return F.silu(maps).mean((2, 3))


class Tanh(Net):
    """A function that is not looked for."""

    def pool(self, maps: Tensor) -> Tensor:
        return torch.tanh(maps).mean((2, 3))


class Module(Net):
    """The function as a module: the map is what it puts out."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Tanh()

    def pool(self, maps: Tensor) -> Tensor:
        return self.act(maps).mean((2, 3))


class KernelModule(Net):
    """A pooling module that takes no other map size."""

    def __init__(self) -> None:
        super().__init__()
        self.avg = nn.AvgPool2d(8)

    def pool(self, maps: Tensor) -> Tensor:
        return self.avg(maps)[:, :, 0, 0]


class Last(Net):
    """NHWC all the way."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(6, 6)

    def pool(self, maps: Tensor) -> Tensor:
        return self.mix(maps.permute(0, 2, 3, 1)).mean((1, 2))


class Max(Net):
    def pool(self, maps: Tensor) -> Tensor:
        return maps.amax((2, 3))


class Everything(Net):
    """No pooling: the head reads every number of the map."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6 * 64, 7)

    def pool(self, maps: Tensor) -> Tensor:
        return maps.flatten(1)


class Skip(Net):
    """The head reads the images, too."""

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.map(images)) + images.mean((1, 2, 3))[:, None])


class Twice(Net):
    """The head is called again."""

    def forward(self, images: Tensor) -> Tensor:
        maps = self.map(images)
        return self.head(maps.mean((2, 3))) + self.head(maps.amax((2, 3)))


class Pair(Net):
    def forward(self, images: Tensor) -> Any:
        return {"logits": super().forward(images)}


class Tokens(nn.Module):
    """A transformer that cuts patches without a convolution: 4x4 of them and prefix tokens."""

    def __init__(self, prefix: int = 1, mean: bool = False, patch: int = 4) -> None:
        super().__init__()
        self.patches, self.prefix, self.mean = nn.Linear(3 * patch**2, 8), nn.Parameter(torch.randn(1, prefix, 8)), mean
        self.patch = patch
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 5)

    def tokens(self, images: Tensor) -> Tensor:
        patches = (
            images.unfold(2, self.patch, self.patch)
            .unfold(3, self.patch, self.patch)
            .permute(0, 2, 3, 1, 4, 5)
            .flatten(3)
            .flatten(1, 2)
        )
        return self.norm(self.layer(torch.cat([self.prefix.expand(len(images), -1, -1), self.patches(patches)], 1)))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.tokens(images)
        first = self.prefix.shape[1]
        return self.fc(tokens[:, first:].mean(1) if self.mean else tokens[:, :first].mean(1))


def make(kind: type[Net]) -> Net:
    torch.manual_seed(0)
    model = kind()
    nn.init.normal_(model.norm.bias)
    return model.eval()


def quarters(maps: Tensor) -> list[Tensor]:
    return [part for rows in maps.chunk(2, 2) for part in rows.chunk(2, 3)]


def close_to(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


# What is found.


def by_hand(model: Net, change: Callable[[Tensor], Tensor] = lambda maps: maps) -> Tensor:
    maps = change(model.map(IMAGES))
    return torch.stack([model(IMAGES), *(model.head(part.mean((2, 3))) for part in quarters(maps))], 1)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Net, lambda maps: maps),
        (FixedKernel, F.relu),
        (Silu, F.silu),
        (Module, torch.tanh),
        (KernelModule, lambda maps: maps),
    ],
)
@torch.no_grad()
def test_found_by_itself(kind: type[Net], change: Callable[[Tensor], Tensor]) -> None:
    model = make(kind)
    close_to(RegionModel(model, (1, 2))(IMAGES).regions, by_hand(model, change))


@torch.no_grad()
def test_a_linear_map_behind_a_permutation() -> None:
    model = make(Last)
    expected = by_hand(model, lambda maps: model.mix(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    close_to(RegionModel(model, (1, 2))(IMAGES).regions, expected)


@pytest.mark.parametrize(("prefix", "mean"), [(0, True), (1, False), (1, True), (2, False), (5, False), (5, True)])
@torch.no_grad()
def test_tokens_without_a_convolution(prefix: int, mean: bool) -> None:
    """The number of prefix tokens follows from the grid, which has the aspect ratio of the images."""
    torch.manual_seed(0)
    model = Tokens(prefix, mean).eval()
    signals = RegionModel(model, (1, 2))(IMAGES)
    grid = model.tokens(IMAGES)[:, prefix:].transpose(1, 2).unflatten(2, (4, 4))
    expected = [model(IMAGES), *(model.fc(part.mean((2, 3))) for part in quarters(grid))]
    close_to(signals.regions, torch.stack(expected, 1))


@torch.no_grad()
def test_nested_pooling() -> None:
    model = make(Net)
    plain, nested = RegionModel(model, (1, 2)), RegionModel(model, (1, 2), nested=True)
    close_to(nested(IMAGES).regions, plain(IMAGES).regions)  # 4 divides 8


class Gate(Net):
    """A gate reads the average of the map and changes the map by it; the head reads the average of what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 6)

    def gated(self, maps: Tensor, mean: Tensor) -> Tensor:
        return maps * torch.sigmoid(3 * self.gate(mean))[:, :, None, None]


class SharedPool(Gate):
    """Both averages are one module's."""

    def __init__(self) -> None:
        super().__init__()
        self.avg = nn.AdaptiveAvgPool2d(1)

    def pool(self, maps: Tensor) -> Tensor:
        return self.avg(self.gated(maps, self.avg(maps).flatten(1))).flatten(1)


class GateByFunctions(Gate):
    """No module takes what comes out."""

    def pool(self, maps: Tensor) -> Tensor:
        return self.gated(maps, maps.mean((2, 3))).mean((2, 3))


@pytest.mark.parametrize("options", [{}, {"pool": "avg"}, {"pool": "avg", "head": "fc1"}])
@torch.no_grad()
def test_a_pool_that_a_gate_shares(options: dict[str, str]) -> None:
    """Its last call counts: a cell is gated by the whole image."""
    model = make(SharedPool)
    expected = by_hand(model, lambda maps: model.gated(maps, maps.mean((2, 3))))
    wrapped = RegionModel(model, (1, 2), **options)
    close_to(wrapped(IMAGES).regions, expected)
    close_to(wrapped(IMAGES).logits, model(IMAGES))


def test_a_gate_behind_the_last_map_that_shows() -> None:
    """From the map in front of the gate a cell would be gated by itself; the logits of the mean would be right all the same."""
    with pytest.raises(ValueError, match="`norm`: a cell alone comes to other numbers than among the others"):
        RegionModel(make(GateByFunctions))(IMAGES)


# What is told.


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Net, {"head": "fc1"}),
        (KernelModule, {"pool": "avg"}),
        (KernelModule, {"head": "fc1"}),
        (KernelModule, {"pool": "avg", "head": "fc1"}),
    ],
)
@torch.no_grad()
def test_pool_and_head_say_it(kind: type[Net], options: dict[str, str]) -> None:
    model = make(kind)
    close_to(RegionModel(model, (1, 2), **options)(IMAGES).regions, by_hand(model))


@torch.no_grad()
def test_a_head_that_takes_the_map_itself() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 5)

        def forward(self, maps: Tensor) -> Tensor:
            return self.fc(maps.mean((2, 3)))

    model = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), Head()).eval()
    expected = [model[1](part) for part in quarters(model[0](IMAGES))]
    for options in ({}, {"head": "1"}, {"pool": "1"}):
        close_to(RegionModel(model, (1, 2), **options)(IMAGES).regions[:, 1:], torch.stack(expected, 1))


@torch.no_grad()
def test_a_head_behind_the_class_token() -> None:
    torch.manual_seed(0)
    model = Tokens().eval()
    found, told = RegionModel(model, (1, 2))(IMAGES), RegionModel(model, (1, 2), head="fc")(IMAGES)
    close_to(told.regions, found.regions)


@pytest.mark.parametrize("options", [{"pool": "global_pool.pool"}, {"head": "fc"}])
@torch.no_grad()
def test_told_and_by_timms_interface_agree(options: dict[str, str]) -> None:
    torch.manual_seed(0)
    model, images = timm.create_model("resnet10t", num_classes=5).eval(), torch.randn(2, 3, 64, 64)
    close_to(RegionModel(model, **options)(images).regions, RegionModel(model)(images).regions)


# A training step.


class Trained(nn.Module):
    """Norms and dropout on both sides of the pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.neck = nn.BatchNorm1d(6)
        self.fc = nn.Sequential(nn.Dropout(0.1), nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 5))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.neck(self.avgpool(self.stem(images)).flatten(1)))


@pytest.mark.parametrize("options", [{}, {"head": "neck"}])
def test_training_leaves_the_model_as_a_plain_training_step_does(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = Trained()
    plain, wrapped = copy.deepcopy(model).train(), RegionModel(model, **options).train()
    model.stem[1].eval()
    plain.stem[1].eval()
    wrapped.check(IMAGES)
    assert [module.training for module in model.stem] == [True, False, True, True]
    passes: list[int] = []
    model.stem[0].weight.register_hook(lambda grad: passes.append(1))
    torch.manual_seed(1)
    signals = wrapped(IMAGES)
    torch.manual_seed(1)
    logits = plain(IMAGES)
    assert torch.equal(signals.logits, logits)
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=0, atol=0)  # values and names
    assert model.neck.num_batches_tracked == 1
    signals.regions[:, 1:].square().sum().backward()
    assert passes == [1]
    assert all(parameter.grad.abs().max() > 0 for parameter in (model.stem[0].weight, model.fc[3].weight))


def test_cells_are_normalised_by_the_cells() -> None:
    torch.manual_seed(0)
    model = Trained()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    wrapped = RegionModel(model.train(), (1, 2))
    wrapped.check(IMAGES)
    found = wrapped(IMAGES).regions[:, 1:]
    maps = model.stem(IMAGES)
    cells = torch.stack([part.mean((2, 3)) for part in quarters(maps)], 1).flatten(0, 1)
    expected = model.fc(F.batch_norm(cells, None, None, model.neck.weight, model.neck.bias, training=True))
    close_to(found, expected.unflatten(0, (2, 4)))


def test_one_pass_of_the_backbone() -> None:
    model = make(FixedKernel)
    wrapped = RegionModel(model)
    wrapped.check(IMAGES)
    images = IMAGES.clone().requires_grad_()
    products: list[int] = []

    class Count(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.conv2d:
                products.append(1)
            return function(*args, **(kwargs or {}))

    with Count():
        wrapped(images).regions.sum().backward()
    assert products == [1]
    assert images.grad is not None
    assert images.grad.abs().max() > 0


def test_gradients_are_those_of_the_cells() -> None:
    model = make(FixedKernel)
    wrapped = RegionModel(model, (1, 2))
    weights = torch.randn(2, 5, 5)
    (found,) = torch.autograd.grad((wrapped(IMAGES).regions * weights).sum(), model.stem.weight)
    (expected,) = torch.autograd.grad((by_hand(model, F.relu) * weights).sum(), model.stem.weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def vision_transformer() -> nn.Module:
    return torchvision.models.VisionTransformer(16, 4, 1, 2, 8, 16, num_classes=5)


@pytest.mark.parametrize("build", [Trained, FixedKernel, Tokens, vision_transformer])
def test_bfloat16_autocast(build: Callable[[], nn.Module]) -> None:
    """The very first step too, which the search precedes under the same autocast."""
    torch.manual_seed(0)
    model = build().train()
    images = torch.randn(4, 3, 16, 16)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    with torch.autocast("cpu", torch.bfloat16):
        signals = RegionModel(model)(images)
        assert signals.regions.shape == (4, 21, 5)
        signals.regions.float().square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_bfloat16_weights() -> None:
    model = make(Net).bfloat16()
    assert RegionModel(model)(IMAGES.bfloat16()).regions.dtype == torch.bfloat16


# The model stays as it is.


def test_closing_and_copying() -> None:
    model = make(Net)
    expected = model(IMAGES)
    wrapped = RegionModel(model)
    names = list(wrapped.state_dict())
    regions = wrapped(IMAGES).regions
    assert list(wrapped.state_dict()) == names == [f"model.{name}" for name in model.state_dict()]
    assert torch.equal(model(IMAGES), expected)
    close_to(copy.deepcopy(wrapped)(IMAGES).regions, regions)
    wrapped.close()
    assert not any("forward" in vars(module) for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    close_to(wrapped(IMAGES).regions, regions)


def test_a_refused_model_is_left_alone() -> None:
    model = make(Max).train()
    with pytest.raises(ValueError, match="no part of Max was found to"):
        RegionModel(model)(IMAGES)
    assert all(module.training and "forward" not in vars(module) for module in model.modules())


@torch.no_grad()
def test_other_sizes_and_a_single_image() -> None:
    model = Trained().eval()
    wrapped = RegionModel(model, (1, 2))
    assert wrapped(IMAGES[:1]).regions.shape == (1, 5, 5)
    assert wrapped(torch.randn(3, 3, 24, 16)).regions.shape == (3, 5, 5)
    tokens = RegionModel(Tokens().eval(), (1, 2))
    tokens(IMAGES)
    with pytest.raises(ValueError, match="give images of one size"):
        tokens(torch.randn(2, 3, 24, 16))


# What is refused.

NEXT = r"Pass `pool=`, .*, or `head=`, .*; or choose a method that reads plain logits\. "


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Max, r"Tried the output \(2, 6, 8, 8\) of `norm`: the logits change by .* when it is replaced by its mean"),
        (Tanh, "`norm`: the logits change by"),
        (Skip, r"`norm`: module `norm` of Skip must put out all that the parts behind it read"),
        (Twice, "`norm`: the logits change by"),
    ],
)
def test_models_that_do_not_average(kind: type[Net], words: str) -> None:
    with pytest.raises(ValueError, match=NEXT + ".*" + words) as caught:
        RegionModel(make(kind))(IMAGES)
    assert str(caught.value).startswith(
        f"region logits need a model that averages its last map: no part of {kind.__name__} was"
    )


def test_a_known_cause_comes_alone() -> None:
    with pytest.raises(ValueError, match="no pooling") as caught:
        RegionModel(make(Everything))(IMAGES)
    assert str(caught.value) == (
        "region logits need a model that averages a last map of several cells: `fc1` of Everything reads every one of the "
        "6 x 8 x 8 numbers of it, there is no pooling. To go on, choose a method that reads plain logits."
    )


def test_a_model_without_a_map() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
    with pytest.raises(ValueError, match=r"`1` of Sequential reads every one of the 3 x 16 x 16 numbers"):
        RegionModel(model)(IMAGES)
    flat = nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 5))
    with pytest.raises(ValueError, match="no module of Sequential puts out a map"):
        RegionModel(flat)(torch.randn(2, 12))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pool": "nrm"}, r"`pool` `nrm` is no module of Net\. Did you mean `norm`\?.* Modules there: `stem`, `norm`"),
        ({"head": "fc3"}, r"`head` `fc3` is no module of Net\. Did you mean .*`fc[12]`"),
        ({"head": ""}, r"`head` `` is no module of Net"),
    ],
)
def test_paths_that_do_not_exist(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RegionModel(make(Net), **options)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (Net, {"pool": "fc1"}, r"`fc1` of Net takes shape \(2, 6\): choose the module that averages the last map"),
        (
            Net,
            {"pool": "stem"},
            r"in Net, `stem` is none\. .* Tried the input \(2, 3, 16, 16\) of `stem`: the logits change by",
        ),
        (Net, {"pool": "stem", "head": "fc1"}, r"its input \(2, 6\) of `fc1` of Net is the average of none"),
        (Net, {"head": "fc2"}, r"its input \(2, 7\) of `fc2` of Net is the average of none of the maps before it"),
        (Max, {"head": "fc1"}, r"its input \(2, 6\) of `fc1` of Max is the average of none"),
        (Twice, {"head": "fc1"}, r"`head` must run once in a forward pass, but `fc1` of Twice runs 2 times"),
        (Skip, {"pool": "norm"}, "the input"),
    ],
)
def test_paths_that_do_not_fit(kind: type[Net], options: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RegionModel(make(kind), **options)(IMAGES)


@pytest.mark.parametrize(
    ("kind", "options", "passes"),
    [
        (KernelModule, {"pool": "stem"}, {"pool": "avg", "head": "fc1"}),
        (FixedKernel, {"head": "fc2"}, {"head": "fc1"}),
        (SharedPool, {"pool": "gate"}, {"pool": "avg"}),
        (Net, {"pool": "stem"}, {}),
        (Max, {"pool": "norm"}, None),
    ],
)
def test_a_path_that_does_not_fit_is_told_what_passes(
    kind: type[Net], options: dict[str, str], passes: dict[str, str] | None
) -> None:
    with pytest.raises(ValueError, match=r"`pool=`|choose") as caught:
        RegionModel(make(kind), **options)(IMAGES)
    said = " with ".join(f"`{key}='{path}'`" for key, path in (passes or {}).items()) or "neither of the two"
    words = f"No module of {kind.__name__} was found to pass." if passes is None else f"What passes: {said}."
    assert str(caught.value).endswith(" " + words)
    if passes is not None:
        RegionModel(make(kind), **passes)(IMAGES)


def test_class_tokens_whose_number_is_open_are_refused() -> None:
    """17 tokens of images of 12 x 12: 1 and 4 x 4, or 8 and 3 x 3? Both divide them, and the head reads the first alone."""
    torch.manual_seed(0)
    model = Tokens(1, patch=3).eval()
    with pytest.raises(ValueError, match="its prefix and patch tokens may be 1 and 4 x 4, or 8 and 3 x 3"):
        RegionModel(model, (1, 2))(torch.randn(2, 3, 12, 12))


def test_outputs_that_are_no_logits() -> None:
    with pytest.raises(TypeError, match="the model must return its logits as one tensor"):
        RegionModel(make(Pair))(IMAGES)
    model = make(Net)
    nn.init.constant_(model.fc2.bias, float("nan"))
    with pytest.raises(ValueError, match="need finite logits, got NaN or infinity from Net"):
        RegionModel(model)(IMAGES)
