"""Labels to class numbers."""

import pytest
import torch

from logitkd.data.labels import decode_labels


def place(row):
    return f"some/file, row {row}"


def test_labels_by_number_and_by_name():
    assert decode_labels([0, 2, 1], place, ("a", "b", "c")).tolist() == [0, 2, 1]
    assert decode_labels(["c", "a"], place, ("a", "b", "c")).tolist() == [2, 0]
    assert decode_labels([1], place, ("a", "b")).dtype == torch.int64


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (-1, r"label -1 in some/file, row 1 must be in \[0, 1\] \(2 classes\)"),
        (2, r"label 2 in some/file, row 1 must be in \[0, 1\] \(2 classes\)"),
        (None, r"the label is missing \(null\) in some/file, row 1"),
        ("z", "label 'z' in some/file, row 1 is none of the 2 classes"),
    ],
)
def test_a_bad_label_is_named(label, message):
    with pytest.raises(ValueError, match=message):
        decode_labels([0, label], place, ("a", "b"))
