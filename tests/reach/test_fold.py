import pytest
import torch
from torch import nn

from logitkd.models import build_model
from logitkd.reach import Teacher
from logitkd.reach.fold import fold_batch_norms


def trained(name):
    """A network whose batch norms have seen data and are no identities."""
    torch.manual_seed(0)
    model = build_model(name, 10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    with torch.no_grad():
        model(torch.randn(16, 3, 32, 32))
    return model.eval()


# vgg is not traceable (its path depends on the image size) and stays as it is
@pytest.mark.parametrize(
    ("name", "least"), [("cifar_resnet8", 9), ("cifar_shufflenetv2", 30), ("cifar_vgg8", 0), ("cifar_mobilenetv2", 30)]
)
def test_folding_keeps_the_outputs(name, least):
    model, images = trained(name), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        before = model(images)
        assert fold_batch_norms(model) >= least
        after = model(images)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_what_a_cut_puts_out_stays_what_it_was():
    model, images = trained("cifar_resnet8"), torch.randn(4, 3, 32, 32)
    seen = []
    for fold in (False, True):
        if fold:
            assert fold_batch_norms(model, ["conv1", "layer2"]) >= 8  # all but the one behind `conv1`
            assert not isinstance(model.bn1, nn.Identity)
        hooks = [getattr(model, cut).register_forward_hook(lambda *call: seen.append(call[2])) for cut in ("conv1", "layer2")]
        with torch.no_grad():
            model(images)
        for hook in hooks:
            hook.remove()
    assert torch.equal(seen[0], seen[2])
    torch.testing.assert_close(seen[3], seen[1], rtol=1e-3, atol=1e-4)


def test_regions_of_a_folded_teacher():
    model, images = trained("cifar_resnet8"), torch.randn(4, 3, 32, 32)
    before = Teacher(model, num_classes=10, scales=(1, 2))(images).regions
    fold_batch_norms(model)
    after = Teacher(model, num_classes=10, scales=(1, 2))(images).regions
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


class Branching(nn.Module):
    """A convolution read twice, one used twice, and a forward pass that cannot be traced."""

    def __init__(self, traceable):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.twice, self.after = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.traceable = traceable

    def forward(self, images):
        if not self.traceable and images.sum() > 1e9:
            return images
        out = self.conv(images)
        out = self.norm(out) + out
        return self.after(self.twice(self.twice(out))).mean((2, 3))


@pytest.mark.parametrize("traceable", [True, False])
def test_what_cannot_be_folded_stays(traceable):
    model, images = Branching(traceable).eval(), torch.randn(2, 3, 4, 4)
    before = model(images)
    assert fold_batch_norms(model) == 0
    assert torch.equal(model(images), before)
