"""Csv, tsv and json lines: values as they stand, types of whole columns, damage named with its line."""

import csv
import json

import pytest
from datasets import Value

from logitkd.data.frames import Mixed
from logitkd.data.text_tables import text_table_frame


def frame(folder, content, suffix=".csv"):
    """Read a split of the given files."""
    contents = content if isinstance(content, list) else [content]
    paths = [folder / f"train-{number}{suffix}" for number in range(len(contents))]
    for path, text in zip(paths, contents, strict=True):
        path.write_text(text, newline="")
    return text_table_frame(folder, "train", paths)


def test_texts_come_as_they_stand(tmp_path):
    """What looks like nothing or like a number is a text among texts."""
    texts = ["NA", "null", "nan", "1e5", "007", "None", " a ", 'he said "no"', "one,\ttwo", "two\r\nlines", "caf\u00e9\u2028x"]
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        with (tmp_path / f"train{suffix}").open("w", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([["text", "label"], *([text, "a"] for text in texts)])
        table = text_table_frame(tmp_path, "train", [tmp_path / f"train{suffix}"])
        assert table.read("text") == texts
        assert table.features == {"text": Value("string"), "label": Value("string")}
    rows = [{"text": text, "label": "a"} for text in texts]
    for content in ("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), json.dumps(rows)):
        table = frame(tmp_path, content, ".json")
        assert table.read("text") == texts
        assert table.features == {"text": Value("string"), "label": Value("string")}


def test_a_column_has_one_type_however_long_and_in_however_many_files(tmp_path):
    """Readers that guess by the piece take the first ten thousand labels for numbers."""
    many = "".join(f"word {row},{row}\n" for row in range(12_000))
    table = frame(tmp_path, ["text,label\n" + many, "label,text\nlast,word\n"])
    assert table.features["label"] == Value("string")
    assert table.read("label")[11_999:] == ["11999", "last"]
    assert table.read("text")[-1] == "word"


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        (["0", "1", "10"], "int64", [0, 1, 10]),
        (["-1", "", "2"], "int64", [-1, None, 2]),
        (["1.0", "", "0.0"], "float64", [1.0, None, 0.0]),
        (["1", "2e3", ".5"], "float64", [1.0, 2000.0, 0.5]),
        (["", ""], "string", [None, None]),
        (["01", "02"], "string", ["01", "02"]),
        (["1", "one", ""], "string", ["1", "one", None]),
        (["1 ", "2"], "string", ["1 ", "2"]),
        (["\u0661", "\u0662"], "string", ["\u0661", "\u0662"]),
        (["9" * 19, "1"], "float64", [1e19, 1.0]),
    ],
)
def test_a_column_of_csv_is_of_numbers_if_all_its_values_are(tmp_path, values, kind, read):
    table = frame(tmp_path, "text,label\n" + "".join(f"a word,{value}\n" for value in values))
    assert table.features["label"] == Value(kind)
    assert table.read("label") == read


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([1, None, 0], "int64", [1, None, 0]),
        ([1, 0.5], "float64", [1, 0.5]),
        ([True, False], "bool", [True, False]),
        (["1", "2"], "string", ["1", "2"]),
        ([None], "string", [None]),
    ],
)
def test_a_column_of_json_has_the_type_of_its_values(tmp_path, values, kind, read):
    rows = [{"text": "word", **({} if value is None else {"label": value})} for value in values] + [{"text": "", "label": None}]
    table = frame(tmp_path, "\n".join(map(json.dumps, rows)), ".jsonl")
    assert table.features["label"] == Value(kind)
    assert table.read("label") == [*read, None]


def test_columns_of_several_types_name_the_first_of_each(tmp_path):
    table = frame(tmp_path, '{"text": "a"}\n\n{"text": "b"}\n{"text": 3}\n{"text": [1], "n": {}}\n', ".jsonl")
    place = f"{tmp_path}/train-0.jsonl, row"
    words = f"text in {place} 0 (line 1) and a number in {place} 2 (line 4) and a list in {place} 3 (line 5)"
    assert table.features["text"] == Mixed(words)
    assert table.features["n"] == Mixed(f"an object in {place} 3 (line 5)")


def test_rows_are_named_by_file_row_and_line(tmp_path):
    table = frame(tmp_path, ['a,b\n"two\nlines",1\n\nx,2\n', "a,b\n", "a,b\r\ny,3\r\n"])
    first, last = tmp_path / "train-0.csv", tmp_path / "train-2.csv"
    places = [f"{first}, row 0 (line 2)", f"{first}, row 1 (line 5)", f"{last}, row 0 (line 2)"]
    assert [table.place(row) for row in range(3)] == places
    table = frame(tmp_path, '[{"a": 1},\n{"a": 2}]', ".json")
    assert table.place(1) == f"{tmp_path}/train-0.json, row 1"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('text,label\nx,1\n"my card,1\nyours,0\n', r"broken quotes in the row that begins in line 3: unexpected end of data\."),
        ('text,label\n"my card,1\n"your" card,0\n', r"broken quotes in the row that begins in line 2: .*is written twice"),
        ('text,label\nx,1\n"my" card,1\n', r"broken quotes in the row that begins in line 3: ',' expected after '\"'"),
        ("text,label\nmy card, lost,1\n", r"line 2 must have 2 fields as the header has \(text, label\), got 3\. A separator"),
        ("text,label\nx,1\nmy card\n", r"line 3 must have 2 fields .*, got 1"),
        ("text,text\na,b\n", r"must have a header of different names, got \['text', 'text'\]"),
        (["text,label\na,b\n", "text,kind\na,b\n"], r"train-1\.csv has other columns than .*train-0\.csv"),
        ("", r"split `train` is empty: it has no rows"),
    ],
)
def test_damaged_csv_is_named(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        frame(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1}\n{"a": \n', r"train-0\.jsonl, line 2 is no JSON: .*A row is an object in a line of its own"),
        ('{\n "a": 1\n}\n', r"line 1 is no JSON"),
        ('[{"a": 1},]', r"train-0\.jsonl is no JSON"),
        ('{"a": 1}\n{"a": 1, "b": 2, "a": 3}\n', r"line 2 is no JSON: the key 'a' is there twice"),
        ('{"a": 1}\n"text"\n', r"line 2 must be an object such as .*, got 'text'"),
        ("[1]", r"row 0 must be an object such as .*, got 1\."),
        ("[" * 100_000, "is no JSON: .*recursion"),
        ('{"a": ' + "[" * 100_000, "line 1 is no JSON: .*recursion"),
        ("", r"split `train` is empty: it has no rows"),
        ("[]", r"split `train` is empty: it has no rows"),
    ],
)
def test_damaged_json_is_named(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        frame(tmp_path, content, ".jsonl")


def test_a_long_text_is_read_and_no_setting_of_csv_is_left_changed(tmp_path):
    before = 131_072
    csv.field_size_limit(before)
    text = "word " * 100_000
    assert frame(tmp_path, f"text,label\n{text},1\n").read("text") == [text]
    assert csv.field_size_limit() == before


def test_a_tsv_field_that_swallowed_rows_is_refused(tmp_path):
    """Two texts that begin or end with a quote come to one row of the right length."""
    content = 'text\tlabel\n"so it began\t0\nand so it ended"\t1\nplain\t0\n'
    with pytest.raises(ValueError, match=r"train-0\.tsv has broken quotes in the row that begins in line 2: .*several rows"):
        frame(tmp_path, content, ".tsv")
    assert frame(tmp_path, content.replace("\t", ","), ".csv").read("text") == ["so it began,0\nand so it ended", "plain"]
