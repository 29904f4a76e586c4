"""What a network's name means: where it is built from, and whether that brings weights."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import timm
import torchvision
from torchvision.models import segmentation

from logitkd.checks import check_choice, listed, suggest
from logitkd.models.timm_maps import check_maps

__all__ = [
    "HEADS",
    "NETWORK",
    "PREFIXES",
    "Output",
    "Source",
    "backbone_weights",
    "check_name",
    "read_name",
    "read_source",
    "takes_auxiliary",
]

Output = Literal["classes", "maps"]  # logits of every example, or of every cell of a grid
Kind = Literal["timm", "hf-hub", "local-dir", "torchvision", "transformers", "own", "deeplabv3", "lraspp"]
TIMM: tuple[Kind, ...] = ("timm", "hf-hub", "local-dir")
HEADS: tuple[Kind, ...] = ("deeplabv3", "lraspp")  # torchvision's, on a network of timm
PREFIXES: dict[str, Kind] = {
    "hf-hub": "hf-hub",
    "hf_hub": "hf-hub",
    "local-dir": "local-dir",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "deeplabv3": "deeplabv3",
    "lraspp": "lraspp",
}
NETWORK = "network"  # in a run folder: the network's configuration and its tokenizer
WAYS = (
    "A name is one of timm's (`timm.list_models()`), with a pretrained tag or without, `torchvision:NAME`,"
    " `transformers:ID_OR_FOLDER`, `hf-hub:OWNER/NAME`, `local-dir:FOLDER` or `package.module:callable`."
)
MAP_WAYS = (
    "A segmentation network is `torchvision:NAME`, `deeplabv3:NAME` or `lraspp:NAME` (torchvision's heads on a network of"
    " timm), `transformers:ID_OR_FOLDER` or `package.module:callable`."
)
# Their forward passes return several outputs while training, and their input is scaled once more in some weights.
SEVERAL_OUTPUTS = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class Source:
    """A network's name, taken apart.

    Args:
        name: as it was given.
        kind: where the network is built from.
        inner: the name there: ``resnet50``, ``google/vit-base-patch16-224``, a folder, ``package.module:callable``; of a head
            on a network of timm that network's whole name, with its tag.
        tag: which of its pretrained weights; empty for none.
    """

    name: str
    kind: Kind
    inner: str
    tag: str = ""

    @property
    def has_weights(self) -> bool:
        """Whether the name stands for trained weights; false for one's own callable, of which nobody knows."""
        if self.kind in HEADS:
            return self.backbone.has_weights
        return bool(self.tag) or self.kind in ("hf-hub", "local-dir", "transformers")

    @property
    def has_head(self) -> bool:
        """Whether those weights are of more than a backbone, so far as the name says."""
        if self.kind == "torchvision" and self.tag in backbone_weights(self.inner):
            return False
        return self.has_weights and self.kind not in HEADS

    @property
    def backbone(self) -> Source:
        """The network of timm that a head is on, under the whole's name; anything else is its own."""
        return replace(read_name(self.inner), name=self.name) if self.kind in HEADS else self


def read_name(name: str) -> Source:
    """Take a network's name apart.

    >>> read_name("resnet50.a1_in1k")
    Source(name='resnet50.a1_in1k', kind='timm', inner='resnet50', tag='a1_in1k')
    >>> read_name("torchvision:resnet18").has_weights
    False
    >>> read_name("deeplabv3:resnet18.a1_in1k").backbone
    Source(name='deeplabv3:resnet18.a1_in1k', kind='timm', inner='resnet18', tag='a1_in1k')
    >>> read_name("package.module:callable").kind
    'own'
    """
    prefix, colon, rest = name.partition(":")
    kind = PREFIXES.get(prefix, "own") if colon else "timm"
    if kind == "own":
        return Source(name, kind, name)
    if kind in ("timm", "torchvision"):
        inner, _, tag = (rest if colon else name).partition(".")
        return Source(name, kind, inner, tag)
    return Source(name, kind, rest)


def read_source(name: str, checkpoint: str | Path | None = None, output: Output = "classes") -> Source:
    """Check a name and take it apart; where the checkpoint brings the network's configuration, it is read from there.

    Args:
        name: of a network.
        checkpoint: where its weights are. That of a run folder, or the folder, has its configuration in ``network/``.
        output: as in :func:`check_name`.

    Raises:
        ValueError: as :func:`check_name`.
    """
    source = read_name(name)
    if source.kind == "transformers" and checkpoint is not None:
        path = Path(checkpoint)
        folder = (path if path.is_dir() else path.parent) / NETWORK
        if (folder / "config.json").is_file():
            return replace(source, inner=str(folder))
    check_name(name, output)
    return source


def check_name(name: str, output: Output = "classes") -> None:
    """Check a name as far as it can be without the network, one's own code or much time.

    Args:
        name: of a network.
        output: what the network must return, ``classes``: logits of an image or a text; or ``maps``: of every cell of a grid.

    Raises:
        ValueError: there is no such network, pretrained tag or folder; the nearest is named. Or its output is the other.
    """
    check_choice("output", output, ("classes", "maps"))
    source = read_name(name)
    if output == "maps" and source.kind in TIMM:
        raise ValueError(_no_map(source))
    match source.kind:
        case "deeplabv3" | "lraspp" if output == "classes":
            raise ValueError(
                f"model `{name}` must be a classifier, got a segmentation network, which gives logits of every pixel. Give"
                f" `{source.inner}` alone, or the task: `--task segmentation`."
            )
        case "deeplabv3" | "lraspp":
            _check_backbone(source)
        case "timm":
            _check_timm(source)
        case "torchvision":
            _check_torchvision(source, output)
        case "hf-hub":
            if source.inner.count("/") != 1 or not all(source.inner.split("/")):
                raise ValueError(f"model `{name}` must read `hf-hub:OWNER/NAME`.")
        case "local-dir":
            _check_folder(source, "timm's `config.json` and weights")
        case "transformers":
            if not source.inner:
                raise ValueError(f"model `{name}` must read `transformers:ID_OR_FOLDER`.")
            if source.inner.startswith((".", "/", "~")) or source.inner.count("/") > 1:  # no hub id can look like this
                _check_folder(source, "what `save_pretrained` writes")


def _check_timm(source: Source) -> None:
    if not timm.is_model(source.inner):
        known = timm.list_models()
        close = difflib.get_close_matches(source.inner, known, n=4, cutoff=0.5)
        if f"cifar_{source.inner}" in known:
            close = [f"cifar_{source.inner}", *(c for c in close if c != f"cifar_{source.inner}")]
        hint = f" Nearest: {', '.join(close)}." if close else ""
        raise ValueError(f"unknown model `{source.name}`.{hint} {WAYS}")
    if source.tag:
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{source.inner}.*")]
        if source.tag not in tags:
            raise ValueError(
                f"model `{source.name}`: timm has no weights `{source.tag}` for `{source.inner}`.{suggest(source.tag, tags)}"
                f" It has {listed(tags)}."
            )


def _no_map(source: Source) -> str:
    """Return the message for a network of timm where a map is wanted."""
    if source.kind == "timm" and not timm.is_model(source.inner):
        known = torchvision.models.list_models(module=segmentation)
        hint = suggest(f"torchvision:{source.inner}", [f"torchvision:{name}" for name in known])
        return f"unknown model `{source.name}`.{hint} {MAP_WAYS}"
    return (
        f"model `{source.name}` must be a segmentation network, got a classifier: timm has no others. Give it a head,"
        f" `deeplabv3:{source.name}` or `lraspp:{source.name}`. {MAP_WAYS}"
    )


def _check_backbone(source: Source) -> None:
    """Check a head on a network of timm: that this is one, and yields the maps that the head reads."""
    if source.backbone.kind not in TIMM:
        raise ValueError(f"model `{source.name}` must read `{source.kind}:NAME`, a name of timm's, got `{source.inner}`.")
    check_name(source.inner)
    if source.backbone.kind == "timm":  # no file is needed
        check_maps(source.inner, source.kind)


def backbone_weights(name: str) -> Mapping[str, Any]:
    """Return the weights, by tag, that torchvision has for a segmentation network's backbone alone; none of anything else."""
    parameter = _parameters(name).get("weights_backbone")
    return {} if parameter is None else type(parameter.default).__members__


def takes_auxiliary(name: str) -> bool:
    """Whether a network of torchvision can be built with an auxiliary head and without."""
    return "aux_loss" in _parameters(name)


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """Return what torchvision's builder of a network takes, nothing where it has no such network."""
    known = name in torchvision.models.list_models()
    return inspect.signature(torchvision.models.get_model_builder(name)).parameters if known else {}


def _check_torchvision(source: Source, output: Output) -> None:
    networks = {"classes": torchvision.models, "maps": segmentation}
    words = {"classes": "classifier", "maps": "segmentation network"}
    known = torchvision.models.list_models(module=networks[output])
    if source.inner not in known:
        others = {kind: torchvision.models.list_models(module=module) for kind, module in networks.items()}
        other = next((words[kind] for kind, names in others.items() if source.inner in names), "")
        is_one = f" It is a {other} there." if other else suggest(source.inner, known)
        ways = f" {MAP_WAYS}" if output == "maps" else " Segmentation networks go with `--task segmentation`." if other else ""
        raise ValueError(f"unknown model `{source.name}`: torchvision has no {words[output]} `{source.inner}`.{is_one}{ways}")
    if source.inner in SEVERAL_OUTPUTS:
        raise ValueError(
            f"model `{source.name}` returns several outputs while training: take timm's `inception_v3` or another network."
        )
    tags = [*torchvision.models.get_model_weights(source.inner).__members__, *backbone_weights(source.inner)]
    if source.tag and source.tag not in tags:
        raise ValueError(
            f"model `{source.name}`: torchvision has no weights `{source.tag}` for `{source.inner}`."
            f"{suggest(source.tag, tags)} It has {listed(dict.fromkeys(tags))}."
        )


def _check_folder(source: Source, holding: str) -> None:
    folder = Path(source.inner).expanduser()
    if not (folder / "config.json").is_file():
        if (folder / "config.yaml").is_file():
            raise ValueError(f"model `{source.name}` is a run folder, not {holding}. Give `{folder}` alone, as a path.")
        what = "holds no `config.json`" if folder.is_dir() else "does not exist"
        raise ValueError(f"model `{source.name}`: the folder {folder} {what}. It must hold {holding}.")
