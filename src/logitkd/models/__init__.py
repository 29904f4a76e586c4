"""Networks: the papers' CIFAR networks, registered in timm on import, and any other network by name."""

from logitkd.models import (
    cifar_mobilenetv2,
    cifar_resnet,
    cifar_resnet_4stage,
    cifar_shufflenetv1,
    cifar_shufflenetv2,
    cifar_vgg,
    cifar_wrn,
)
from logitkd.models.build import build_model, parameter_count
from logitkd.models.weights import load_weights

__all__ = [
    "build_model",
    "cifar_mobilenetv2",
    "cifar_resnet",
    "cifar_resnet_4stage",
    "cifar_shufflenetv1",
    "cifar_shufflenetv2",
    "cifar_vgg",
    "cifar_wrn",
    "load_weights",
    "parameter_count",
]
