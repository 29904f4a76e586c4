"""A user's own network, named in configurations as ``tiny_net:TinyNet``."""

import functools
import itertools
import os
import random
import signal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class TinyNet(nn.Sequential):
    """Convolution, batch norm, dropout: everything that has state or draws random numbers."""

    def __init__(self, num_classes):
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(32, num_classes),
        )


def flat_net(num_classes):
    """A network without batch norms, for images of 8x8 pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))


def normed_vector(num_classes):
    """A network whose batch norm gets one value a channel of an image of 8x8 pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))


@functools.cache  # and not at import, where it would draw from the stream that is to give a student its weights
def body():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def on_one_body(num_classes):
    """A network that shares its body with every other one built here."""
    return nn.Sequential(body(), nn.Linear(8, num_classes))


class Float32Head(nn.Module):
    """Leaves autocast for its last layer."""

    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(8, num_classes)

    def forward(self, images):
        features = self.body(images)
        with torch.autocast(images.device.type, enabled=False):
            return self.fc(features.float())


class SignallingNet(TinyNet):
    """Sends its own process SIGTERM in its first evaluation: the two images it is shown before training are none."""

    sent = False

    def forward(self, images):
        if not self.training and len(images) > 2 and not SignallingNet.sent:
            SignallingNet.sent = True
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(images)


class Remembers(TinyNet):
    """Scales its logits by what it has seen in every pass, which it keeps in a buffer outside its state dict."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.register_buffer("seen", torch.ones(1), persistent=False)

    def forward(self, images):
        with torch.no_grad():
            self.seen.mul_(0.9).add_(0.1 * images.std())
        return super().forward(images) * self.seen


class Draws(TinyNet):
    """Draws from Python's and numpy's generators, when it is built and in every pass."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.factor = random.random() + np.random.rand()

    def forward(self, images):
        return super().forward(images) * (self.factor + 0.1 * random.gauss(0, 1) + 0.1 * np.random.normal())


class Stopping:
    """Sends its own process SIGTERM in its first evaluation, in the second batch of it."""

    passes = 0

    def forward(self, images):
        if not self.training and len(images) > 2:  # not one of the two images that it is shown before training
            Stopping.passes += 1
            if Stopping.passes == 2:
                os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(images)


class StoppingRemembers(Stopping, Remembers):
    """Has changed a buffer by then."""


class StoppingDraws(Stopping, Draws):
    """Has drawn numbers by then."""


class HeavyNet(TinyNet):
    """Its checkpoints take long enough to write for a kill to fall inside one."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.register_buffer("ballast", torch.zeros(2**20))


class TwoArguments(TinyNet):
    """Wants more than images."""

    def forward(self, images, mask):
        return super().forward(images * mask)


class Pair(TinyNet):
    """Returns more than logits."""

    def forward(self, images):
        return super().forward(images), images


class Named(TinyNet):
    """Returns its logits in a dictionary."""

    def forward(self, images):
        return {"logits": super().forward(images)}


class PairInTraining(TinyNet):
    """Returns more than logits, but only in training."""

    def forward(self, images):
        logits = super().forward(images)
        return (logits, images) if self.training else logits


class Spatial(TinyNet):
    """Keeps two axes too many."""

    def forward(self, images):
        return super().forward(images)[:, :, None, None]


class Missing(TinyNet):
    """Looks something up that is not there."""

    def forward(self, images):
        return {}["images"]


# Networks that return logits and cannot learn, each for a reason of its own.


class NoParameters(nn.Module):
    """Averages pixels; its layers are where nobody finds them."""

    def __init__(self, num_classes):
        super().__init__()
        self.layers = [nn.Flatten(), nn.Linear(192, num_classes)]

    def forward(self, images):
        for layer in self.layers:
            images = layer(images)
        return images


def frozen(num_classes):
    """A student meant as a teacher."""
    return TinyNet(num_classes).requires_grad_(False)


class Detached(TinyNet):
    """Cuts its logits off from what they were computed by."""

    def forward(self, images):
        return super().forward(images).detach()


class NoGrad(TinyNet):
    """Meant for inference, in every mode."""

    @torch.no_grad()
    def forward(self, images):
        return super().forward(images)


class Beside(TinyNet):
    """Trains a layer that its logits do not depend on."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.requires_grad_(False)
        self.spare = nn.Linear(1, 1)

    def forward(self, images):
        for layer in list(self)[:-1]:  # all but the spare one
            images = layer(images)
        return images


class NoGradInEval(TinyNet):
    """Turns gradients off where it knows that nobody asks for them: that is fine."""

    def forward(self, images):
        with torch.set_grad_enabled(self.training):
            return super().forward(images)


class LastLayerOnly(TinyNet):
    """Trains its last layer on frozen features, a linear probe: that is fine, too."""

    def forward(self, images):
        with torch.no_grad():
            for layer in list(self)[:-1]:
                images = layer(images)
        return self[-1](images)


def seven(num_classes):
    """Does as it pleases."""
    return TinyNet(7)


# Students that train well and cannot be exported, each for a reason of its own.


class AlwaysDrops(TinyNet):
    """Drops out in eval mode too: a well-known slip."""

    def forward(self, images):
        return super().forward(F.dropout(images, 0.5))


class TracedOtherwise(TinyNet):
    """Computes something else when it is traced."""

    def forward(self, images):
        logits = super().forward(images)
        return logits * 1.01 if torch.compiler.is_exporting() else logits


class Branches(TinyNet):
    """Asks its input which way to go."""

    def forward(self, images):
        logits = super().forward(images)
        return logits if images.mean() > -100 else -logits


ROWS = []  # what `row` has built, last to first


def row(num_classes):
    """A trained row of convolutions in blocks, norms and activations; kept, to look at what became of it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        widths = (3, 8, 16, 16)
        parts = [
            part
            for before, width in itertools.pairwise(widths)
            for part in (nn.Sequential(nn.Conv2d(before, width, 3, padding=1)), nn.BatchNorm2d(width), nn.ReLU())
        ]
        network = nn.Sequential()
        network.body = nn.Sequential(*parts)
        network.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))
        with torch.no_grad():
            network(torch.randn(16, 3, 8, 8))  # norms that have seen data are no identities
    ROWS.insert(0, network)
    return network
