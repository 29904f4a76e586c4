"""Text files of UTF-8, and what is none."""

import pytest

from logitkd.data.utf8 import read_text, read_utf8


def test_a_text_comes_as_it_stands(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("caf\u00e9 \u2028\r\n\ttwo\rthree", "", "\ufeffno mark inside"):
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read_utf8(path) == text
        path.write_bytes(text.encode())
        assert read_utf8(path) == text.removeprefix("\ufeff")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("first\ncaf\u00e9".encode() + b"\ncaf\xe9\n", r"got the byte 0xe9 at byte 15, line 3\. Is it of another encoding"),
        ("text".encode("utf-16"), "got the byte 0xff at byte 0, line 1"),
        (b"PAR1\nx\0y", r"a text file, got a null byte in line 2\. Is it of another format\?"),
    ],
)
def test_what_is_not_utf8_is_named(tmp_path, content, words):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"{tmp_path}/a\.csv must be .*{words}"):
        read_utf8(tmp_path / "a.csv")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=rf"cannot read {tmp_path}/gone\.txt: .*No such file"):
        read_utf8(tmp_path / "gone.txt")


@pytest.mark.parametrize(("content", "text"), [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\nb", "a\nb"), ("a", "a")])
def test_the_line_end_that_ends_a_file_is_none_of_its_text(tmp_path, content, text):
    (tmp_path / "a.txt").write_bytes(content.encode())
    assert read_text(tmp_path / "a.txt") == text
