"""What the CIFAR networks share: timm's interface around a feature extractor and one linear classifier."""

from __future__ import annotations

from typing import Any, ClassVar

from timm.layers import SelectAdaptivePool2d
from timm.models import generate_default_cfgs
from torch import Tensor, nn

__all__ = ["CifarNet", "cifar_cfgs", "init_convolutions"]


def cifar_cfgs(*variants: str, classifier: str, first_conv: str = "conv1") -> Any:
    """Return timm's ``default_cfgs`` of CIFAR networks: 32 pixels, CIFAR-100 statistics, no weights to download.

    Args:
        variants: Names of the networks, without ``cifar_``.
        classifier: Module path of the linear classifier.
        first_conv: Module path of the first convolution.
    """
    cfg = {
        "url": "",
        "num_classes": 100,
        "input_size": (3, 32, 32),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.5071, 0.4867, 0.4408),
        "std": (0.2675, 0.2565, 0.2761),
        "classifier": classifier,
        "first_conv": first_conv,
    }
    return generate_default_cfgs({f"cifar_{variant}": cfg for variant in variants})


def init_convolutions(model: nn.Module) -> None:
    """Initialise as the originals do: convolutions normal with variance 2 / fan-out, their biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class CifarNet(nn.Module):
    """Base of the CIFAR networks: a subclass builds its layers, calls ``_add_head`` last, gives ``forward_features``.

    The module names of the layers are those of the papers' public code, so that public checkpoints load unchanged.

    Attributes:
        num_classes: Classes C; 0 after ``reset_classifier(0)``, then the pooled features come out.
        num_features: Channels D of the last map.
        feature_info: One dict a stage, ``num_chs`` (channels), ``reduction`` (input size over map size) and ``module``
            (path of the module that puts out the stage's map).
    """

    classifier_path: ClassVar[str]

    num_classes: int
    num_features: int
    head_hidden_size: int
    feature_info: list[dict[str, Any]]

    def _add_head(self, num_features: int, num_classes: int, global_pool: str, stages: list[tuple[str, int, int]]) -> None:
        """Add pooling and classifier, and describe the ``stages``: ``(module, channels, reduction)``, first to last."""
        self.num_features = self.head_hidden_size = num_features
        self.feature_info = [{"num_chs": c, "reduction": r, "module": m} for m, c, r in stages]
        self.reset_classifier(num_classes, global_pool)

    def get_classifier(self) -> nn.Module:
        """Return the linear classifier, an ``nn.Identity`` where there is none."""
        return self.get_submodule(self.classifier_path)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a fresh one.

        Args:
            num_classes: Classes of the new classifier; 0 for none.
            global_pool: Any pooling that timm knows (``"avg"``, ``"max"``, ...), ``""`` for none, which needs
                ``num_classes=0``; ``None`` keeps the present one.

        Raises:
            ValueError: ``num_classes`` is negative, or a classifier is asked for without pooling.
        """
        if num_classes < 0:
            raise ValueError(f"`num_classes` must be 0 (no classifier) or more, got {num_classes}.")
        if global_pool is not None:
            if not global_pool and num_classes > 0:
                raise ValueError(f"`global_pool=''` (no pooling) needs `num_classes=0`, got {num_classes}.")
            self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        self.num_classes = num_classes
        width = self.num_features * self.global_pool.feat_mult()
        parent, _, leaf = self.classifier_path.rpartition(".")
        setattr(self.get_submodule(parent), leaf, nn.Linear(width, num_classes) if num_classes else nn.Identity())
        self._init_classifier()

    def _init_classifier(self) -> None:
        """Initialise the classifier; PyTorch's own way unless a family overrides this."""

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map before pooling, ``(N, D, H, W)``, of images ``(N, in_chans, H, W)``."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits ``(N, C)`` of a map ``(N, D, H, W)``, or the pooled features ``(N, D)`` if ``pre_logits``."""
        x = self.global_pool(x)
        return x if pre_logits else self.get_classifier()(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, C)`` of images ``(N, in_chans, H, W)``."""
        return self.forward_head(self.forward_features(x))
