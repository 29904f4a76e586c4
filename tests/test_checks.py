"""Every message names the value, the rule and what came; where one is likely, the fix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from logitkd import checks, tensor_checks
from logitkd.losses import BlockKDLoss, DKDLoss, NKDLoss, SDDLoss


def message(error: type[Exception], call: Any, *arguments: Any) -> str:
    with pytest.raises(error) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.fixture
def debug() -> Iterator[None]:
    tensor_checks.debug()
    yield
    tensor_checks.debug(False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gdk", " Did you mean `gdkd`?"),
        ("gdkd", " Did you mean `gdkd`?"),
        ("temprature", " Did you mean `temperature`?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_suggest_names_the_closest_or_nothing(name: str, expected: str) -> None:
    assert checks.suggest(name, ["kd", "gdkd", "dist", "temperature"]) == expected


def test_unknown_lists_all_there_is() -> None:
    assert checks.unknown("method", "gdk", ["kd", "gdkd"]) == "unknown method `gdk`. Did you mean `gdkd`? Known: gdkd, kd."
    assert checks.unknown("method", "zzz", iter(["kd", "gdkd"])) == "unknown method `zzz`. Known: gdkd, kd."


def test_choice() -> None:
    checks.check_choice("strategy", "best", ("best", "worst"))
    assert message(ValueError, checks.check_choice, "strategy", "bst", ("best", "worst")) == (
        "`strategy` must be one of 'best', 'worst', got 'bst'. Did you mean `best`?"
    )
    assert message(ValueError, checks.check_choice, "strategy", None, ("best", "worst")) == (
        "`strategy` must be one of 'best', 'worst', got None."
    )


@pytest.mark.parametrize("value", [0, 1, 0.5, 1.0])
def test_range_includes_its_ends(value: float) -> None:
    checks.check_range("confidence", value, 0, 1)
    checks.check_range("confidence", value, None, None)
    checks.check_range("confidence", value, 0, None)


@pytest.mark.parametrize(
    ("value", "low", "high", "why", "expected"),
    [
        (1.5, 0, 1, "a quantile", "`x` must be in [0, 1] (a quantile), got 1.5."),
        (-0.5, 0, 1, "", "`x` must be in [0, 1], got -0.5."),
        (100, 1, 99, "num_classes - 1", "`x` must be in [1, 99] (num_classes - 1), got 100."),
    ],
)
def test_out_of_range(value, low, high, why, expected) -> None:
    assert message(ValueError, checks.check_range, "x", value, low, high, why) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, None), (None, 1), (None, None)])
def test_no_range_holds_what_is_not_finite(value: float, low: float | None, high: float | None) -> None:
    text = message(ValueError, checks.check_range, "x", value, low, high)
    assert text.startswith("`x` must be ")
    assert text.endswith(f", got {value}.")


@pytest.mark.parametrize("value", [-1, -0.001])
def test_only_a_lower_bound(value: float) -> None:
    text = message(ValueError, checks.check_range, "x", value, 0, None)
    assert text.startswith("`x` must be ")
    assert f"at least 0, got {value}." in text


@pytest.mark.parametrize("check", [checks.check_positive, lambda n, v: checks.check_range(n, v, 0, 1)])
@pytest.mark.parametrize(("value", "shown"), [(True, "True (bool)"), ("1", "'1' (str)"), (None, "None (NoneType)")])
def test_only_numbers_are_numbers(check, value: object, shown: str) -> None:
    assert message(TypeError, check, "x", value) == f"`x` must be a number, got {shown}."


@pytest.mark.parametrize("value", [1, 5, 9])
def test_int_in_range(value: int) -> None:
    checks.check_int("top_k", value, 1, 9)
    checks.check_int("top_k", value)


@pytest.mark.parametrize(("value", "shown"), [(1.0, "1.0 (float)"), (True, "True (bool)"), ("3", "'3' (str)")])
def test_only_integers_are_integers(value: object, shown: str) -> None:
    assert message(TypeError, checks.check_int, "top_k", value, 1, 9) == f"`top_k` must be an integer, got {shown}."


@pytest.mark.parametrize("value", [0, 10, -1])
def test_int_out_of_range(value: int) -> None:
    expected = f"`top_k` must be in [1, 9] (num_classes - 1), got {value}."
    assert message(ValueError, checks.check_int, "top_k", value, 1, 9, "num_classes - 1") == expected


def test_positive() -> None:
    checks.check_positive("temperature", 1e-9)
    checks.check_positive("temperature", 4)
    assert message(ValueError, checks.check_positive, "temperature", 0) == "`temperature` must be above 0, got 0."
    assert message(ValueError, checks.check_positive, "temperature", -2.5) == "`temperature` must be above 0, got -2.5."
    assert message(ValueError, checks.check_positive, "temperature", math.nan) == "`temperature` must be finite, got nan."
    assert message(ValueError, checks.check_positive, "temperature", math.inf) == "`temperature` must be finite, got inf."


@pytest.mark.parametrize("shape", [(2, 3), (1, 2), (4, 5, 3)])
def test_logits_that_fit(shape: tuple[int, ...]) -> None:
    tensor_checks.check_logits(torch.zeros(shape), torch.zeros(shape))
    tensor_checks.check_logits(torch.zeros(shape, dtype=torch.float16), torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    ("student", "teacher", "error", "words"),
    [
        ((2, 3), (3, 3), ValueError, ["must have the same shape", "got (2, 3) and (3, 3)."]),
        ((2, 3), (2, 4), ValueError, ["must have the same number of classes", "got 3 and 4."]),
        ((2, 1), (2, 1), ValueError, ["at least 2 classes", "got 1."]),
        ((0, 3), (0, 3), ValueError, ["at least one example", "got shape (0, 3)."]),
    ],
)
def test_logits_of_other_shapes(student, teacher, error, words) -> None:
    text = message(error, tensor_checks.check_logits, torch.zeros(student), torch.zeros(teacher))
    assert all(word in text for word in words), text


def test_logits_must_be_floating_point_tensors() -> None:
    zeros = torch.zeros(2, 3)
    text = message(TypeError, tensor_checks.check_logits, zeros.long(), zeros)
    assert text.startswith("`student_logits` must be floating point, got torch.int64.")
    assert message(TypeError, tensor_checks.check_logits, zeros, zeros.int()).startswith(
        "`teacher_logits` must be floating point"
    )


@pytest.mark.parametrize("who", ["student_logits", "teacher_logits"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_must_be_finite(who: str, bad: float) -> None:
    logits = {"student_logits": torch.zeros(4, 3), "teacher_logits": torch.zeros(4, 3)}
    logits[who][2, 1] = logits[who][3, 0] = bad
    text = message(ValueError, tensor_checks.check_logits, *logits.values())
    assert text.startswith(f"`{who}` must be finite, got NaN or infinity in 2 of 4 rows, the first row 2.")


def test_a_masked_class_is_minus_infinity_in_both() -> None:
    student, teacher = torch.zeros(4, 3), torch.zeros(4, 3)
    student[1, 2] = teacher[1, 2] = student[2, 0] = teacher[2, 0] = -math.inf
    tensor_checks.check_logits(student, teacher)
    tensor_checks.check_labels(torch.tensor([2, 1, 2, 0]), student, "DKD")
    tensor_checks.check_targets(torch.tensor([-1, -1, 2, 0]), student, "it")
    tensor_checks.check_targets(torch.tensor([[0, 0, 1], [0.5, 0.5, 0], [0, 0, 1], [1, 0, 0]]), student, "it")
    for refused in (tensor_checks.check_labels, tensor_checks.check_targets):
        assert message(ValueError, refused, torch.tensor([2, 2, 0, 0]), student, "it").startswith(
            "`labels` must be classes that are not masked, got one whose logit is -inf in 2 of 4 rows, the first row 1."
        )
    mixed = torch.tensor([[0, 0, 1], [0.5, 0.4, 0.1], [0, 0, 1], [1, 0, 0]])
    assert "not masked, got one whose logit is -inf in 1 of 4 rows" in message(
        ValueError, tensor_checks.check_targets, mixed, student, "it"
    )
    student[3] = teacher[3] = -math.inf
    assert message(ValueError, tensor_checks.check_logits, student, teacher) == (
        "`student_logits` must keep at least one class of each example, got -inf for all of them in 1 of 4 rows, the first "
        "row 3. Leave out such examples."
    )


def test_logits_on_two_devices() -> None:
    text = message(ValueError, tensor_checks.check_logits, torch.zeros(2, 3), torch.zeros(2, 3, device="meta"))
    assert "device" in text
    assert "cpu" in text
    assert "meta" in text


def test_labels_that_fit() -> None:
    tensor_checks.check_labels(torch.tensor([0, 2]), torch.zeros(2, 3), "DKD")
    tensor_checks.check_labels(torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, 3), "DKD")


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16])
def test_integer_labels_that_are_not_int64_work_or_are_named(dtype: torch.dtype) -> None:
    labels, logits = torch.tensor([0, 2], dtype=dtype), torch.zeros(2, 3)
    try:
        tensor_checks.check_labels(labels, logits, "DKD")
    except TypeError as error:
        assert "int64" in str(error)  # noqa: PT017 - either is right
    else:
        for loss in (DKDLoss(), NKDLoss(), SDDLoss(DKDLoss(), (1,))):
            shaped = logits[:, None] if loss.reads == "regions" else logits
            assert loss(shaped, shaped, labels).isfinite()
        assert BlockKDLoss()(logits, logits, labels, stones=[logits]).isfinite()


@pytest.mark.parametrize(
    ("labels", "error", "expected"),
    [
        (None, ValueError, "DKD needs `labels`: pass the class index of each example, shape (N,), int64."),
        (torch.tensor([0]), ValueError, "`labels` must have shape (2,) (one class an example), got (1,)."),
        (torch.tensor([[0], [1]]), ValueError, "`labels` must have shape (2,) (one class an example), got (2, 1)."),
        (torch.tensor([0, 3]), ValueError, "`labels` must be in [0, 2] (num_classes - 1), got 3."),
        (torch.tensor([-100, 1]), ValueError, "`labels` must be in [0, 2] (num_classes - 1), got -100."),
        (torch.tensor([0.0, 1.0]), TypeError, "`labels` must be integer class indices, got torch.float32."),
        (torch.tensor([True, False]), TypeError, "`labels` must be integer class indices, got torch.bool."),
    ],
)
def test_labels_that_do_not_fit(labels, error, expected: str) -> None:
    assert message(error, tensor_checks.check_labels, labels, torch.zeros(2, 3), "DKD").startswith(expected)


def test_debug_is_switched_on_and_off(debug: None) -> None:
    """What it changes shows on a device where reading waits; on the CPU values are read either way."""
    nan = torch.full((1, 3), math.nan)
    for on in (True, False):
        tensor_checks.debug(on)
        assert "must be finite" in message(ValueError, tensor_checks.check_logits, nan, torch.zeros(1, 3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_values_on_a_gpu_are_read_in_debug_only(debug: None) -> None:
    nan, zeros = torch.full((1, 3), math.nan, device="cuda"), torch.zeros(1, 3, device="cuda")
    assert "must be finite" in message(ValueError, tensor_checks.check_logits, nan, zeros)
    tensor_checks.debug(False)
    tensor_checks.check_logits(nan, zeros)


def test_targets_may_be_missing_or_mixed() -> None:
    logits = torch.zeros(2, 3)
    tensor_checks.check_targets(torch.tensor([2, -1]), logits, "it")
    tensor_checks.check_targets(torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]), logits, "it")


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, ValueError, "it needs `labels`"),
        (torch.tensor([0, -2]), ValueError, r"in \[0, 2\] \(num_classes - 1\), got -2\. A missing label is -1\.$"),
        (torch.tensor([0, 3]), ValueError, r"in \[0, 2\] .*, got 3\. A missing"),
        (torch.tensor([0.0, 1.0]), TypeError, "must be integer class indices"),
        (torch.ones(2, 4) / 4, ValueError, r"must have the logits' shape \(2, 3\)"),
        (torch.ones(2, 3), ValueError, "sum to 1 for each example, got a least value of 1 and sums of 3 to 3"),
        (torch.tensor([[1.5, -0.5, 0.0]] * 2), ValueError, r"a least value of -0\.5"),
    ],
)
def test_targets_that_are_refused(labels, error, message) -> None:
    with pytest.raises(error, match=message):
        tensor_checks.check_targets(labels, torch.zeros(2, 3), "it")
