"""The file that says which class of a teacher is which class of the data."""

import pytest

from logitkd.models import read_label_map

TEACHER = ("tench, Tinca tinca", "goldfish", "crane", "crane", "no", "cat")
STUDENT = ("fish", "bird", "no")
EXPECTED = (0, 0, 1, None, 2, None)

FILES = {
    "names.yaml": "tench: fish\ngoldfish: fish\n2: bird\nno: no\n",
    "indices.yml": "0: 0\n1: 0\n2: 1\n4: 2\n",
    "nulls.json": '{"tench, Tinca tinca": "fish", "1": 0, "2": "bird", "3": null, "no": "no"}',
    "header.csv": 'teacher,student\n"tench, Tinca tinca",fish\ngoldfish,0\n2,bird\n\n4,no\ncat,\n',
    "plain.csv": "Tinca tinca,fish\n1,fish\n2,1\nno,2\n",
}


def write(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize("name", FILES)
def test_names_and_indices_in_every_format(tmp_path, name):
    assert read_label_map(write(tmp_path, name, FILES[name]), TEACHER, STUDENT) == EXPECTED


def test_a_name_that_is_a_number_is_a_name(tmp_path):
    classes = [str(number) for number in range(1, 4)]
    assert read_label_map(write(tmp_path, "x.yaml", "1: 2\n2: 3\n3: 1\n"), classes, classes) == (1, 2, 0)


def test_a_teacher_whose_classes_have_no_names(tmp_path):
    assert read_label_map(write(tmp_path, "x.yaml", "0: no\n3: fish\n2: bird\n"), 4, STUDENT) == (2, None, 1, 0)
    with pytest.raises(ValueError, match=r"teacher class `cat`: the names of its classes are not known, .* 0 to 3"):
        read_label_map(write(tmp_path, "x.yaml", "cat: no\n3: fish\n2: bird\n"), 4, STUDENT)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.yaml", "0: fish\n4: no\n", r"no teacher class is mapped to 1 of 3 student classes: bird \(1\)"),
        ("x.yaml", "0: fish\n2: brid\n4: no\n", "unknown student class `brid`. Did you mean `bird`"),
        ("x.yaml", "goldfisch: fish\n2: bird\n4: no\n", "unknown teacher class `goldfisch`. Did you mean `goldfish`"),
        ("x.yaml", "0: fish\n2: bird\n9: no\n", "teacher class 9 must be below 6"),
        ("x.yaml", "0: fish\n2: 3\n4: no\n", "student class 3 must be below 3"),
        ("x.yaml", "0: fish\ncrane: bird\n4: no\n", "`crane` is the name of 2: write its index, one of 2, 3"),
        ("x.yaml", "0: fish\ntench: bird\n4: no\n", "teacher class 0 is mapped twice, as `0` and as `tench`"),
        ("x.yaml", "0: fish\n0: bird\n4: no\n", "teacher class 0 is mapped twice"),
        ("x.yaml", "0: [fish, bird]\n4: no\n", "got a list in line 1: a teacher class has one student class"),
        ("x.yaml", "- fish\n- bird\n", "must hold `teacher class: student class` pairs, got a list"),
        ("x.yaml", "", "is empty"),
        ("x.yaml", "{", "cannot be read"),
        ("x.json", '{"0": ' + "[" * 3000 + "]" * 3000 + "}", "cannot be read .lists and sections must be at most 20 deep"),
        ("x.yaml", "0: &a [&b [1], *b]\n1: [" + "*a, " * 5000 + "]", "cannot be read .aliases .* stand for at most 10,000"),
        ("x.json", '{"0": "fish", "0": "fish", "2": "bird", "4": "no"}', "teacher class 0 is mapped twice"),
        ("x.csv", "tench, Tinca tinca,fish\n", r"line 1 \(a name with a comma needs double quotes\)"),
        ("x.txt", "0: fish\n", "must be a .yaml, .yml, .json, .csv file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, text, words):
    with pytest.raises(ValueError, match=words):
        read_label_map(write(tmp_path, name, text), TEACHER, STUDENT)


def test_everything_wrong_comes_at_once(tmp_path):
    with pytest.raises(ValueError, match="`dog`") as caught:
        read_label_map(write(tmp_path, "x.yaml", "dog: fish\n2: brid\n"), TEACHER, STUDENT)
    assert len(str(caught.value).splitlines()) == 4


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.yaml does not exist"):
        read_label_map(tmp_path / "x.yaml", TEACHER, STUDENT)
