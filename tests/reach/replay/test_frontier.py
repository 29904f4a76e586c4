"""What a pass can skip: the cuts and what runs beside them; every cut that cannot be one, refused."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

import logitkd.models  # noqa: F401 (registers the CIFAR networks)
from logitkd.reach.replay.frontier import find_frontier
from plain_network import Plain

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def plain() -> Plain:
    torch.manual_seed(0)
    return Plain()


def test_beside_a_cut_lie_whole_modules_and_around_it_none() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    outer = nn.Sequential(nn.Sequential(nn.Identity(), nn.ReLU()), inner, nn.Flatten())
    frontier = find_frontier(outer, ["1.0", "2"], IMAGES)
    assert frontier.modules == (outer[0], inner[0], inner[1], outer[2])
    assert frontier.positions == (1, 3)
    assert frontier.shapes == ((4, 32, 32), (4 * 32 * 32,))


def test_a_module_that_puts_out_no_features_is_refused() -> None:
    class Scored(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.score, self.none = nn.Flatten(0), nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            self.score(images)
            self.none(None)
            return super().forward(images)

    assert "cut `score` of Scored must put out features (N, ...), got shape (6144,)" in refusal(Scored(), ["score"])
    assert "cut `none` of Scored must put out features (N, ...), got NoneType" in refusal(Scored(), ["none"])


def refusal(model: nn.Module, paths: list[str]) -> str:
    with pytest.raises(ValueError, match="cut") as caught:
        find_frontier(model, paths, IMAGES)
    return str(caught.value)


def test_a_path_that_does_not_exist_is_refused_with_those_there_are(plain: Plain) -> None:
    message = refusal(plain, ["secnod"])
    assert "cut `secnod` is no module of Plain. Did you mean `second`?" in message
    assert "Modules there: `first`, `second`, `third`, `head`." in message


def test_cuts_in_the_wrong_order_are_refused(plain: Plain) -> None:
    assert "`second` runs before `third`: change their order" in refusal(plain, ["third", "second"])


def test_the_same_cut_twice_is_refused(plain: Plain) -> None:
    assert "which are one module" in refusal(plain, ["second", "second"])


def test_a_cut_inside_another_is_refused() -> None:
    model = timm.create_model("cifar_resnet8")
    assert "cut `layer2.0` of CifarResNet must not lie inside `layer2`" in refusal(model, ["layer2.0", "layer2"])


def test_a_shared_block_is_refused() -> None:
    class Shared(Plain):
        def forward(self, images: Tensor) -> Tensor:
            x = self.second(self.second(self.first(images)))
            return self.head(self.third(x).mean((2, 3)))

    assert "`second` of Shared must run once in a forward pass, but runs 2 times (a tied or shared block)" in refusal(
        Shared(), ["second"]
    )


def test_a_module_that_never_runs_is_refused(plain: Plain) -> None:
    plain.spare = nn.Linear(2, 2)
    plain.blocks = nn.ModuleList([nn.Identity()])
    assert "`spare` of Plain must run once in a forward pass, but does not run" in refusal(plain, ["spare"])
    assert "a list of modules is never called itself" in refusal(plain, ["blocks"])
