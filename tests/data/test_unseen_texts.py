"""Texts of a person's own, from every source; what cannot be read is all named at once."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from logitkd.data.unseen_texts import read_unseen

ONE, PAIR = ("text",), ("premise", "hypothesis")


@pytest.fixture
def stdin(monkeypatch):
    """Return a function that puts bytes into standard input."""

    def put(content):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    return put


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_every_source_in_the_order_given(tmp_path, stdin):
    stdin("first line\r\nsecond\u2028line\n".encode())
    a = write(tmp_path / "notes/b/a.txt", "whole\ntext\n")
    c = write(tmp_path / "notes/c.txt", "\ufeffmore")
    csv = write(tmp_path / "t.CSV", 'label,text\n1,"a, b"\n2,NA\n')
    tsv = write(tmp_path / "t.tsv", "text\nd\n")
    lines = write(tmp_path / "t.jsonl", '{"text": "e", "other": 1}\n')
    parquet = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["f", "g"]}), parquet)
    places, texts = read_unseen([csv, tmp_path / "notes", "-", str(tsv), lines, parquet, a], None, ONE)
    assert texts == (
        ["a, b", "NA", "whole\ntext", "more", "first line", "second\u2028line", "d", "e", "f", "g", "whole\ntext"],
    )
    assert places == [
        (str(csv), 0), (str(csv), 1), (str(a), None), (str(c), None), ("-", 0), ("-", 1), (str(tsv), 0), (str(lines), 0),
        (str(parquet), 0), (str(parquet), 1), (str(a), None),
    ]  # fmt: skip


def test_texts_at_hand():
    assert read_unseen([], ["a", "b"], ONE) == ([("texts", 0), ("texts", 1)], (["a", "b"],))
    assert read_unseen([], [("a", "b"), ["c", "d"]], PAIR)[1] == (["a", "c"], ["b", "d"])


def test_pairs_are_in_tables_and_in_lines_with_a_tab(tmp_path, stdin):
    stdin(b"a\tb\n")
    table = write(tmp_path / "t.csv", "hypothesis,premise\nh,p\n")
    assert read_unseen(["-", table], None, PAIR)[1] == (["a", "p"], ["b", "h"])
    stdin(b"a\tb\nalone\n")
    note = write(tmp_path / "a.txt", "a")
    with pytest.raises(ValueError, match="got 2 that cannot") as caught:
        read_unseen(["-", note], None, PAIR)
    assert "premise and hypothesis with a tab between them, got 0 tabs in row 1" in str(caught.value)
    assert "a.txt must be a table (.parquet, .csv," in str(caught.value)


def test_all_that_cannot_be_read_is_named(tmp_path, stdin):
    stdin(b"")
    bad = {
        "gone.txt": (None, "cannot read"),
        "latin.txt": ("caf\u00e9".encode("latin-1"), "must be UTF-8 text, got the byte 0xe9 at byte 3, line 1"),
        "empty.txt": (" \n", "must hold no empty text, got 1."),
        "page.pdf": ("x", "must be a text (.txt), a table (.parquet, .csv"),
        "null.jsonl": ('{"text": "a"}\n{"text": null}\n{"text": ""}\n', "must hold no empty text, got 2, in rows 1, 2."),
        "other.csv": ("sentence,x\na,b\n", "names `text`, which"),
        "number.csv": ("text,x\n1,b\n", "must hold texts, got int64"),
        "quotes.csv": ('text\n"a" b\n', "has broken quotes in the row that begins in line 2"),
        "none.csv": ("text\n", "is empty: it has no rows"),
        "folder": (None, "must hold texts (.txt) to be read as a folder of them, got none"),
        "-": (None, "standard input must hold a text, got none"),
    }
    (tmp_path / "folder").mkdir()
    for name, (content, _) in bad.items():
        if content is not None:
            write(tmp_path / name, content)
    sound = write(tmp_path / "sound.txt", "a")
    files = [name if name == "-" else tmp_path / name for name in bad]
    with pytest.raises(ValueError, match=f"`files` must be texts that can be read, got {len(bad)} that cannot:") as caught:
        read_unseen([sound, *files], None, ONE)
    lines = str(caught.value).splitlines()[1:]
    for line, (name, (_, said)) in zip(lines, bad.items(), strict=True):
        assert said in line, (name, line)


@pytest.mark.parametrize(
    ("files", "texts", "columns", "message"),
    [
        ([], None, ONE, "either `files` or `texts` must be given, got neither"),
        (["a.txt"], ["a"], ONE, "either `files` or `texts` must be given, got both"),
        ([], "a text", ONE, "`texts` must be a list of texts, got one text"),
        ([], [], ONE, "`texts` must hold a text, got none"),
        ([], ["a", 3], ONE, "`texts` must be texts, as the run was trained on, got 3 in row 1"),
        ([], [("a", "b")], ONE, "`texts` must be texts, as the run was trained on"),
        ([], ["ab"], PAIR, r"`texts` must be pairs \(premise, hypothesis\), as the run was trained on, got 'ab' in row 0"),
        ([], ["a", " "], ONE, "`texts` must hold no empty text, got 1, in row 1"),
        ([], ["a\ud800"], ONE, "texts must be Unicode, got half of a character .* in row 0 of `texts`"),
    ],
)
def test_what_is_at_hand_is_checked(files, texts, columns, message):
    with pytest.raises(ValueError, match=message):
        read_unseen(files, texts, columns)
