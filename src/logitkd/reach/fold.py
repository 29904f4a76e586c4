"""Make a frozen network's forward pass cheaper, where its outputs are allowed to move by a rounding error."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fold_batch_norms"]


def fold_batch_norms(model: nn.Module, cuts: Sequence[str] = ()) -> int:
    """Fold each batch norm into the convolution before it, in place; return how many were folded.

    The pairs are found by tracing; a model that cannot be traced stays as it is. Module paths are unchanged (a folded
    norm becomes an identity), so whatever reads the model's parts keeps working.

    Args:
        model: frozen.
        cuts: paths of modules whose outputs are read: no norm behind one is folded into it.
    """
    model.eval()
    try:
        graph = fx.Tracer().trace(model)
    except Exception:  # tracing runs the user's code on symbols: any error only means "cannot be traced"
        return 0
    modules = dict(model.named_modules())
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[node.target] = calls.get(node.target, 0) + 1
    folded = 0
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        if before.op != "call_module" or not isinstance(modules[before.target], nn.Conv2d) or len(before.users) != 1:
            continue
        if calls[before.target] != 1 or calls[node.target] != 1:  # shared modules serve two places
            continue
        if modules[node.target].running_mean is None:
            continue
        if any(_within(before.target, cut) and not _within(node.target, cut) for cut in cuts):
            continue
        model.set_submodule(before.target, fuse_conv_bn_eval(modules[before.target], modules[node.target]))
        model.set_submodule(node.target, nn.Identity().eval())
        folded += 1
    return folded


def _within(path: str, module: str) -> bool:
    return path == module or path.startswith(f"{module}.")
