"""Class folders: splits, classes, files out of place; of images here, of texts in ``test_text_folder.py``."""

import os
import shutil

import pytest

from image_files import SIX, pixels, png, write_image_folder
from logitkd.data.readers import read_frames


@pytest.mark.parametrize("name", ["plain", "with [brackets] and *"])
def test_image_folder(tmp_path, name):
    folder = write_image_folder(tmp_path / name, SIX)
    (folder / "train" / "ant" / "notes.txt").write_text("not an image")
    train, test = read_frames(str(folder), ("train", "test"))
    assert train.features["label"].names == test.features["label"].names == ["ant", "bee"]
    assert train.read("label") == [0, 0, 1]
    assert test.read("label") == [0, 1]
    assert test.place(1) == str(folder / "test" / "bee" / "7.png")
    assert train.read("image")[2]["path"] == str(folder / "train" / "bee" / "1.png")


@pytest.mark.parametrize("name", ["train/caf\udce9/1.png", "train/ant/\udce9.png"])
def test_names_that_are_no_text_are_named(tmp_path, name):
    write_image_folder(tmp_path, [*SIX, name])
    with pytest.raises(ValueError, match=r"must be UTF-8 text, got 1 that are not, the first '.*\\udce9.*'\. Rename them"):
        read_frames(str(tmp_path), ("train", "test"))


def test_image_folder_split_called_val_stays_val(tmp_path):
    folder = write_image_folder(tmp_path, ["train/ant/1.png", "val/ant/2.png"])
    _, val = read_frames(str(folder), ("train", "val"))
    assert val.place(0) == str(folder / "val" / "ant" / "2.png")


def test_image_folder_missing_split(tmp_path):
    write_image_folder(tmp_path, SIX)
    with pytest.raises(ValueError, match=r"no split `dev` in .* Splits there: test, train\."):
        read_frames(str(tmp_path), ("train", "dev"))


@pytest.mark.parametrize("name", ["train/3.png", "train/ant/more/3.png"])
def test_images_outside_class_folders_are_named(tmp_path, name):
    write_image_folder(tmp_path, [*SIX, name])
    with pytest.raises(ValueError, match=f"{name} is not in a class folder"):
        read_frames(str(tmp_path), ("train", "test"))


def test_an_empty_image_folder_split(tmp_path):
    write_image_folder(tmp_path, SIX)
    (tmp_path / "empty" / "ant").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"split `empty` of .* is empty"):
        read_frames(str(tmp_path), ("train", "empty"))


def test_image_folder_class_without_any_image(tmp_path):
    folder = write_image_folder(tmp_path, SIX)
    for split in ("train", "test"):
        (folder / split / "cat").mkdir()
        (folder / split / ".cache").mkdir()
    with pytest.raises(ValueError, match=r"class folders must hold images, got none for cat in "):
        read_frames(str(folder), ("train", "test"))
    (folder / "test" / "cat" / "1.png").write_bytes(png(pixels(0)))
    read_frames(str(folder), ("train", "test"))  # a class that is only evaluated is for load_images to refuse


def test_a_folder_of_class_folders_is_one_split_where_the_other_is_made_of_it(tmp_path):
    folder = write_image_folder(tmp_path, ["ant/1.png", "ant/2.png", "bee/1.png", "test/1.png"])  # `test` is a class here
    (train,) = read_frames(str(folder), ("train",), absent="test")
    assert train.features["label"].names == ["ant", "bee", "test"]
    assert train.read("label") == [0, 0, 1, 2]
    assert train.place(2) == str(folder / "bee" / "1.png")
    with pytest.raises(ValueError, match=r"no split `train` in .*Splits there: ant, bee, test\..*give `data.eval_fraction`"):
        read_frames(str(folder), ("train", "valid"))
    (folder / "3.png").write_bytes(png(pixels(3)))
    with pytest.raises(ValueError, match=r"3.png is not in a class folder: images belong at .*/CLASS/NAME"):
        read_frames(str(folder), ("train",), absent="test")


def test_a_folder_of_splits_is_not_taken_for_one_of_classes(tmp_path):
    folder = write_image_folder(tmp_path, ["training/ant/1.png", "val/ant/1.png"])
    with pytest.raises(ValueError, match=r"no split `train` in .*Splits there: training, val\."):
        read_frames(str(folder), ("train",), absent="test")
    (train,) = read_frames(str(folder), ("training",), absent="test")
    assert train.read("label") == [0]


def relink(folder, names):
    """Replace files and folders by links to a disk that is not there."""
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to(f"/gone/{name}")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ["train/ant/2.png"],
            r"1 of 2 images in {0}/train/ant\. The first, {0}/train/ant/2\.png, is a link to /gone/train/ant/2",
        ),
        (
            ["train/ant/1.png", "train/ant/2.png", "test/ant/9.png"],
            r"2 of 2 images in {0}/train/ant, 1 of 1 images in {0}/test/ant",
        ),
        (
            ["train/bee", "test/bee"],
            r"1 of 2 folders in {0}/train, 1 of 2 folders in {0}/test\. The first, {0}/train/bee, is a",
        ),
        (["test"], r"1 of 2 folders in {0}\. The first, {0}/test, is a link to /gone/test, which is not there: is a disk not"),
    ],
)
@pytest.mark.parametrize("unlabelled", [False, True])
def test_what_is_there_but_cannot_be_read_is_not_absent(tmp_path, names, words, unlabelled):
    folder = write_image_folder(tmp_path, SIX)
    relink(folder, names)
    with pytest.raises(ValueError, match="must be readable, but these are not: " + words.format(folder)):
        read_frames(str(folder), ("train", "test"), unlabelled=unlabelled)


def test_class_folders_on_a_disk_that_is_not_there(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / name).symlink_to(f"/gone/{name}")
    with pytest.raises(ValueError, match=f"must be readable, but these are not: 2 of 2 folders in {tmp_path}"):
        read_frames(str(tmp_path), ("train",), absent="test")


def test_links_that_lead_in_a_circle(tmp_path):
    folder = write_image_folder(tmp_path, SIX)
    (folder / "train" / "ant" / "x.png").symlink_to("x.png")
    with pytest.raises(ValueError, match="1 of 3 images in"):
        read_frames(str(folder), ("train", "test"))


def test_a_linked_folder_inside_a_class_counts_like_a_folder(tmp_path):
    folder = write_image_folder(tmp_path / "here", SIX)
    write_image_folder(tmp_path / "more", ["9.png"])
    (folder / "train" / "ant" / "more").symlink_to(tmp_path / "more")
    with pytest.raises(ValueError, match=r"train/ant/more/9\.png is not in a class folder"):
        read_frames(str(folder), ("train", "test"))
    (folder / "train" / "ant" / "more").unlink()
    (folder / "train" / "ant" / "up").symlink_to(folder / "train")
    with pytest.raises(ValueError, match=r"ant/up, is a link to .*train, a folder that it lies in itself\."):
        read_frames(str(folder), ("train", "test"))


def test_linked_class_folders_and_images_count_like_others(tmp_path):
    folder = write_image_folder(tmp_path / "here", SIX)
    os.rename(folder / "train" / "ant", tmp_path / "elsewhere")
    (folder / "train" / "ant").symlink_to(tmp_path / "elsewhere")
    (folder / "train" / "bee" / "2.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    train, test = read_frames(str(folder), ("train", "test"))
    assert train.features["label"].names == test.features["label"].names == ["ant", "bee"]
    assert train.read("label") == [0, 0, 1, 1]


def test_the_order_of_images_is_that_of_their_paths(tmp_path):
    """So that a fingerprint, and which images are held out, are the same everywhere."""
    names = [f"{kind}/{name}" for kind in ("ant", "ant-2", "Bee") for name in ("b.png", "10.PNG", "2.jpeg", "B.png")]
    folder = write_image_folder(tmp_path, names)
    (train,) = read_frames(str(folder), ("train",), absent="test")
    assert train.features["label"].names == ["Bee", "ant", "ant-2"]
    assert [value["path"] for value in train.read("image")] == sorted(str(folder / name) for name in names)
    assert train.read("label") == [0] * 4 + [2] * 4 + [1] * 4
