"""What every method promises, over the table: a new row is tested by being there."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from logitkd import losses, methods, tensor_checks
from logitkd.losses import LogitLoss

ROWS = [name for name in methods.names() if methods.get(name).parts]
NOT_SHIFT_INVARIANT = {"gram"}  # cosines of raw logits: the definition is not


def loss_for(name: str, num_classes: int = 10) -> LogitLoss:
    """Build a row's loss with options that fit ``num_classes``."""
    method = methods.get(name)
    options: dict[str, Any] = {}
    if "top_k" in method.options:
        options["top_k"] = min(method.options["top_k"], num_classes - 1)
    if "depth" in method.options:
        options["depth"] = min(method.options["depth"], num_classes)
    loss = method.replace(**options).loss
    assert loss is not None
    return loss


class Inputs:
    """Random inputs of the shape a loss reads, and the calls that feed them."""

    def __init__(self, loss: LogitLoss, n: int = 4, c: int = 10, dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        self.loss, generator = loss, torch.Generator().manual_seed(seed)
        self.inner = {"regions": (sum(m * m for m in getattr(loss, "scales", ())),), "maps": (2, 3)}.get(loss.reads, ())
        draw = lambda *lead: 3 * torch.randn(*lead, n, *self.inner, c, generator=generator, dtype=torch.float64)  # noqa: E731
        self.student, self.teacher = draw().to(dtype), draw().to(dtype)
        self.stones = draw(2).to(dtype)
        self.labels = torch.randint(c, (n,), generator=generator)

    def options(self, rows: slice = slice(None)) -> dict[str, Any]:
        return {"stones": self.stones[:, rows]} if self.loss.reads == "stones" else {}

    def value(self, **options: Any) -> Tensor:
        return self.loss(self.student, self.teacher, self.labels, **self.options(), **options)

    def terms(self) -> dict[str, Tensor]:
        return self.loss.terms(self.student, self.teacher, self.labels, **self.options())

    def mask(self, masked: Tensor) -> Inputs:
        """Mask the classes ``masked``, bools ``(n, c)``, and give each example a label it still has."""
        spread = masked.view(len(masked), *(1 for _ in self.inner), -1)
        self.student, self.teacher, self.stones = (
            z.masked_fill(spread, -torch.inf) for z in (self.student, self.teacher, self.stones)
        )
        shift = (self.labels[:, None] + torch.arange(masked.shape[1])) % masked.shape[1]  # the next class that is there
        self.labels = shift.gather(1, (~masked).gather(1, shift).int().argmax(1, keepdim=True)).squeeze(1)
        return self

    def only(self, classes: Tensor, rows: slice, loss: LogitLoss) -> Inputs:
        """Return the examples ``rows`` without any other classes than ``classes``."""
        small = copy.copy(self)
        small.loss = loss
        small.student, small.teacher = (z.detach()[rows][..., classes] for z in (self.student, self.teacher))
        small.stones = self.stones.detach()[:, rows][..., classes]
        small.labels = (self.labels[rows, None] == classes).int().argmax(1)
        return small

    def leaves(self) -> list[Tensor]:
        return [self.student, self.stones] if self.loss.reads == "stones" else [self.student]

    def gradients(self) -> tuple[Tensor, ...]:
        for leaf in self.leaves():
            leaf.requires_grad_()
        return torch.autograd.grad(self.value(), self.leaves())


SOME = torch.zeros(4, 10, dtype=torch.bool)  # classes that the four examples lack: one, three, six and seven
for row, missing in enumerate([[4], [0, 1, 9], [0, 2, 3, 5, 7, 8], [1, 2, 3, 4, 5, 8, 9]]):
    SOME[row, missing] = True

rows = pytest.mark.parametrize("name", ROWS)
WEIGHED = [n for n in ROWS if loss_for(n).per_example and not loss_for(n).reads_weights]  # else see its own file


@rows
def test_terms_are_named_and_per_example(name: str) -> None:
    inputs = Inputs(loss_for(name))
    terms = inputs.terms()
    assert set(terms) == set(inputs.loss.term_weights)
    assert all(value.shape == (4,) for value in terms.values())
    expected = sum(inputs.loss.term_weights[n] * v.mean() for n, v in terms.items())
    torch.testing.assert_close(inputs.value(), expected)


@rows
def test_every_term_has_a_gradient(name: str) -> None:
    inputs = Inputs(loss_for(name))
    for leaf in inputs.leaves():
        leaf.requires_grad_()
    for term, value in inputs.terms().items():
        (gradient,) = torch.autograd.grad(value.sum(), inputs.student, retain_graph=True)
        assert gradient.abs().max() > 0, term


EXTREMES = {
    "gap up": lambda i: (1e4 * one_hot(i.student), -1e4 * one_hot(i.student)),
    "gap down": lambda i: (-1e4 * one_hot(i.student), 1e4 * one_hot(i.teacher)),
    "one-hot teacher": lambda i: (i.student, 1e4 * one_hot(i.teacher)),
    "one-hot student": lambda i: (1e4 * one_hot(i.student), i.teacher),
    "ties": lambda i: (torch.zeros_like(i.student), torch.zeros_like(i.teacher)),
    "ties apart": lambda i: (torch.full_like(i.student, 1e4), torch.full_like(i.teacher, -1e4)),
    "random signs": lambda i: (1e4 * i.student.sign(), 1e4 * i.teacher.sign()),
}


def one_hot(logits: Tensor) -> Tensor:
    return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)


@rows
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("n", "c"), [(4, 10), (1, 10), (3, 2)], ids=["batch", "single example", "two classes"])
def test_finite_at_the_extremes(name: str, dtype: torch.dtype, n: int, c: int) -> None:
    if c == 2 and "gdkd3" in name:
        pytest.skip("GDKD3 has three groups")
    for case, make in EXTREMES.items():
        inputs = Inputs(loss_for(name, c), n, c, dtype)
        inputs.student, inputs.teacher = make(inputs)
        inputs.stones = 1e4 * inputs.stones.sign()
        value, gradients = inputs.value(), inputs.gradients()
        assert value.dtype == torch.float32
        assert value.isfinite(), (case, value)
        assert all(g.isfinite().all() for g in gradients), case


@pytest.mark.parametrize("name", [n for n in ROWS if {"top_k", "depth"} & set(methods.get(n).options)])
@pytest.mark.parametrize("edge", ["first", "last"])
def test_finite_at_the_edges_of_the_group_size(name: str, edge: str) -> None:
    low = 2 if "gdkd3" in name or "ldrld" in name else 1
    size = low if edge == "first" else 9
    option = "depth" if "depth" in methods.get(name).options else "top_k"
    loss = methods.get(name).replace(**{option: size}).loss
    for make in EXTREMES.values():
        inputs = Inputs(loss, dtype=torch.float16)
        inputs.student, inputs.teacher = make(inputs)
        assert inputs.value().isfinite()
        assert inputs.gradients()[0].isfinite().all()


@rows
def test_a_constant_added_to_a_row_changes_nothing(name: str) -> None:
    inputs = Inputs(loss_for(name))
    before = inputs.terms()
    inputs.student, inputs.teacher = inputs.student + 7, inputs.teacher - 3
    inputs.stones = inputs.stones + 5
    for term, value in inputs.terms().items():
        if term not in NOT_SHIFT_INVARIANT:
            torch.testing.assert_close(value, before[term], rtol=1e-9, atol=1e-9)


@rows
def test_the_order_of_classes_does_not_matter(name: str) -> None:
    inputs = Inputs(loss_for(name))
    before, order = inputs.value(), torch.randperm(10, generator=torch.Generator().manual_seed(1))
    inputs.student, inputs.teacher = inputs.student[..., order], inputs.teacher[..., order]
    inputs.stones = inputs.stones[..., order]
    inputs.labels = order.argsort()[inputs.labels]
    torch.testing.assert_close(inputs.value(), before, rtol=1e-9, atol=1e-9)


@rows
def test_no_gradient_reaches_the_teacher(name: str) -> None:
    inputs = Inputs(loss_for(name))
    inputs.student.requires_grad_(), inputs.teacher.requires_grad_()
    inputs.value().backward()
    assert inputs.student.grad is not None
    assert inputs.teacher.grad is None


@pytest.mark.parametrize("name", [n for n in ROWS if loss_for(n).per_example])
def test_a_batch_is_the_mean_of_its_examples(name: str) -> None:
    inputs = Inputs(loss_for(name))
    each = [slice(i, i + 1) for i in range(4)]
    singles = [inputs.loss(inputs.student[i], inputs.teacher[i], inputs.labels[i], **inputs.options(i)) for i in each]
    torch.testing.assert_close(inputs.value(), torch.stack(singles).mean())


@pytest.mark.parametrize("name", [n for n in ROWS if not loss_for(n).per_example])
def test_batch_coupled_losses_say_so(name: str) -> None:
    inputs = Inputs(loss_for(name))
    single = inputs.loss(inputs.student[:1], inputs.teacher[:1], inputs.labels[:1])
    assert not torch.allclose(single, inputs.loss.weigh(inputs.terms())[0])
    with pytest.raises(ValueError, match=r"`weights` must be None .* Select the examples first"):
        inputs.value(weights=torch.ones(4))


@pytest.mark.parametrize("name", WEIGHED)
def test_weights_mask_examples(name: str) -> None:
    inputs = Inputs(loss_for(name))
    losses = inputs.loss.weigh(inputs.terms())
    weights = torch.tensor([1.0, 0.0, 2.0, 0.0])
    torch.testing.assert_close(inputs.value(weights=weights), (losses[0] + 2 * losses[2]) / 3)
    torch.testing.assert_close(inputs.value(weights=torch.ones(4)), inputs.value())
    assert inputs.value(weights=torch.zeros(4)) == 0
    assert inputs.value(weights=weights) != inputs.value()


@pytest.mark.parametrize("name", WEIGHED)
def test_a_label_of_weight_0_is_never_read(name: str) -> None:
    inputs, weights = Inputs(loss_for(name)).mask(SOME), torch.tensor([1.0, 0.0, 2.0, 0.0])
    inputs.student.requires_grad_()
    expected = inputs.value(weights=weights)
    for unread in (-100, 255, 1):  # 1 is masked in both
        inputs.labels[1] = inputs.labels[3] = unread
        assert torch.equal(inputs.value(weights=weights), expected)
        (gradient,) = torch.autograd.grad(inputs.value(weights=weights), inputs.student)
        assert gradient.isfinite().all()
        assert not gradient[[1, 3]].any()


@pytest.mark.parametrize("name", [n for n in ROWS if loss_for(n).per_example and loss_for(n).needs_labels])
def test_a_label_of_another_weight_is_read(name: str) -> None:
    inputs = Inputs(loss_for(name))
    for unread in (-100, 255):
        inputs.labels[1] = unread
        with pytest.raises(ValueError, match=rf"`labels` must be in \[0, 9\] .*, got {unread}"):
            inputs.value(weights=torch.tensor([1.0, 1e-9, 2.0, 0.0]))


@pytest.mark.parametrize("name", WEIGHED)
def test_a_weight_of_0_silences_an_overflowed_example(name: str) -> None:
    """Its loss is infinite, unless the loss standardizes, and 0 times infinity is NaN."""
    inputs, weights = Inputs(loss_for(name), dtype=torch.float32), torch.tensor([1.0, 0.0, 2.0, 1.0])
    expected = inputs.value(weights=weights)
    overflowing = (1e37 * inputs.student[1].sign()).where(torch.arange(10) > 4, -1e37)
    inputs.student[1], inputs.teacher[1] = overflowing, -overflowing
    assert losses.KDLoss()(overflowing.view(-1, 10), -overflowing.view(-1, 10)) == torch.inf
    assert torch.equal(inputs.value(weights=weights), expected)
    leaves = [leaf.requires_grad_() for leaf in inputs.leaves()]
    for gradient in torch.autograd.grad(inputs.value(weights=weights), leaves):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", [n for n in ROWS if methods.get(n).wants.reads == "logits"])
def test_leading_dimensions_are_flattened(name: str) -> None:
    inputs = Inputs(loss_for(name), n=6)
    shaped = inputs.loss(inputs.student.view(2, 3, 10), inputs.teacher.view(2, 3, 10), inputs.labels.view(2, 3))
    torch.testing.assert_close(shaped, inputs.value())


@rows
def test_gradcheck(name: str) -> None:
    inputs = Inputs(loss_for(name, 5), n=2, c=5)  # of the student: Block-KD holds its stones' ensemble constant
    assert torch.autograd.gradcheck(lambda _: inputs.value(), inputs.student.requires_grad_(), fast_mode=True)


@rows
def test_one_graph_under_compile(name: str) -> None:
    """A host synchronisation (``.item()``, boolean indexing, a branch on a value) would break the graph."""
    torch._dynamo.reset()
    inputs = Inputs(loss_for(name), dtype=torch.float32)
    expected, expected_gradients = inputs.value(), inputs.gradients()
    inputs.loss = copy.deepcopy(inputs.loss)  # compiled in place, and the table's is shared
    inputs.loss.compile(fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(inputs.value(), expected)
    torch.testing.assert_close(inputs.gradients(), expected_gradients)
    masked = Inputs(loss_for(name), dtype=torch.float32).mask(SOME)
    expected, expected_gradients = masked.value(), masked.gradients()
    masked.loss = inputs.loss  # values are not looked at here, as on a GPU
    torch.testing.assert_close(masked.value(), expected)
    torch.testing.assert_close(masked.gradients(), expected_gradients)


@rows
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=lambda d: str(d)[6:])
def test_masked_classes_are_no_classes(name: str, dtype: torch.dtype) -> None:
    equals_the_loss_on_kept_classes(loss_for(name), dtype)


def equals_the_loss_on_kept_classes(loss: LogitLoss, dtype: torch.dtype) -> None:
    inputs = Inputs(loss, dtype=dtype).mask(torch.arange(10).expand(4, 10) % 4 == 1)
    keep = torch.tensor([0, 2, 3, 4, 6, 7, 8])
    small = inputs.only(keep, slice(None), loss)
    exact = {"rtol": 1e-9, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 2e-5, "atol": 1e-6}
    torch.testing.assert_close(inputs.value(), small.value(), **exact)
    for ours, theirs in zip(inputs.gradients(), small.gradients(), strict=True):
        torch.testing.assert_close(ours[..., keep], theirs, **exact if dtype.itemsize > 2 else {})
        ours[..., keep] = 0
        assert not ours.any()


@pytest.mark.parametrize("name", [n for n in ROWS if loss_for(n).per_example])
def test_each_example_has_its_own_classes(name: str) -> None:
    """A `top_k` beyond them is all but one, a `depth` all of them."""
    equals_each_example_alone(loss_for(name), lambda num_classes: loss_for(name, num_classes))


def equals_each_example_alone(loss: LogitLoss, loss_of: Callable[[int], LogitLoss]) -> None:
    inputs = Inputs(loss).mask(SOME)
    values, gradients = loss.weigh(inputs.terms()), inputs.gradients()
    axis = 0 if inputs.inner else -2  # the examples'
    for n, masked in enumerate(SOME):
        keep = (~masked).nonzero().flatten()
        alone = inputs.only(keep, slice(n, n + 1), loss_of(len(keep)))
        torch.testing.assert_close(values[n], alone.value(), rtol=1e-9, atol=1e-12)
        for ours, theirs in zip(gradients, alone.gradients(), strict=True):
            row = ours.select(axis, n)
            torch.testing.assert_close(4 * row[..., keep], theirs.squeeze(axis))
            assert not row[..., masked].any()


OPTIONS = [
    losses.DKDLoss(target="teacher", kl_type="reverse"),
    losses.NKDLoss(exclude_target=False),
    losses.NKDLoss(temperature=0.2),
    losses.GDKDLoss(top_k=2, strategy="worst", kl_type="reverse"),
    losses.GDKDLoss(top_k=2, teacher_mass="both", kl_type="both"),
    losses.GDKDLoss(top_mass=0.3),
    losses.GDKDLoss(top_mass=0.999),
    losses.LDRLDLoss(depth=3, rank_by="teacher"),
    losses.MLKDLoss(masking="share"),
    losses.MLKDLoss(masking="none"),
    losses.SDDLoss(losses.Standardized(losses.KDLoss()), judge="teacher"),
]


@pytest.mark.parametrize("loss", OPTIONS, ids=lambda loss: type(loss).__name__)
def test_masked_classes_are_no_classes_with_other_options(loss: LogitLoss) -> None:
    equals_the_loss_on_kept_classes(loss, torch.float64)
    if loss.per_example:
        equals_each_example_alone(loss, lambda _: loss)


@rows
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_an_example_of_one_or_two_classes_is_finite(name: str, dtype: torch.dtype) -> None:
    masked = torch.ones(4, 10, dtype=torch.bool)
    masked[0, 3] = masked[1, :2] = masked[2, 9] = masked[3, 5:7] = False
    inputs = Inputs(loss_for(name), dtype=dtype).mask(masked)
    assert inputs.value().isfinite()
    assert all(g.isfinite().all() and not g[..., 2].any() for g in inputs.gradients())
    if name in WEIGHED:
        terms = {term: value for term, value in inputs.terms().items() if term not in NOT_SHIFT_INVARIANT}
        assert all(value[n] == 0 for value in terms.values() for n in (0, 2)), "one class alone: nothing to learn"


@rows
def test_masked_classes_beside_extremes(name: str) -> None:
    for case, make in EXTREMES.items():
        inputs = Inputs(loss_for(name), dtype=torch.float16)
        inputs.student, inputs.teacher = make(inputs)
        inputs.mask(SOME)
        assert inputs.value().isfinite(), case
        assert all(g.isfinite().all() for g in inputs.gradients()), case


@rows
def test_a_class_masked_in_one_of_the_two_is_refused(name: str) -> None:
    for who in ("student", "teacher"):
        inputs = Inputs(loss_for(name)).mask(SOME)
        getattr(inputs, who).view(-1, 10)[0, 0] = -torch.inf
        with pytest.raises(ValueError, match=rf"`{who}_logits` must be finite, got .* a masked class is -inf in both"):
            inputs.value()


@pytest.mark.parametrize("name", [n for n in ROWS if loss_for(n).needs_labels])
def test_a_masked_label_is_refused(name: str) -> None:
    inputs = Inputs(loss_for(name)).mask(SOME)
    inputs.labels[1] = 9
    with pytest.raises(ValueError, match=r"`labels` must be classes that are not masked, .* in 1 of 4 rows, the first row 1\."):
        inputs.value()


@rows
def test_half_precision_is_widened(name: str) -> None:
    inputs = Inputs(loss_for(name), dtype=torch.float16)
    expected = Inputs(loss_for(name), dtype=torch.float16)
    expected.student, expected.teacher = expected.student.double(), expected.teacher.double()
    expected.stones = expected.stones.double()
    torch.testing.assert_close(inputs.value().double(), expected.value(), rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(inputs.value().double(), expected.value(), rtol=1e-5, atol=1e-5)


@rows
def test_autocast_changes_nothing(name: str) -> None:
    """Bit for bit, the gradient too: no matrix product inside may be rounded to half precision."""
    plain, cast = (Inputs(loss_for(name, 100), n=16, c=100, dtype=torch.float32) for _ in range(2))
    leaves = [leaf.requires_grad_() for leaf in cast.leaves()]
    with torch.autocast("cpu", torch.bfloat16):
        value = cast.value()
    assert torch.equal(value, plain.value())
    gradients = torch.autograd.grad(value, leaves)  # outside, as torch's documentation asks
    assert all(torch.equal(a, b) for a, b in zip(gradients, plain.gradients(), strict=True))


@pytest.mark.parametrize("name", [n for n in ROWS if n != "dist"])
def test_second_derivatives_are_refused_not_wrong(name: str) -> None:
    inputs = Inputs(loss_for(name))
    inputs.student.requires_grad_()
    value = inputs.value()
    with pytest.raises(NotImplementedError, match="first derivatives only: call backward without `create_graph=True`"):
        torch.autograd.grad(value, inputs.student, create_graph=True)


@rows
def test_copies_and_pickles(name: str) -> None:
    method = methods.get(name)
    assert copy.deepcopy(method) == method == pickle.loads(pickle.dumps(method))
    inputs = Inputs(loss_for(name))
    expected = inputs.value()
    inputs.loss = pickle.loads(pickle.dumps(copy.deepcopy(inputs.loss)))
    assert torch.equal(inputs.value(), expected)


@pytest.mark.parametrize("name", WEIGHED)
def test_bad_weights_are_named(name: str) -> None:
    inputs = Inputs(loss_for(name))
    with pytest.raises(ValueError, match=r"`weights` must be finite and at least 0, got -1.0 to 1.0"):
        inputs.value(weights=torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match=r"`weights` must have shape \(4,\), one weight an example, got \(2, 2\)"):
        inputs.value(weights=torch.ones(2, 2))
    with pytest.raises(TypeError, match=r"`weights` must be a tensor, got list"):
        inputs.value(weights=[1.0, 1.0, 1.0, 1.0])


TYPOS = [
    (losses.kd_terms, {"temperature": 0.0}),
    (losses.kd_terms, {"temperature": -4.0}),
    (losses.kd_terms, {"temperature": 1e30}),
    (losses.dkd_terms, {"target": "labels"}),
    (losses.dkd_terms, {"kl_type": "fwd"}),
    (losses.nkd_terms, {"exclude_target": "no"}),
    (losses.gdkd_terms, {"strategy": "bets"}),
    (losses.gdkd_terms, {"teacher_mass": "all"}),
    (losses.gdkd3_terms, {"temperature": 0.0}),
    (losses.ldrld_terms, {"rank_by": "teachers"}),
    (losses.dist_terms, {"temperature": 0.0}),
    (losses.mlkd_terms, {"masking": "nnoe"}),
    (losses.mlkd_terms, {"temperatures": 3.0}),
]


@pytest.mark.parametrize(("terms", "options"), TYPOS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_the_functions_check_their_options_too(terms: Any, options: dict[str, Any]) -> None:
    logits, labels = torch.zeros(2, 10), torch.zeros(2, dtype=torch.int64)
    terms(logits, logits, labels)
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
        terms(logits, logits, labels, **options)


@rows
def test_bad_input_is_named(name: str) -> None:
    inputs = Inputs(loss_for(name))
    student, teacher, labels, options = inputs.student, inputs.teacher, inputs.labels, inputs.options()
    with pytest.raises(ValueError, match=r"same number of classes, got 10 and 9"):
        inputs.loss(student, teacher[..., :9], labels, **options)
    with pytest.raises(ValueError, match=r"same shape"):
        inputs.loss(student, teacher[:2], labels, **options)
    with pytest.raises(TypeError, match=r"`student_logits` must be floating point, got torch.int64"):
        inputs.loss(student.long(), teacher, labels, **options)
    bad = student.clone()
    bad.view(-1, 10)[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"`student_logits` must be finite, got NaN or infinity in 1 of \d+ rows"):
        inputs.loss(bad, teacher, labels, **options)
    if inputs.loss.needs_labels:
        with pytest.raises(ValueError, match=r"needs `labels`"):
            inputs.loss(student, teacher, **options)
        with pytest.raises(TypeError, match=r"`labels` must be integer class indices, got torch.float32"):
            inputs.loss(student, teacher, labels.float(), **options)
        with pytest.raises(ValueError, match=r"`labels` must be in \[0, 9\] \(num_classes - 1\), got 10"):
            inputs.loss(student, teacher, torch.full_like(labels, 10), **options)
        with pytest.raises(ValueError, match=r"`labels` must have shape"):
            inputs.loss(student, teacher, labels[:-1], **options)
    else:
        inputs.loss(student, teacher, **options)


@rows
def test_unknown_option_is_named(name: str) -> None:
    (near,) = {"temperature", "temperatures"} & methods.get(name).options.keys()
    with pytest.raises(ValueError, match=rf"^method `{name}`: unknown option `temprature`\. Did you mean `{near}`\? Known: "):
        methods.get(name).replace(temprature=2.0)
    with pytest.raises(TypeError):
        methods.get(name).loss.__class__(no_such_option=1)


@rows
@pytest.mark.parametrize("value", [1e30, 1001, 0.009, 1e-30])
def test_a_temperature_that_leaves_no_digits_is_refused(name: str, value: float) -> None:
    """At 1e30 a loss is NaN and at 1e-30 it is 0; `kd` has 7e-5 of its gradient wrong at 1000, and 7e-3 at 1e5."""
    options = [option for option in methods.get(name).options if "temperature" in option]
    assert options
    for option in options:
        several = option == "temperatures"
        message = f"`{option}` must be in [0.01, 1000] (beyond, float32 has too few digits), got {value}."
        with pytest.raises(ValueError, match=re.escape(message)):
            methods.get(name).replace(**{option: (4.0, value) if several else value})
        for end in (0.01, 1000.0):
            methods.get(name).replace(**{option: (end,) if several else end})


def test_values_are_read_on_the_cpu_only_unless_in_debug() -> None:
    """On other devices a check that reads a value would wait for it; shapes are checked everywhere."""
    meta = torch.zeros(2, 3, device="meta")
    assert not tensor_checks._reads_values(meta)
    assert tensor_checks._reads_values(torch.zeros(2, 3))
    tensor_checks.debug(True)
    try:
        assert tensor_checks._reads_values(meta)
    finally:
        tensor_checks.debug(False)


@pytest.mark.parametrize("module", ["logitkd", "logitkd.losses"])
def test_import_is_light(module: str) -> None:
    code = (
        f"import torch, sys; before = set(sys.modules); import {module}\n"
        "new = {m.split('.')[0] for m in set(sys.modules) - before}\n"
        "heavy = new - {'logitkd'} - set(sys.stdlib_module_names)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
