"""A user's own network, named in configurations as ``tiny_net:TinyNet``."""

import os
import signal

import torch
from torch import nn


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


class SignallingNet(TinyNet):
    """Sends its own process SIGTERM in its first evaluation."""

    sent = False

    def forward(self, images):
        if not self.training and not SignallingNet.sent:
            SignallingNet.sent = True
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(images)


class HeavyNet(TinyNet):
    """Its checkpoints take long enough to write for a kill to fall inside one."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.register_buffer("ballast", torch.zeros(2**20))
