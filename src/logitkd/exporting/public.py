"""Names of networks and data as others may read them: without the folders of this machine."""

from __future__ import annotations

from pathlib import Path

from logitkd.models import read_name
from logitkd.models.names import HEADS

__all__ = ["public_name", "public_source"]


def public_name(name: str) -> str:
    """Return a network's name without the folders of this machine in it.

    >>> public_name("transformers:/home/me/vit"), public_name("hf-hub:timm/resnet18"), public_name("resnet18.a1_in1k")
    ('transformers:vit', 'hf-hub:timm/resnet18', 'resnet18.a1_in1k')
    >>> public_name("deeplabv3:local-dir:/home/me/resnet18"), public_name("deeplabv3:resnet18.a1_in1k")
    ('deeplabv3:local-dir:resnet18', 'deeplabv3:resnet18.a1_in1k')
    """
    source = read_name(name)
    if source.kind in HEADS:
        return f"{source.kind}:{public_name(source.inner)}"
    return name if source.kind not in ("local-dir", "transformers") else f"{source.kind}:{public_source(source.inner)}"


def public_source(source: str) -> str:
    """Return a data source without the folders of this machine above it.

    >>> public_source("uoft-cs/cifar100"), public_source("/home/me/photos"), public_source("../photos/")
    ('uoft-cs/cifar100', 'photos', 'photos')
    """
    path = Path(source)
    return path.name if path.is_absolute() or path.parts[:1] in [("..",), ("~",)] else source
