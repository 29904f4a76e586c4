"""Text classifiers of transformers: plain logits out, and what of a configuration cannot be one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from logitkd.checks import check_int, listed

__all__ = [
    "TextClassifier",
    "check_text_config",
    "encoder_layers",
    "no_layers",
    "pads_left",
    "set_layers",
]


class TextClassifier(nn.Module):
    """A text classifier of transformers that returns its logits as a tensor.

    Args:
        model: from ``AutoModelForSequenceClassification``; stays reachable as ``.model``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        model.config.use_cache = False  # of decoders: for reading on from where a text ends
        self.model = model
        self.num_classes = int(model.config.num_labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return logits ``(N, C)`` of texts, their token ids, mask (1 is a token, 0 filling) and types ``(N, L)``."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True, **types).logits


def check_text_config(name: str, config: Any) -> None:
    """Check that a configuration can be one of a text classifier.

    Args:
        name: of the network, for the message.
        config: of transformers.

    Raises:
        ValueError: it is an encoder-decoder, or it says no padding id.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"model `{name}` must be an encoder or a decoder, got an encoder-decoder ({config.model_type}), which reads every"
            " text twice. Take an encoder such as BERT, or a decoder such as GPT-2."
        )
    if getattr(config.get_text_config(), "pad_token_id", None) is None:
        raise ValueError(
            f"model `{name}`: its configuration must say which token fills up shorter texts, got no `pad_token_id` (it is a"
            f" {config.model_type}). Save it to a folder, and write the id of its tokenizer's padding token into `config.json`;"
            " where the tokenizer has none, give it one too: `tokenizer.pad_token = tokenizer.eos_token`."
        )


def set_layers(name: str, whole: Any, config: Any, layers: int) -> None:
    """Set the number of the encoder's layers.

    Args:
        name: of the network, for the message.
        whole: the network of transformers before that, its weights not looked at.
        config: its configuration; changed.
        layers: how many.

    Raises:
        ValueError: it has not so many, or none that could be left out.
    """
    if encoder_layers(whole) is None:
        raise ValueError(no_layers(config))
    check_int("layers", layers, 1, config.num_hidden_layers, f"what `{name}` has")
    kinds = getattr(config, "layer_types", None)
    if kinds:
        if len(set(kinds)) > 1:
            raise ValueError(
                f"`layers` must be left out for `{name}`: its layers are of several kinds ({listed(sorted(set(kinds)))}),"
                " so that fewer of them are another network."
            )
        config.layer_types = kinds[:layers]
    config.num_hidden_layers = layers


def pads_left(config: Any) -> bool:
    """Whether shorter texts are filled up in front: XLNet reads the last place, whatever stands there."""
    return config.model_type == "xlnet"


def no_layers(config: Any) -> str:
    """Return the message for a network whose layers cannot be taken one by one."""
    return (
        f"`layers` must be left out for a network of the kind {config.model_type}: it has no list of its layers, each with"
        " weights of its own, of which some could be taken."
    )


def encoder_layers(model: Any) -> str | None:
    """Return the path of the list that holds the encoder's layers, ``None`` where there is none or more than one.

    It is known by its length, that which the configuration says.

    Args:
        model: of transformers.
    """
    count = model.config.num_hidden_layers
    found = [
        path
        for path, part in model.named_modules()
        if isinstance(part, nn.ModuleList) and len(part) == count and len({type(layer) for layer in part}) == 1
    ]
    outer = [path for path in found if not any(path.startswith(f"{other}.") for other in found)]
    return outer[0] if len(outer) == 1 else None
