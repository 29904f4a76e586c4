"""Loading weights: safetensors, or a torch file read with ``weights_only=True``; strict, and never half a load."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from logitkd.checks import check_path, listed

__all__ = ["ClassCountError", "load_weights"]

_WRAPPERS = ("model", "state_dict")  # mdistiller and CRD; timm, Lightning and many more
_MOST_WRAPPERS = 10  # a dict may hold itself
_PREFIXES = ("module.", "model.")  # DataParallel; a wrapper that holds the network as `.model`
_STUDENT = "student.safetensors"  # the file of a run folder
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # how a file of torch.save begins: a zip archive, before torch 1.6 a pickle
_REFUSALS = ("not an allowed global", "Unsupported", "GLOBAL")  # what torch says when `weights_only` refuses an object

# The public CIFAR checkpoints keep an accuracy as a numpy number beside the weights, which `weights_only` refuses by
# itself. To rebuild a number runs no code of the file's. Files older than numpy 2 use the old module path.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")},
]


class ClassCountError(ValueError):
    """A checkpoint fits but for its number of classes, which is in ``classes``."""

    def __init__(self, message: str, classes: int) -> None:
        super().__init__(message)
        self.classes = classes


def load_weights(model: nn.Module, path: str | Path, *, num_classes: int | None = None) -> None:
    """Load weights into ``model``; all of them, or an error and the model as it was.

    Args:
        model: The network to fill.
        num_classes: Its classes, where they are known: so many rows its classifier has.
        path: A ``.safetensors`` file; a file written by ``torch.save`` that holds a state dict, alone or under
            ``"model"`` or ``"state_dict"``; or a run folder, whose ``student.safetensors`` is read. A ``module.`` or
            ``model.`` in front of every name is taken off, or put there where only the model's own names have it. A
            segmentation network of torchvision or transformers gives up its auxiliary head where the file has none of it.

    Raises:
        FileNotFoundError: There is no such file, or the folder holds no ``student.safetensors``.
        ValueError: The file is damaged, needs unsafe unpickling, holds no state dict, or its names or shapes are not
            the model's, or its tensors are sparse, or complex or integer where the model's are floating point; the message
            lists which. A ``ClassCountError`` where nothing but the number of classes differs.
    """
    check_path("checkpoint", path)
    path = Path(path)
    if path.is_dir():
        path = path / _STUDENT
        if not path.is_file():
            raise FileNotFoundError(f"checkpoint folder {path.parent} holds no `{_STUDENT}`: no finished run is there.")
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint file {path} does not exist.")
    wanted = model.state_dict()
    state = _state_dict(_read(path), path)
    spare = _spare(model, state)
    wanted = {name: value for name, value in wanted.items() if not (spare and name.startswith(spare))}
    state = _without_prefix(state, wanted)
    _check_kinds(state, wanted, path)
    _check(state, wanted, model, path, num_classes)
    if spare:
        model.drop_auxiliary()  # type: ignore[operator]
    model.load_state_dict(state)


def _spare(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Return what the names of the auxiliary head begin with, which the model can do without; empty if the file has it."""
    head: str = getattr(model, "auxiliary", "")
    return f"model.{head}." if head and not any(head in name.split(".") for name in state) else ""


def _read(path: Path) -> Any:
    """Return what the file holds, tensors on the CPU."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"checkpoint {path} is not a readable safetensors file ({error}).") from error
    if foreign := _foreign(path):  # before anything is unpickled: other bytes may spell what only a pickle means
        raise ValueError(f"checkpoint {path} is damaged or no file of torch.save ({foreign}).")
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not any(words in str(error) for words in _REFUSALS):
            raise ValueError(_damaged(path, error)) from error
        raise ValueError(
            f"checkpoint {path} holds Python objects beside tensors; loading those could run code, so it is refused. If"
            " you trust the file, convert it once: `data = torch.load(path, weights_only=False)`, then"
            " `torch.save({'model': data['model']}, new_path)` (for a whole pickled network: `data.state_dict()`)."
        ) from error
    except OSError:
        raise  # unreadable, which is not the content's fault
    except Exception as error:  # garbage makes the unpickler fail in any way: KeyError, IndexError, RuntimeError ...
        raise ValueError(_damaged(path, error)) from error


def _foreign(path: Path) -> str:
    """Return why the file cannot be one of torch.save, by its form alone; empty if it may be one."""
    with path.open("rb") as file:
        start = file.read(4)
    if start == _ZIP:
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile:
            return "a zip archive without its end"
        if not any(name.endswith("/data.pkl") for name in names):
            return f"a zip archive without `data.pkl`; it holds {listed(names, 3)}"
    elif not start.startswith(_PICKLE):
        return f"it begins with {start!r}, which is neither a zip archive with something in it nor a pickle"
    return ""


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return f"checkpoint {path} is damaged or no file of torch.save ({reason[:120]})."


def _state_dict(data: Any, path: Path) -> dict[str, Tensor]:
    """Unwrap ``data`` down to a mapping of names to tensors."""
    for _ in range(_MOST_WRAPPERS):
        inner = [data[key] for key in _WRAPPERS if isinstance(data, Mapping) and isinstance(data.get(key), Mapping)]
        if not inner:
            break
        data = inner[0]
    if isinstance(data, Mapping):
        if data and all(isinstance(value, Tensor) for value in data.values()):
            return dict(data)
        held = f"a dict with the keys {listed(data)}"
    else:
        held = type(data).__name__
    raise ValueError(
        f"checkpoint {path} must hold a state dict (names to tensors), alone or under `model` or `state_dict`, got {held}."
    )


def _without_prefix(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off the prefixes that stand before every name, unless the model's own names have them."""
    while state.keys() != wanted.keys():
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None or all(name.startswith(prefix) for name in wanted):
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    if {f"model.{name}" for name in state} == wanted.keys():  # what a wrapped network wrote before it was wrapped
        state = {f"model.{name}": value for name, value in state.items()}
    return state


def _check_kinds(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Raise ``ValueError`` unless all are plain numbers of the model's kind: what torch casts to it are other weights."""
    wrong = {name: kind for name, value in state.items() if (kind := _other_kind(value, wanted.get(name)))}
    if wrong:
        each = listed((f"{name} is {kind}" for name, kind in wrong.items()), 4)
        raise ValueError(
            f"checkpoint {path} must hold dense tensors, floating-point ones for floating-point weights, got {len(wrong)} of"
            f" {len(state)} that are not: {each}. Save the network before it is quantized or made sparse"
            " (`.dequantize()`, `.to_dense()`)."
        )


def _other_kind(value: Tensor, wanted: Tensor | None) -> str:
    """Say what a tensor is where it is not of the model's kind; empty where it is."""
    if value.is_quantized or value.is_nested or value.is_meta:
        return "quantized" if value.is_quantized else "nested" if value.is_nested else "without values (meta)"
    if value.layout != torch.strided:
        return str(value.layout).removeprefix("torch.")
    if wanted is None:
        return ""
    kept = value.is_floating_point() or value.is_complex()
    lost = (value.is_complex() and not wanted.is_complex()) or (not kept and wanted.is_floating_point())
    return str(value.dtype).removeprefix("torch.") if lost else ""


def _check(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], model: nn.Module, path: Path, num_classes: int | None
) -> None:
    """Raise ``ValueError`` unless names and shapes are the model's."""
    missing = [name for name in wanted if name not in state]
    unexpected = sorted(name for name in state if name not in wanted)
    wrong = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    if not (missing or unexpected or wrong):
        return
    if wrong and not (missing or unexpected):
        theirs = _other_classes(state, wanted, model, wrong, num_classes)
        if theirs is not None:
            raise ClassCountError(
                f"checkpoint {path} has {theirs} classes (`{wrong[0]}` {tuple(state[wrong[0]].shape)}), the model has"
                f" {wanted[wrong[0]].shape[0]}: build it with `num_classes={theirs}`, or give another checkpoint.",
                theirs,
            )
    faults = []
    if missing:
        faults.append(f"{len(missing)} missing: {listed(missing)}")
    if unexpected:
        faults.append(f"{len(unexpected)} unexpected: {listed(unexpected)}")
    if wrong:
        shapes = (f"{n} {tuple(state[n].shape)} instead of {tuple(wanted[n].shape)}" for n in wrong)
        faults.append(f"{len(wrong)} of another shape: {listed(shapes)}")
    raise ValueError(f"checkpoint {path} does not fit {type(model).__name__} (is it another network?). {'; '.join(faults)}.")


def _other_classes(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], model: nn.Module, wrong: list[str], num_classes: int | None
) -> int | None:
    """Return the checkpoint's number of classes if its classifier alone is wrong, and that in its number of rows alone.

    The classifier is the last module with a row for every class, unless the model says which (it may have several heads):
    another layer may have as many rows by chance.
    """
    if not all(state[name].ndim and wanted[name].ndim for name in wrong):
        return None
    rows = wanted[wrong[0]].shape[:1]
    modules: dict[str, list[str]] = {}
    for name in wanted:
        if wanted[name].shape[:1] == rows:
            modules.setdefault(name.rpartition(".")[0], []).append(name)
    layers = getattr(model, "class_layers", None) or [*modules][-1:]
    heads = [name for path in layers for name in modules.get(path, [])]
    theirs = {state[name].shape[:1] for name in wrong}
    same_columns = all(state[name].shape[1:] == wanted[name].shape[1:] for name in wrong)
    if (
        sorted(wrong) != sorted(heads)
        or len(theirs) > 1
        or not same_columns
        or (num_classes is not None and rows != (num_classes,))
    ):
        return None
    (count,) = theirs.pop()
    return count
