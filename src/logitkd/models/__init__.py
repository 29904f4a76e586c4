"""Networks: the papers' CIFAR networks, registered in timm on import, and any other network by name."""

from logitkd.models import (
    cifar_mobilenetv2,
    cifar_resnet,
    cifar_resnet_4stage,
    cifar_shufflenet,
    cifar_vgg,
    cifar_wrn,
)
from logitkd.models.build import build_model, build_pretrained, find_own, parameter_count
from logitkd.models.label_map_file import read_label_map
from logitkd.models.layers import copy_layers
from logitkd.models.names import Output, check_name, read_name
from logitkd.models.own_code import import_recorded, opening
from logitkd.models.pretrained import Pretrained
from logitkd.models.text_classifier import TextClassifier
from logitkd.models.tokenizers import Tokenizer, load_tokenizer
from logitkd.models.weights import ClassCountError, load_weights

__all__ = [
    "ClassCountError",
    "Output",
    "Pretrained",
    "TextClassifier",
    "Tokenizer",
    "build_model",
    "build_pretrained",
    "check_name",
    "cifar_mobilenetv2",
    "cifar_resnet",
    "cifar_resnet_4stage",
    "cifar_shufflenet",
    "cifar_vgg",
    "cifar_wrn",
    "copy_layers",
    "find_own",
    "import_recorded",
    "load_tokenizer",
    "load_weights",
    "opening",
    "parameter_count",
    "read_label_map",
    "read_name",
]
