"""The files a student is exported to: how each is written, and how it is read back to be compared."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from logitkd.checks import unknown
from logitkd.training.checkpoint import student_bytes

__all__ = ["FORMATS", "Format", "check_formats"]

Network = Callable[[Tensor], Tensor]
ONE_FILE = 3 << 29  # bytes of weights that go into the ONNX file itself; protobuf ends at 2 GiB


@dataclass(frozen=True)
class Format:
    """One way to export a network.

    Args:
        file: the file's name in the export folder.
        write: writes the network, in eval mode on the CPU, with example images ``(N, 3, H, W)``, to a path.
        read: returns what the path holds as a function from images to logits; may ask for a network with a file's weights.
        needs: packages that must be installed.
    """

    file: str
    write: Callable[[nn.Module, Tensor, Path], None]
    read: Callable[[Path, Callable[[Path], nn.Module]], Network]
    needs: tuple[str, ...] = ()


def check_formats(names: Sequence[str]) -> None:
    """Check that every format exists and that what it needs is installed.

    Raises:
        ValueError: a name is unknown, none is given, or a package is missing: then the extra to install is named.
    """
    if not names:
        raise ValueError(f"`format` must name at least one of {', '.join(FORMATS)}, got none.")
    for name in names:
        if name not in FORMATS:
            raise ValueError(unknown("format", name, FORMATS))
    missing = sorted({package for name in names for package in FORMATS[name].needs if find_spec(package) is None})
    if missing:
        others = ",".join(name for name in FORMATS if not FORMATS[name].needs)
        raise ValueError(
            f"the format `onnx` needs {', '.join(missing)}, not installed here. Install with `pip install 'logitkd[export]'`, "
            f"or leave the format out: `--format {others}`."
        )


def _write_safetensors(network: nn.Module, images: Tensor, path: Path) -> None:
    path.write_bytes(student_bytes(network))


def _read_safetensors(path: Path, build: Callable[[Path], nn.Module]) -> Network:
    return build(path).eval()


def _program(network: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    """Trace ``network`` for any batch size; the trace says nothing of where the sources lie on this machine."""
    program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def _write_torch_export(network: nn.Module, images: Tensor, path: Path) -> None:
    content = io.BytesIO()  # torch's own writer ends the process where the disk is full
    torch.export.save(_program(network, images), content)
    path.write_bytes(content.getbuffer())


def _read_torch_export(path: Path, build: Callable[[Path], nn.Module]) -> Network:
    return torch.export.load(path).module()


def _write_onnx(network: nn.Module, images: Tensor, path: Path) -> None:
    import onnx

    program = torch.onnx.export(
        _program(network, images),
        (),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: "batch"},),
        verbose=False,
    )
    assert program is not None
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    program.save(path, external_data=size > ONE_FILE)
    onnx.checker.check_model(path, full_check=True)


def _read_onnx(path: Path, build: Callable[[Path], nn.Module]) -> Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        outputs: Any = session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(outputs[0])

    return run


FORMATS = {
    "safetensors": Format("model.safetensors", _write_safetensors, _read_safetensors),
    "onnx": Format("model.onnx", _write_onnx, _read_onnx, ("onnx", "onnxruntime", "onnxscript")),
    "torch_export": Format("model.pt2", _write_torch_export, _read_torch_export),
}
