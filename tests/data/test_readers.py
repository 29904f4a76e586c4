"""Sources read into frames: parquet files, a hub id; what is missing or damaged, named."""

import pickle

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from image_files import SHAPES, SIX, pixels, png, write_image_folder, write_parquet
from logitkd.data.readers import _hub_frame, _hub_frames, read_frames


def test_parquet_files_in_order_of_their_names(parquet_folder):
    train, test = read_frames(str(parquet_folder), ("train", "test"))
    assert [value["bytes"] for value in train.read("img")] == [png(pixels(row)) for row in range(12)]
    assert train.read("kind") == [row % 3 for row in range(12)]
    assert test.read("kind") == [row % 3 for row in range(100, 106)]
    assert isinstance(train.features["img"], Image)
    assert train.features["kind"] == ClassLabel(names=SHAPES)


def test_parquet_rows_are_named_by_file(parquet_folder):
    train, _ = read_frames(str(parquet_folder), ("train", "test"))
    first, second = (parquet_folder / f"train-0000{k}-of-00002.parquet" for k in range(2))
    expected = {0: f"{first}, row 0", 6: f"{first}, row 6", 7: f"{second}, row 0", 11: f"{second}, row 4"}
    assert {row: train.place(row) for row in expected} == expected


def test_rows_after_an_empty_file_are_named_right(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", range(2))
    write_parquet(tmp_path / "train-1.parquet", [])
    write_parquet(tmp_path / "train-2.parquet", range(2))
    (train,) = read_frames(str(tmp_path), ("train",))
    assert train.place(2) == f"{tmp_path / 'train-2.parquet'}, row 0"


@pytest.mark.parametrize("name", ["train", "train-0", "train-00000-of-00001", "train-00000-of-00001-9f3c01"])
def test_names_of_a_single_file(tmp_path, name):
    write_parquet(tmp_path / f"{name}.parquet", range(3))
    (train,) = read_frames(str(tmp_path), ("train",))
    assert len(train.read("kind")) == 3


def test_a_split_is_not_taken_for_another(tmp_path):
    write_parquet(tmp_path / "train-clean-00000-of-00001.parquet", range(3))
    with pytest.raises(ValueError, match=r"there is no split `train` in .*Splits there: train-clean"):
        read_frames(str(tmp_path), ("train",))


def test_a_missing_split_lists_the_others(parquet_folder):
    with pytest.raises(ValueError, match=r"no split `valid` in .*shapes. Splits there: test, train. Name them with"):
        read_frames(str(parquet_folder), ("train", "valid"))


def test_a_missing_file_of_a_set_is_noticed(parquet_folder):
    (parquet_folder / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(ValueError, match=r"split `train` .* not one whole set: train-00000-of-00002.parquet"):
        read_frames(str(parquet_folder), ("train", "test"))


def test_files_of_two_sets_are_noticed(parquet_folder):
    write_parquet(parquet_folder / "train-00000-of-00001.parquet", range(3))
    with pytest.raises(ValueError, match=r"not one whole set"):
        read_frames(str(parquet_folder), ("train", "test"))


def test_a_file_that_is_there_twice_is_not_taken_for_the_missing_one(tmp_path):
    for version in ("aa", "bb"):
        write_parquet(tmp_path / f"train-00000-of-00002-{version}.parquet", range(3))
    with pytest.raises(ValueError, match=r"not one whole set: train-00000-of-00002-aa.parquet, train-00000-of-00002-bb"):
        read_frames(str(tmp_path), ("train",))


def test_a_file_that_is_no_parquet_is_named(parquet_folder):
    (parquet_folder / "test.parquet").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"shapes/test.parquet is not a readable parquet file: "):
        read_frames(str(parquet_folder), ("train", "test"))


def test_a_damaged_parquet_file_is_named(parquet_folder):
    path = parquet_folder / "test.parquet"
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)  # the pages; the footer, read first, is whole
    path.write_bytes(content)
    (test,) = read_frames(str(parquet_folder), ("test",))
    with pytest.raises(ValueError, match=r"cannot read column `img` of .*shapes/test.parquet: "):
        test.read("img")


def test_files_with_other_columns_are_named(parquet_folder):
    write_parquet(parquet_folder / "train-00001-of-00002.parquet", range(3), label_type=Value("int64"))
    with pytest.raises(ValueError, match=r"train-00001-of-00002.parquet has other columns than .*train-00000"):
        read_frames(str(parquet_folder), ("train",))


def test_plain_parquet_without_the_features_of_datasets(tmp_path):
    pq.write_table(pa.table({"picture": [png(pixels(0))], "y": [3]}), tmp_path / "train.parquet")
    (train,) = read_frames(str(tmp_path), ("train",))
    assert train.read("picture") == [png(pixels(0))]
    assert train.features["y"] == Value("int64")


@pytest.mark.parametrize("source", ["no-such-folder", "./no/such/folder", "/no/such"])
def test_a_source_that_is_nothing(source):
    with pytest.raises(FileNotFoundError, match=r"`data.source` must be `digits`, an existing folder, or a hub id"):
        read_frames(source, ("train",))


def test_a_file_is_no_source(parquet_folder):
    with pytest.raises(ValueError, match=r"must be a folder, got the file .*Give the folder it is in"):
        read_frames(str(parquet_folder / "test.parquet"), ("test",))


def test_the_hub_offline_names_the_id_and_the_fix(monkeypatch):
    # What the environment variable HF_HUB_OFFLINE=1 sets when the libraries are imported.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"'some-owner/no-such-set' is no folder here.*give the local folder"):
        read_frames("some-owner/no-such-set", ("train",))


@pytest.mark.parametrize("shown", [True, False])
def test_no_bar_of_another_library_is_shown(parquet_folder, tmp_path, monkeypatch, capfd, shown):
    switch = {True: datasets.enable_progress_bars, False: datasets.disable_progress_bars}
    before = datasets.are_progress_bars_disabled()
    load = datasets.load_dataset
    monkeypatch.setattr("logitkd.data.readers.load_dataset", lambda source: load(source, cache_dir=str(tmp_path / "cache")))
    try:
        switch[shown]()
        _hub_frames(str(parquet_folder), ("train", "test"), None)  # a folder is loaded as what is on the hub is, bars and all
        assert "Generating" not in capfd.readouterr().err
        with pytest.raises(ConnectionError):
            _hub_frames(str(tmp_path / "nothing"), ("train",), None)
        assert datasets.are_progress_bars_disabled() != shown
    finally:
        switch[not before]()


def test_rows_of_the_hub_are_not_decoded():
    broken = [{"bytes": b"not an image", "path": None}, {"bytes": png(pixels(1)), "path": None}]
    rows = Dataset.from_dict(
        {"img": broken, "label": [1, 0]}, features=Features({"img": Image(), "label": ClassLabel(names=["a", "b"])})
    )
    frame = _hub_frame("owner/name", "train", rows)
    assert [value["bytes"] for value in frame.read("img")] == [b"not an image", png(pixels(1))]
    assert frame.read("label") == [1, 0]
    assert frame.place(1) == "the hub's owner/name, split `train`, row 1"


def one_by_one(column):
    return [column[row] for row in range(len(column))]


def test_columns_read_one_at_a_time_hold_what_reading_all_gives(parquet_folder, tmp_path):
    folder = write_image_folder(tmp_path / "images", SIX)
    rows = Dataset.from_dict(
        {"img": [{"bytes": png(pixels(row)), "path": None} for row in range(3)], "label": [1, 0, 1]},
        features=Features({"img": Image(), "label": ClassLabel(names=["a", "b"])}),
    )
    frames = [*read_frames(str(parquet_folder), ("train", "test")), *read_frames(str(folder), ("train", "test"))]
    for frame in [*frames, _hub_frame("owner/name", "train", rows)]:
        image = next(name for name, kind in frame.features.items() if isinstance(kind, Image))
        assert one_by_one(frame.column(image)) == frame.read(image)
        assert len(frame.read(image)) > 1
        assert one_by_one(pickle.loads(pickle.dumps(frame.column(image)))) == frame.read(image)  # as sent to a process


def test_a_split_to_be_made_must_not_be_there(parquet_folder, tmp_path):
    message = r"`data.eval_fraction` must be left out where there is an evaluation split, and .* has `test`"
    with pytest.raises(ValueError, match=message):
        read_frames(str(parquet_folder), ("train",), absent="test")
    with pytest.raises(ValueError, match=message):
        read_frames(str(write_image_folder(tmp_path / "images", SIX)), ("train",), absent="test")
    (train,) = read_frames(str(parquet_folder), ("train",), absent="validation")
    assert len(train.read("kind")) == 12


def test_a_split_to_be_made_must_not_be_on_the_hub(monkeypatch):
    rows = Dataset.from_dict({"label": [0]})
    monkeypatch.setattr("logitkd.data.readers.load_dataset", lambda _: datasets.DatasetDict(train=rows, test=rows))
    with pytest.raises(ValueError, match=r"and the hub's owner/name has `test`"):
        _hub_frames("owner/name", ("train",), absent="test")
    assert len(_hub_frames("owner/name", ("train",), absent="valid")) == 1
