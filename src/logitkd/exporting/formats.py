"""The files a student is exported to: how each is written, and how it is read back to be compared."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from logitkd.checks import unknown
from logitkd.exporting.kind import Trace
from logitkd.reach.inputs import Inputs, call
from logitkd.training.checkpoint import student_bytes

__all__ = ["FORMATS", "Format", "check_formats"]

Network = Callable[[Inputs], Tensor]
ONE_FILE = 3 << 29  # bytes of weights that go into the ONNX file itself; protobuf ends at 2 GiB


@dataclass(frozen=True)
class Format:
    """One way to export a network.

    Args:
        file: the file's name in the export folder.
        write: writes the network, in eval mode on the CPU, to a path; it may be traced as ``Trace`` says.
        read: returns what the path holds as a function from inputs to logits; may ask for a network with a file's weights.
        needs: packages that must be installed.
        plain: it holds the weights under the plain network's own names, and so is given that network.
    """

    file: str
    write: Callable[[nn.Module, Trace, Path], None]
    read: Callable[[Path, Callable[[Path], nn.Module]], Network]
    needs: tuple[str, ...] = ()
    plain: bool = False


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


def _write_safetensors(network: nn.Module, trace: Trace, path: Path) -> None:
    path.write_bytes(student_bytes(network))


def _read_safetensors(path: Path, build: Callable[[Path], nn.Module]) -> Network:
    return partial(call, build(path).eval())


def _program(network: nn.Module, trace: Trace) -> torch.export.ExportedProgram:
    """Trace ``network`` for batches of any size; the trace says nothing of where the sources lie on this machine."""
    # Of a batch every size must do. Other axes have an end of their own, such as the longest text that a network takes.
    free = {axis: torch.export.Dim(name) if axis == 0 else torch.export.Dim.DYNAMIC for axis, name in trace.axes.items()}
    if isinstance(trace.example, Mapping):
        shapes = dict.fromkeys(trace.example, free)
        program = torch.export.export(network, (), dict(trace.example), dynamic_shapes=shapes)
    else:
        program = torch.export.export(network, (trace.example,), dynamic_shapes=(free,))
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def _write_torch_export(network: nn.Module, trace: Trace, path: Path) -> None:
    content = io.BytesIO()  # torch's own writer ends the process where the disk is full
    torch.export.save(_program(network, trace), content)
    path.write_bytes(content.getbuffer())


def _read_torch_export(path: Path, build: Callable[[Path], nn.Module]) -> Network:
    return partial(call, torch.export.load(path).module())


def _write_onnx(network: nn.Module, trace: Trace, path: Path) -> None:
    import onnx

    axes = dict(trace.axes)
    with warnings.catch_warnings():  # several inputs share their axes, and these have names only once
        warnings.filterwarnings("ignore", message=".*axis name.*will not be used")
        program = torch.onnx.export(
            _program(network, trace),
            (),
            dynamo=True,
            input_names=list(trace.names),
            output_names=["logits"],
            dynamic_shapes=dict.fromkeys(trace.names, axes) if isinstance(trace.example, Mapping) else (axes,),
            verbose=False,
        )
    assert program is not None
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    program.save(path, external_data=size > ONE_FILE)
    onnx.checker.check_model(path, full_check=True)


def _read_onnx(path: Path, build: Callable[[Path], nn.Module]) -> Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    names = [entry.name for entry in session.get_inputs()]

    def run(inputs: Inputs) -> Tensor:
        named = inputs if isinstance(inputs, Mapping) else {names[0]: inputs}
        outputs: Any = session.run(["logits"], {name: tensor.numpy() for name, tensor in named.items()})
        return torch.from_numpy(outputs[0])

    return run


FORMATS = {
    "safetensors": Format("model.safetensors", _write_safetensors, _read_safetensors, plain=True),
    "onnx": Format("model.onnx", _write_onnx, _read_onnx, ("onnx", "onnxruntime", "onnxscript")),
    "torch_export": Format("model.pt2", _write_torch_export, _read_torch_export),
}
