"""What flows through a model: how much work is done when, and where all that follows depends on one tensor alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from logitkd.reach.inputs import Inputs, is_images, tensors
from logitkd.reach.replay.trace import Call, answer, plain, trace

__all__ = ["Flow", "Passage", "Recorder", "WorkCounter", "follow"]

POOLING = {"mean", "_adaptive_avg_pool2d", "avg_pool2d", "max_pool2d_with_indices", "adaptive_max_pool2d", "amax", "max"}


class WorkCounter(TorchDispatchMode):
    """Counts the multiply-adds of what runs inside it: half the floating-point operations of products and convolutions.

    By torch's own formulas; its ``FlopCounterMode`` also keeps a count by module, and fails on models that hand a parameter
    from one module to another (timm's cait).
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    @property
    def multiply_adds(self) -> int:
        """The number so far."""
        return self.flops // 2

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(_plain_attention())
            super().__enter__()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=output)
        return output


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Let attention run as the two products that it is: some of its fused kernels are unknown to torch's formulas."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class Passage(NamedTuple):
    """What is known of one call of a module.

    Args:
        begun: share of the model's multiply-adds done when it began, from 0 to 1.
        ended: and when it had returned.
        read: how many of the tensors that it returned are read behind it, as far as they depend on the inputs.
        alone: whether what runs behind it reads the first tensor that it returned and nothing else of the inputs. What is made
            of a mask or of token ids without a weight is not counted, as it can be made again.
        in_head: whether it is a part of the head: behind the pooling that leaves one cell or the last layer, or together with
            them in a part that begins behind half of the work; of a dense network behind the last layer.
    """

    begun: float
    ended: float
    read: int
    alone: bool
    in_head: bool


@dataclass(frozen=True, eq=False)
class Flow:
    """One forward pass in eval mode, followed from the inputs to the logits.

    Args:
        model: what ran, without ``torch.compile``'s wrapper.
        inputs: what it was given.
        calls: of its submodules, in the order in which they began.
        passages: what is known of each, in the same order.
    """

    model: nn.Module
    inputs: Inputs
    calls: list[Call]
    passages: list[Passage]

    def once(self) -> dict[str, Call]:
        """Return the calls of the modules that ran once, by path."""
        ran: dict[nn.Module, int] = {}
        for call in self.calls:
            ran[call.module] = ran.get(call.module, 0) + 1
        return {call.path: call for call in self.calls if ran[call.module] == 1}

    def share(self, path: str) -> float:
        """Return the share of the multiply-adds done when the module at ``path``, which runs once, has run."""
        return self.of(self.at(path)).ended

    def at(self, path: str) -> Call:
        """Return the first call of the module at ``path``, which may have other names."""
        module = self.model.get_submodule(path)
        return next(call for call in self.calls if call.module is module)

    def of(self, call: Call) -> Passage:
        """Return what is known of a call."""
        return self.passages[call.number]


class _Operation(NamedTuple):
    """One tensor operation.

    Args:
        read: values that it read.
        written: values that it wrote.
        new: those of them that did not exist before.
        pools: whether it left one cell.
        weighs: whether it is a product or a convolution.
    """

    read: set[int]
    written: set[int]
    new: set[int]
    pools: bool
    weighs: bool


class Recorder(WorkCounter):
    """Notes what each operation reads and writes. A value is a storage, so that views and writes in place are seen.

    Args:
        inputs: what the model is given.
        model: whose weights tell features from what is made of masks and token ids alone.
    """

    def __init__(self, inputs: Inputs, model: nn.Module) -> None:
        super().__init__()
        self.values: dict[int, int] = {}  # address -> value
        self.held: list[Any] = []  # what keeps addresses, but not the memory behind them, from being used again
        self.operations: list[_Operation] = []
        self.since: dict[int, int] = {}  # feature: value that depends on the inputs -> number of operations before it did
        self.beside: set[int] = set()  # values made without a weight of inputs that are no images, such as a mask
        self.weights = {self.value(parameter) for parameter in model.parameters()}
        self.begun: list[int] = []  # by call: multiply-adds
        self.ended: dict[Call, tuple[int, int, list[int]]] = {}  # number of operations, multiply-adds, values put out
        for tensor in tensors(inputs):
            if is_images(inputs):
                self.since[self.value(tensor)] = 0
            else:
                self.beside.add(self.value(tensor))

    def value(self, tensor: Tensor) -> int:
        """Return the number of what a tensor holds."""
        strided = tensor.layout == torch.strided  # a sparse tensor has no storage of its own
        address = tensor.untyped_storage()._cdata if strided else id(tensor)
        if address not in self.values:
            self.values[address] = len(self.values)
            self.held.append(StorageWeakRef(tensor.untyped_storage()) if strided else tensor)
        return self.values[address]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        given = {self.value(tensor) for tensor in before}
        flops = self.flops
        output = super().__torch_dispatch__(func, types, args, kwargs)
        name = func._schema.name.partition("::")[2]
        # What is made in the shape of a tensor does not depend on what is in it.
        read = set() if name.endswith("_like") or name.startswith("new_") else given
        after = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        first = len(self.values)
        written = {self.value(tensor) for tensor in [*after, *_changed(func, args, kwargs)]}
        new = {value for value in written if value >= first}
        beside = not read.isdisjoint(self.beside)
        if not read.isdisjoint(self.since) or (beside and not read.isdisjoint(self.weights)):
            for value in written:
                self.since.setdefault(value, len(self.operations) + 1)
        elif beside:
            self.beside |= written
        pools = name in POOLING and bool(after) and sum(side > 1 for side in after[0].shape[1:]) <= 1
        self.operations.append(_Operation(read, written, new, pools, self.flops > flops))
        return output

    def depends(self, tensor: Tensor) -> bool:
        """Whether what a tensor holds was computed from the inputs."""
        value = self.value(tensor)
        return value in self.since or value in self.beside

    def note(self, call: Call) -> None:
        """Note that a call begins, or has ended."""
        done = self.multiply_adds
        if call.number == len(self.begun):
            self.begun.append(done)
            return
        leaves = [leaf for leaf in tree_leaves(call.output) if isinstance(leaf, Tensor)]
        self.ended[call] = len(self.operations), done, [self.value(leaf) for leaf in leaves]

    def needed(self, output: Tensor | None) -> list[set[int]]:
        """Return, for each number of operations done, the features that the rest reads."""
        live = set() if output is None else {self.value(output)}
        needed = [live]
        for operation in reversed(self.operations):
            if operation.written & live:
                live = (live - operation.new) | operation.read
            needed.append(live)
        needed.reverse()
        late = len(self.operations) + 1
        return [{value for value in values if self.since.get(value, late) <= time} for time, values in enumerate(needed)]


def _changed(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Return the arguments that an operation writes into."""
    given = [*zip(func._schema.arguments, args, strict=False)]
    given += [(argument, kwargs[argument.name]) for argument in func._schema.arguments if argument.name in kwargs]
    written = [value for argument, value in given if argument.alias_info is not None and argument.alias_info.is_write]
    return [leaf for leaf in tree_leaves(written) if isinstance(leaf, Tensor)]


@torch.compiler.disable
@torch.no_grad()
def follow(model: nn.Module, inputs: Inputs) -> Flow:
    """Run ``model`` once on ``inputs`` and return what flowed.

    Multiply-adds are torch's count, as in :func:`logitkd.cost.multiply_adds`. What a call's output is read by is
    found on the tensors themselves, not on module names: going back from the logits, an operation that wrote a value
    that is needed needs what it read.

    Raises:
        TypeError: ``model`` cannot be called with the inputs alone.
    """
    model = plain(model)
    with Recorder(inputs, model) as recorder:
        calls, output = trace(model, inputs, recorder.note)
    logits = answer(output)
    needed = recorder.needed(logits)
    total = max(1, recorder.multiply_adds)
    pooled = last = len(recorder.operations) + 1  # operations done when the head has begun
    for number, operation in enumerate(recorder.operations, 1):
        if operation.pools and len(needed[number]) == 1 and needed[number] <= operation.new:
            pooled = number
        if operation.weighs and needed[number] & operation.written:
            last = number
    if logits is not None and logits.ndim == 4:  # a dense network: what joins its features is no head, the last layer is
        head, heads = last, set()
    else:
        head = min(pooled, last)
        # A part that begins late and ends behind where the head begins is the head, with all that is in it.
        heads = {call for call in calls if recorder.begun[call.number] > total / 2 and recorder.ended[call][0] >= head}
    passages = []
    for call in calls:
        time, done, values = recorder.ended[call]
        read = needed[time]
        passages.append(
            Passage(
                begun=recorder.begun[call.number] / total,
                ended=done / total,
                read=len(read.intersection(values)),
                alone=len(read) == 1 and values[:1] == list(read),
                in_head=time >= head or not heads.isdisjoint(call.within()),
            )
        )
    return Flow(model, inputs, calls, passages)
