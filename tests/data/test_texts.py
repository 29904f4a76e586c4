"""Texts of every source: the same texts and labels, and what is wrong with them named."""

import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from logitkd.data import TextConfig, TextSplit, load_texts
from logitkd.data.readers import read_frames
from logitkd.data.splits import TEXTS
from logitkd.data.texts import text_fingerprint
from text_folders import CLASSES, sentences, write_csv, write_lines


def config(folder, **options):
    return TextConfig(source=str(folder), **options)


def write(folder, **splits):
    """Write json lines: ``train=[(text, label), ...]``; a pair of texts is a tuple."""
    folder.mkdir(exist_ok=True)
    for split, rows in splits.items():
        lines = []
        for texts, label in rows:
            row = {"text": texts} if not isinstance(texts, tuple) else dict(zip(("sentence1", "sentence2"), texts, strict=True))
            lines.append(json.dumps({**row, "label": label}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


TWO = [("a card", "card"), ("a loan", "loan")]


@pytest.fixture
def parquet(tmp_path):
    """Sixty and thirty texts whose labels are numbers that have names."""
    folder = tmp_path / "parquet"
    folder.mkdir()
    for split, count in (("train", 60), ("test", 30)):
        texts, labels = sentences(count, seed=len(split))
        rows = Dataset.from_dict(
            {"text": texts, "label": labels},
            features=Features({"text": Value("string"), "label": ClassLabel(names=list(CLASSES))}),
        )
        rows.to_parquet(folder / f"{split}.parquet")
    return folder


def test_every_format_comes_to_the_same(parquet, tmp_path):
    first = load_texts(config(parquet))
    texts, labels = sentences(60, seed=len("train"))
    assert (first.classes, first.columns) == (CLASSES, ("text",))
    assert (first.train.texts, first.train.labels.tolist()) == ((texts,), labels)
    assert (len(first.train), len(first.eval)) == (60, 30)
    tables = [write_csv(tmp_path / "csv"), write_lines(tmp_path / "lines", extra=3)]
    (tmp_path / "list").mkdir()
    (tmp_path / "tsv").mkdir()
    for split in ("train", "test"):
        rows = [json.loads(line) for line in (tmp_path / "lines" / f"{split}.jsonl").read_text().splitlines()]
        (tmp_path / "list" / f"{split}.json").write_text(json.dumps(rows, indent=1))
        lines = (tmp_path / "csv" / f"{split}.csv").read_text().replace(",", "\t").replace('"', "")
        (tmp_path / "tsv" / f"{split}.tsv").write_text("\ufeff" + lines.replace("\n", "\r\n"))
    for folder in [*tables, tmp_path / "list", tmp_path / "tsv"]:
        data = load_texts(config(folder))
        assert (data.train.texts, data.classes) == (first.train.texts, first.classes), folder
        assert data.fingerprint == first.fingerprint, folder


def test_pairs(tmp_path):
    pairs = [(("one", "two"), 0), (("three", "four"), 1)]
    data = load_texts(config(write(tmp_path, train=pairs, test=pairs)))
    assert data.columns == ("sentence1", "sentence2")
    assert data.train.texts == (["one", "three"], ["two", "four"])
    assert data.train.take(torch.tensor([False, True])).texts == (["three"], ["four"])
    assert "2 evaluation pairs of texts (`sentence1`, `sentence2`) of 2 classes: 0, 1" in data.summary()
    turned = load_texts(config(tmp_path, text_columns=("sentence2", "sentence1")))
    assert turned.train.texts == (["two", "four"], ["one", "three"])
    alone = load_texts(config(tmp_path, text_columns=("sentence2",)))
    assert alone.train.texts == (["two", "four"],)
    assert len({data.fingerprint, turned.fingerprint, alone.fingerprint}) == 3


def test_texts_that_run_into_each_other_are_told_apart():
    prints = set()
    for texts in ((["ab", "c"],), (["a", "bc"],), (["ab"], ["c"]), (["c", "ab"],)):
        digest = hashlib.sha256()
        TextSplit(texts, torch.tensor([0, 1])).update(digest)
        prints.add(digest.digest())
    assert len(prints) == 4


def test_labels_of_every_kind(tmp_path):
    numbers = load_texts(config(write(tmp_path / "a", train=[("x", 1), ("y", 0), ("z", None)], test=[("x", 1), ("y", 0)])))
    assert (numbers.classes, numbers.train.labels.tolist()) == (("0", "1"), [1, 0, -1])
    names = load_texts(config(write(tmp_path / "b", train=[("x", "no"), ("y", "maybe")], test=[("x", "no"), ("y", "maybe")])))
    assert (names.classes, names.train.labels.tolist()) == (("maybe", "no"), [1, 0])
    for label in (0.5, True, [1], {"x": 1}):
        write(tmp_path / "c", train=[("x", label), ("y", label)], test=TWO)
        with pytest.raises(ValueError, match=r"column `label` of .*split `train` must hold integers or names of classes, got"):
            load_texts(config(tmp_path / "c"))
    (tmp_path / "c" / "train.jsonl").unlink()
    (tmp_path / "c" / "train.csv").write_text("text,label\nx,0.0\ny,1.0\nz,\n")
    with pytest.raises(ValueError, match=r"column `label` of .* must hold integers or names of classes, got float64\."):
        load_texts(config(tmp_path / "c"))


def test_no_labels_to_train_on(tmp_path):
    write(tmp_path, train=[("x", None), ("y", None)], test=TWO)
    with pytest.raises(ValueError, match=r"every label of .*split `train` is missing, in column `label`\. .*`labels: none`"):
        load_texts(config(tmp_path))
    (tmp_path / "train.jsonl").unlink()
    (tmp_path / "train.csv").write_text("text\nx\ny\n")
    with pytest.raises(ValueError, match=r"no label column by its type.*`labels: none`"):
        load_texts(config(tmp_path))
    data = load_texts(config(tmp_path), labels="none")
    assert (data.classes, data.train.texts, data.train.labels.tolist()) == (("card", "loan"), (["x", "y"],), [-1, -1])
    write(tmp_path, test=[("x", None)])
    with pytest.raises(ValueError, match=r"the evaluation split must be labelled, but every label of .*`test` is missing"):
        load_texts(config(tmp_path), labels="none")


def test_what_is_kept_and_held_out(tmp_path):
    write_lines(tmp_path)
    few = [load_texts(config(tmp_path, train_per_class=5), seed=seed) for seed in (0, 0, 1)]
    assert torch.bincount(few[0].train.labels).tolist() == [5] * 3
    assert few[0].fingerprint == few[1].fingerprint != few[2].fingerprint
    with pytest.raises(
        ValueError, match=r"`data.train_per_class` must be at most 20, the texts there are of class `card`, got 21"
    ):
        load_texts(config(tmp_path, train_per_class=21))
    with pytest.raises(ValueError, match=r"must be left out without labels"):
        load_texts(config(tmp_path, train_per_class=2), labels="none")
    (tmp_path / "test.jsonl").unlink()
    whole, _ = sentences(60, seed=len("train"))
    data = load_texts(config(tmp_path, eval_fraction=0.1))
    assert torch.bincount(data.eval.labels).tolist() == [2] * 3
    assert sorted([*data.train.texts[0], *data.eval.texts[0]]) == sorted(whole)


def test_classes_that_do_not_go_together(tmp_path):
    with pytest.raises(ValueError, match=r"texts must be of at least 2 classes, got `card` alone in .*split `train`"):
        load_texts(config(write(tmp_path, train=TWO[:1], test=TWO[:1])))
    with pytest.raises(ValueError, match=r"label 'rate' in .*test\.jsonl, row 0 \(line 1\) is none of the 2 classes"):
        load_texts(config(write(tmp_path, train=TWO, test=[("a", "rate")])))
    with pytest.warns(UserWarning, match=r"no text of 1 of the 2 classes in training \(loan\)"):
        load_texts(config(write(tmp_path, train=TWO, test=TWO[:1])))


@pytest.mark.parametrize(
    ("text", "what", "count"), [(None, "null", 1), ("", "empty", 1), (" \t\n", "empty", 1), ("\u2028\u3000", "empty", 1)]
)
def test_texts_of_nothing_are_counted_and_the_first_named(tmp_path, text, what, count):
    write(tmp_path, train=[*TWO, (text, "card"), ("", "loan")], test=TWO)
    words = rf"got 2 of 4 in column `text` of .*split `train`, the first \({what}\) in .*train\.jsonl, row 2 \(line 3\)\."
    with pytest.raises(ValueError, match=words):
        load_texts(config(tmp_path))


def test_half_a_character_is_no_text(tmp_path):
    write(tmp_path, train=[*TWO, ("half \ud83d", "card")], test=TWO)
    with pytest.raises(ValueError, match=r"texts must be Unicode, got half of a character .* in .*train\.jsonl, row 2"):
        load_texts(config(tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "text,label\n1,a\n2,b\n",
            r"column `text` of .*split `train` must hold texts, got int64\. Columns there: text \(int64\)",
        ),
        ("text,label\n1.5,a\n2,b\n", r"column `text` of .* must hold texts, got float64"),
        ("words,more,label\nx,y,a\nz,w,b\n", r"several columns that could be the texts: words, more\. Name one or two with"),
        ("id,label\n3,a\n4,b\n", r"has no column of texts\. Name one or two with `data\.text_columns`\. Columns there: id"),
        ("text;label\nx;a\n", r"no label column by its type\. Name one with `data\.label_column`\. Columns there: text;label"),
    ],
)
def test_columns_that_will_not_do(tmp_path, content, words):
    write_csv(tmp_path)
    (tmp_path / "train.csv").write_text(content)
    (tmp_path / "test.csv").write_text(content)
    with pytest.raises(ValueError, match=words):
        load_texts(config(tmp_path))


def test_columns_that_are_not_there(tmp_path):
    write_csv(tmp_path)
    with pytest.raises(ValueError, match=r"`data\.text_columns` names `txt`, which .* Did you mean `text`\?"):
        load_texts(config(tmp_path, text_columns=("txt",)))
    with pytest.raises(ValueError, match=r"`data\.label_column` names `lable`, which .* Did you mean `label`\?"):
        load_texts(config(tmp_path, label_column="lable"))
    with pytest.raises(ValueError, match=r"`data\.text_columns` must not name the labels, got `label`"):
        load_texts(config(tmp_path, text_columns=("text", "label")))
    (tmp_path / "test.csv").write_text("sentence,label\nx,card\n")
    with pytest.raises(ValueError, match=r"`data\.text_columns` names `text`, which .*split `test` does not have"):
        load_texts(config(tmp_path))


def test_no_source():
    with pytest.raises(ValueError, match=r"`data\.source` must be given"):
        load_texts(TextConfig())
    with pytest.raises(FileNotFoundError, match=r"`data\.source` must be an existing folder, or a hub id"):
        load_texts(config("gone"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,label\n", "is empty: it has no rows"),
        (b"text,label\ncaf\xe9,card\n", r"train\.csv must be UTF-8 text, got the byte 0xe9 at byte 14, line 2"),
        ('text,label\n"a card,card\n', r"train\.csv has broken quotes in the row that begins in line 2"),
    ],
)
def test_damaged_files(tmp_path, content, words):
    write_csv(tmp_path)
    (tmp_path / "train.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=words):
        load_texts(config(tmp_path))


def test_files_of_two_formats_and_of_part_of_a_set(tmp_path):
    write_csv(tmp_path)
    write(tmp_path, train=TWO)
    with pytest.raises(ValueError, match=r"split `train` must be in files of one format, got train\.csv, train\.jsonl in"):
        load_texts(config(tmp_path))
    (tmp_path / "train.jsonl").unlink()
    (tmp_path / "train.csv").rename(tmp_path / "train-00000-of-00002.csv")
    with pytest.raises(ValueError, match=r"split `train` .* not one whole set: train-00000-of-00002\.csv"):
        load_texts(config(tmp_path))


def test_parquet_of_other_programs(tmp_path):
    """Strings that Arrow keeps as numbers of a list, or in its newer layouts, are strings."""
    kinds = [pa.dictionary(pa.int32(), pa.string()), pa.large_string(), pa.string_view()]
    for kind in kinds:
        for split in ("train", "test"):
            table = pa.table({"text": pa.array(["a card", "a loan"]).cast(kind), "label": pa.array(["x", "y"]).cast(kind)})
            pq.write_table(table, tmp_path / f"{split}.parquet")
        data = load_texts(config(tmp_path))
        assert (data.classes, data.train.texts) == (("x", "y"), (["a card", "a loan"],))


def test_a_subset_of_a_hub_id(tmp_path, monkeypatch):
    """A folder with subsets stands in for the hub: `datasets` reads both alike."""
    for subset in ("sst2", "mrpc"):
        write_csv(tmp_path / "hub" / subset)
    subsets = "".join(f"- config_name: {name}\n  data_dir: {name}\n" for name in ("sst2", "mrpc"))
    (tmp_path / "hub" / "README.md").write_text(f"---\nconfigs:\n{subsets}---\n")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("logitkd.data.readers.find_folder", lambda source, kind: None)
    hub = str(tmp_path / "hub")
    train, test = read_frames(hub, ("train", "test"), kind=TEXTS, subset="mrpc")
    assert (len(train.read("text")), len(test.read("label"))) == (60, 30)
    for subset, hint in ((None, ""), ("sst", r" Did you mean `sst2`\?")):
        with pytest.raises(ValueError, match=rf"`data\.subset` must be one of .*sst2, mrpc, got {subset!r}\.{hint}"):
            read_frames(hub, ("train", "test"), kind=TEXTS, subset=subset)


def test_a_hub_id_is_never_known_and_may_have_texts_missing(monkeypatch):
    rows = Dataset.from_dict({"sentence": ["a", None], "label": [0, 1]})
    monkeypatch.setattr("logitkd.data.readers.load_dataset", lambda *_: DatasetDict(train=rows, test=rows))
    hub = TextConfig(source="owner/name")
    with pytest.raises(ValueError, match=r"the first \(null\) in the hub's owner/name, split `train`, row 1\."):
        load_texts(hub)
    assert text_fingerprint(hub) is None


def age(folder):
    for path in folder.rglob("*"):
        os.utime(path, ns=(0, time.time_ns() - 60 * 10**9))


def test_a_known_fingerprint_is_read_from_nothing(tmp_path, monkeypatch):
    folder = write_csv(tmp_path / "csv")
    age(folder)
    texts = config(folder)
    assert text_fingerprint(texts) is None
    known = load_texts(texts).fingerprint
    variants = [
        (replace(texts, train_per_class=2), 0, "given"),
        (replace(texts, train_per_class=2), 1, "given"),
        (replace(texts, eval_split="train"), 0, "given"),
        (texts, 0, "none"),
    ]
    found = {load_texts(data, seed, labels=labels).fingerprint for data, seed, labels in variants}
    assert {text_fingerprint(data, seed=seed, labels=labels) for data, seed, labels in variants} == found
    assert len(found - {known}) == len(variants)
    monkeypatch.delattr("logitkd.data.texts.TextSplit.update")
    assert text_fingerprint(replace(texts, max_length=64), seed=3) == load_texts(texts).fingerprint == known
    (folder / "train.csv").write_text((folder / "train.csv").read_text() + '"a new card",card\n')
    assert text_fingerprint(texts) is None


@pytest.mark.parametrize(
    ("name", "options", "sizes"),
    [
        ("banking77", {}, (10_003, 3_080, 77)),
        ("glue/sst2", {"eval_split": "validation"}, (67_349, 872, 2)),
        ("glue/mrpc", {"eval_split": "validation"}, (3_668, 408, 2)),
        ("glue/rte", {"eval_split": "validation"}, (2_490, 277, 2)),
    ],
)
def test_real_sets(name, options, sizes):
    root = Path(os.environ.get("LOGITKD_DATA") or Path(__file__).parents[3] / "shared" / "data") / name
    if not root.is_dir():
        pytest.skip(f"needs {name}: set LOGITKD_DATA to the folder that has it")
    data = load_texts(config(root, **options))
    assert (len(data.train), len(data.eval), len(data.classes)) == sizes
