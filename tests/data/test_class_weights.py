import json

import pytest
import torch

from logitkd.data.class_weights import class_weights, read_class_weights

CLASSES = ("0", "ant", "bee")


def test_balanced_classes_carry_the_same_weight():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2] + [-1] * 5)
    weights = class_weights("balanced", torch.bincount(labels[labels >= 0]), CLASSES)
    torch.testing.assert_close(weights, torch.tensor([10 / 18, 10 / 9, 10 / 3]))
    torch.testing.assert_close(weights[labels[labels >= 0]].mean(), torch.tensor(1.0))


def test_balanced_needs_every_class():
    with pytest.raises(ValueError, match=r"a labelled training image of every class, got none of ant, bee\. Give"):
        class_weights("balanced", torch.tensor([2, 0, 0]), CLASSES)
    with pytest.raises(ValueError, match=r"a labelled training text of every class"):
        class_weights("balanced", torch.tensor([2, 0, 0]), CLASSES, "text")


@pytest.mark.parametrize("text", ["bee: 2\nant: 1.5\n0: 1\n", json.dumps({"0": 1, "ant": 1.5, "bee": 2})])
def test_a_file_in_any_order(tmp_path, text):
    path = tmp_path / "weights"
    path.write_text(text)
    assert class_weights(str(path), torch.tensor([1, 1, 1]), CLASSES).tolist() == [1.0, 1.5, 2.0]


NAMES = ("0x10", "1.0", "2020-01-01", "no", "null", "on", "yes", "~")


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_class_is_called_what_is_written(tmp_path, quote):
    """To YAML these are 16, 1.0, a date, False, None, True, True and None."""
    path = tmp_path / "weights.yaml"
    path.write_text("".join(f"{quote}{name}{quote}: {number}\n" for number, name in enumerate(NAMES, start=1)))
    assert class_weights(str(path), torch.ones(8), NAMES).tolist() == list(range(1, 9))


def test_numbers_are_read_as_json_writes_them(tmp_path):
    path = tmp_path / "weights.json"
    path.write_text('{"0": 1e-3, "ant": 1E3, "bee": 2e0}')
    assert read_class_weights(str(path)) == {"0": 0.001, "ant": 1000, "bee": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ant: 1\nbea: 2\n0: 1", r"must name classes of the data, got bea\. Did you mean `bee`\? Classes: 0, ant, bee\."),
        ("ant: 1\n0: 1", r"must give every class a weight, got none for bee\."),
        ("ant: 0\nbee: 1\n0: 1", r"`ant` must be above 0, got 0\."),
        ("ant: yes", r"`ant` must be a number, got True"),
        ("ant: '1'", r"`ant` must be a number, got '1' \(str\)"),
        ("ant: 1e39", r"`ant` must be in \[1e-20, 1e\+20\] \(float32 adds up no others\), got 1e\+39\."),
        ("ant: 1.0e-44", r"`ant` must be in \[1e-20, 1e\+20\] \(float32 adds up no others\), got 1e-44\."),
        ("ant: .inf", r"`ant` must be finite, got inf\."),
        ("- 1\n- 2", r"must hold `class name: weight` lines, got \[1, 2\]"),
        ("", r"must hold `class name: weight` lines, got None"),
        ("a: [", r"is not readable YAML or JSON: while parsing .* \(line 1, column 5\)$"),
        ("ant: 1\nbee: 2\nant: 3\n0: 1", r"is not readable YAML or JSON: the key `ant` is given twice \(line 3, column 1\)"),
        ("0: 1\n'0': 1\nant: 1\nbee: 2", r"is not readable YAML or JSON: the key `0` is given twice"),
        ('{"ant": 1, "0": ' + "[" * 3000 + "]" * 3000 + "}", r"lists and sections must be at most 20 deep"),
        ("0: &a [&b [1], *b]\nant: [" + "*a, " * 5000 + "]", r"aliases .* must stand for at most 10,000 values"),
        ("- " + "x" * 500, r"lines, got \['x{,200}\.\.\.x{,100}\.\.\.\.$"),
        ("0: !!bool maybe", r"is not readable YAML or JSON: KeyError: 'maybe'"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "weights.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        class_weights(str(path), torch.tensor([1, 1, 1]), CLASSES)


def test_no_file():
    with pytest.raises(ValueError, match=r"`class_weights` must be `balanced` or a file .* got balanzed: no such file"):
        read_class_weights("balanzed")
