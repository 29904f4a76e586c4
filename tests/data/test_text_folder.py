"""Texts in class folders."""

import pytest

from logitkd.data import TextConfig, load_texts
from logitkd.data.readers import read_frames
from logitkd.data.splits import TEXTS

SIX = ["train/ham/1.txt", "train/ham/2.TXT", "train/spam/1.txt", "train/spam/3.txt", "test/ham/1.txt", "test/spam/9.txt"]


def write(folder, names):
    """Write a text that says its own name at each of the paths."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is\n{name}\n")
    return folder


def test_a_file_is_a_text_and_its_folder_the_class(tmp_path):
    write(tmp_path, SIX)
    (tmp_path / "train" / "ham" / "picture.png").write_bytes(b"\xff")
    (tmp_path / "labels.csv").write_text("name,label\n1.txt,ham\n")  # beside class folders a table is no split
    data = load_texts(TextConfig(source=str(tmp_path)))
    assert (data.classes, data.columns) == (("ham", "spam"), ("text",))
    assert data.train.texts == ([f"this is\n{name}" for name in SIX[:4]],)
    assert (data.train.labels.tolist(), data.eval.labels.tolist()) == ([0, 0, 1, 1], [0, 1])
    (train,) = read_frames(str(tmp_path), ("train",), kind=TEXTS)
    assert train.place(1) == str(tmp_path / SIX[1])
    assert [train.column("text")[row] for row in range(4)] == train.read("text")


def test_class_folders_alone_are_one_split(tmp_path):
    write(tmp_path, [f"{kind}/{number}.txt" for kind in ("ham", "spam") for number in range(5)])
    data = load_texts(TextConfig(source=str(tmp_path), eval_fraction=0.4))
    assert (data.train.labels.tolist(), data.eval.labels.tolist()) == ([0] * 3 + [1] * 3, [0, 0, 1, 1])
    assert {*data.train.texts[0], *data.eval.texts[0]} == {
        f"this is\n{kind}/{n}.txt" for kind in ("ham", "spam") for n in range(5)
    }


def test_texts_without_labels_may_lie_anywhere(tmp_path):
    write(tmp_path, ["train/1.txt", "train/more/2.txt", *SIX[4:]])
    data = load_texts(TextConfig(source=str(tmp_path)), labels="none")
    assert data.train.labels.tolist() == [-1, -1]
    with pytest.raises(
        ValueError, match=r"train/1\.txt is not in a class folder: texts belong at .*anywhere with `labels: none`"
    ):
        load_texts(TextConfig(source=str(tmp_path)))


def test_files_that_are_no_text_are_named(tmp_path):
    write(tmp_path, SIX)
    (tmp_path / SIX[3]).write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"train/spam/3\.txt must be UTF-8 text, got the byte 0xe9 at byte 3"):
        load_texts(TextConfig(source=str(tmp_path)))
    (tmp_path / SIX[3]).write_text(" \n")
    with pytest.raises(ValueError, match=r"texts must not be empty, got 1 of 4 .*the first \(empty\) in .*train/spam/3\.txt\."):
        load_texts(TextConfig(source=str(tmp_path)))
    (tmp_path / SIX[3]).unlink()
    (tmp_path / SIX[3]).symlink_to("/gone/3.txt")
    with pytest.raises(ValueError, match=r"all texts and class folders must be readable, .*1 of 2 texts in .*/train/spam\."):
        load_texts(TextConfig(source=str(tmp_path)))
