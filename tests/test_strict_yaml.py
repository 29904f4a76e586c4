"""YAML that a person wrote: bounded, and no key twice."""

import pytest
import yaml

from logitkd import strict_yaml

# Nine values, nine times nine, ...: a few lines that stand for millions.
BOMB = ["&a [x,x,x,x,x,x,x,x,x]"] + [f"&{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdef", "bcdefg", strict=True)]
HUNDRED = f"[&a x, &b [{'x,' * 99}],"
CHAIN = ["&a0 [1]"] + [f"&a{i} [*a{i - 1}]" for i in range(1, 3000)]


def test_documents_are_what_they_say():
    assert strict_yaml.load("a: 1\nb: [x, {c: null}]\n") == {"a": 1, "b": ["x", {"c": None}]}
    assert strict_yaml.load('{"a": [1, 2.5, "x"]}') == {"a": [1, 2.5, "x"]}
    assert strict_yaml.load("") is None
    assert strict_yaml.load("a: &x {lr: 1}\nb: *x\nc: [*x]\n") == {"a": {"lr": 1}, "b": {"lr": 1}, "c": [{"lr": 1}]}
    assert [key.value for key, _ in strict_yaml.compose("no: 1\n1.0: 2").value] == ["no", "1.0"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 21 + "]" * 21, r"^lists and sections must be at most 20 deep, this goes deeper \(line 1, column 21\)$"),
        ("- " + "\n- ".join(CHAIN), r"at most 20 deep, this goes deeper \(line 20, column 9\)"),
        (HUNDRED + "*b," * 100 + "*a]", r"^aliases \(`\*name`\) must stand for at most 10,000 values in all: write them out"),
        ("- " + "\n- ".join(BOMB), r"at most 10,000 values in all: write them out \(line 5, column 7\)"),
        ("a: &a [1, *a]", r"^the alias `\*a` is inside what it names \(line 1, column 11\)$"),
    ],
)
def test_what_would_not_end(text, words):
    for read in (strict_yaml.load, strict_yaml.compose):
        with pytest.raises(strict_yaml.Refused, match=words):
            read(text)


def test_what_is_just_within_the_bounds():
    strict_yaml.load("[" * 20 + "a" + "]" * 20)
    strict_yaml.load(HUNDRED + "*b," * 100 + "]")
    assert len(strict_yaml.load("[" + "x," * 10_001 + "]")) == 10_001  # written out, a document may have any size


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_thousands_of_brackets_are_no_recursion_error(brackets):
    with pytest.raises(strict_yaml.Refused, match="at most 20 deep"):
        strict_yaml.load(brackets[0] * 5000 + brackets[1] * 5000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 1\n", r"^the key `a` is given twice \(line 3, column 1\)$"),
        ("x: [1, {y: {b: 1, b: 2}}]", r"^the key `b` is given twice \(line 1, column 19\)$"),
        ("1: a\n0x1: b\n", "^the key `1` is given twice"),
        ("[a, b]: 3", r"^a key must be text, got \['a', 'b'\]"),
        ("a: &a {b: 1}\nc: {<<: *a}\n", r"^merge keys \(`<<`\) are not supported"),
    ],
)
def test_what_yaml_would_take_without_a_word(text, words):
    with pytest.raises(strict_yaml.Refused, match=words):
        strict_yaml.load(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a", r"^while parsing a flow sequence, expected .* \(line 1, column 3\)$"),
        ("a: *b", r"^found undefined alias 'b' \(line 1, column 4\)$"),
        ("a: 2020-13-45", r"^month must be in 1\.\.12$"),
        ("a: !!bool maybe", "^KeyError: 'maybe'$"),
        ("!!int '': a", "^IndexError: "),
        ("a: " + "9" * 5000, "^Exceeds the limit"),
        ("a: !!python/object:os.system x", "^could not determine a constructor"),
        ("\x00", "^unacceptable character"),
    ],
)
def test_what_is_no_yaml_is_told_in_one_line(text, words):
    with pytest.raises(yaml.YAMLError, match=words) as caught:
        strict_yaml.load(text)
    assert not isinstance(caught.value, strict_yaml.Refused)
    assert "\n" not in str(caught.value)
