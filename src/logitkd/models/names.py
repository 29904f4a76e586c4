"""What a network's name means: where it is built from, and whether that brings weights."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import timm
import torchvision

from logitkd.checks import listed, suggest

__all__ = ["NETWORK", "PREFIXES", "Source", "check_name", "read_name", "read_source"]

Kind = Literal["timm", "hf-hub", "local-dir", "torchvision", "transformers", "own"]
PREFIXES: dict[str, Kind] = {
    "hf-hub": "hf-hub",
    "hf_hub": "hf-hub",
    "local-dir": "local-dir",
    "torchvision": "torchvision",
    "transformers": "transformers",
}
NETWORK = "network"  # in a run folder: the network's configuration and its tokenizer
WAYS = (
    "A name is one of timm's (`timm.list_models()`), with a pretrained tag or without, `torchvision:NAME`,"
    " `transformers:ID_OR_FOLDER`, `hf-hub:OWNER/NAME`, `local-dir:FOLDER` or `package.module:callable`."
)
# Their forward passes return several outputs while training, and their input is scaled once more in some weights.
SEVERAL_OUTPUTS = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class Source:
    """A network's name, taken apart.

    Args:
        name: as it was given.
        kind: where the network is built from.
        inner: the name there: ``resnet50``, ``google/vit-base-patch16-224``, a folder, ``package.module:callable``.
        tag: which of its pretrained weights; empty for none.
    """

    name: str
    kind: Kind
    inner: str
    tag: str = ""

    @property
    def has_weights(self) -> bool:
        """Whether the name stands for trained weights; false for one's own callable, of which nobody knows."""
        return bool(self.tag) or self.kind in ("hf-hub", "local-dir", "transformers")


def read_name(name: str) -> Source:
    """Take a network's name apart.

    >>> read_name("resnet50.a1_in1k")
    Source(name='resnet50.a1_in1k', kind='timm', inner='resnet50', tag='a1_in1k')
    >>> read_name("torchvision:resnet18").has_weights
    False
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


def read_source(name: str, checkpoint: str | Path | None = None) -> Source:
    """Check a name and take it apart; where the checkpoint brings the network's configuration, it is read from there.

    Args:
        name: of a network.
        checkpoint: where its weights are. That of a run folder, or the folder, has its configuration in ``network/``.

    Raises:
        ValueError: as :func:`check_name`.
    """
    source = read_name(name)
    if source.kind == "transformers" and checkpoint is not None:
        path = Path(checkpoint)
        folder = (path if path.is_dir() else path.parent) / NETWORK
        if (folder / "config.json").is_file():
            return replace(source, inner=str(folder))
    check_name(name)
    return source


def check_name(name: str) -> None:
    """Check a name as far as it can be without the network, one's own code or much time.

    Raises:
        ValueError: there is no such network, pretrained tag or folder; the nearest is named.
    """
    source = read_name(name)
    match source.kind:
        case "timm":
            _check_timm(source)
        case "torchvision":
            _check_torchvision(source)
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


def _check_torchvision(source: Source) -> None:
    known = torchvision.models.list_models(module=torchvision.models)
    if source.inner not in known:
        raise ValueError(
            f"unknown model `{source.name}`: torchvision has no classifier `{source.inner}`.{suggest(source.inner, known)}"
        )
    if source.inner in SEVERAL_OUTPUTS:
        raise ValueError(
            f"model `{source.name}` returns several outputs while training: take timm's `inception_v3` or another network."
        )
    tags = list(torchvision.models.get_model_weights(source.inner).__members__)
    if source.tag and source.tag not in tags:
        raise ValueError(
            f"model `{source.name}`: torchvision has no weights `{source.tag}` for `{source.inner}`."
            f"{suggest(source.tag, tags)} It has {listed(tags)}."
        )


def _check_folder(source: Source, holding: str) -> None:
    folder = Path(source.inner).expanduser()
    if not (folder / "config.json").is_file():
        if (folder / "config.yaml").is_file():
            raise ValueError(f"model `{source.name}` is a run folder, not {holding}. Give `{folder}` alone, as a path.")
        what = "holds no `config.json`" if folder.is_dir() else "does not exist"
        raise ValueError(f"model `{source.name}`: the folder {folder} {what}. It must hold {holding}.")
