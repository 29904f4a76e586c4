import re

import pytest

from logitkd.data.mask_folder import PairFolders, pair_folders, paired
from mask_files import write_scene_folders

ARRANGED = [
    ({"images/train": 1, "images/val": 1}, ["images/train", "images/val"]),
    ({"train/images": 1, "val/images": 1}, ["train/images", "val/images"]),
]


@pytest.mark.parametrize(("places", "found"), ARRANGED)
def test_two_ways_to_arrange_splits(tmp_path, places, found):
    write_scene_folders(tmp_path, places)
    folders = pair_folders(tmp_path, ("train", "val"), None, True)
    assert folders == [PairFolders(tmp_path / name, tmp_path / name.replace("images", "masks")) for name in found]


@pytest.mark.parametrize(("places", "found"), ARRANGED)
def test_a_share_of_one_split(tmp_path, places, found):
    write_scene_folders(tmp_path, places)
    assert pair_folders(tmp_path, ("train",), "test", True)[0].images == tmp_path / found[0]
    with pytest.raises(ValueError, match=r"`data.eval_fraction` must be left out where there is an evaluation split"):
        pair_folders(tmp_path, ("train",), "val", True)


def test_images_right_in_the_folder_are_one_split_of_any_name(tmp_path):
    write_scene_folders(tmp_path, {"images": 2})
    assert pair_folders(tmp_path, ("train",), "val", True) == [PairFolders(tmp_path / "images", tmp_path / "masks")]


def test_a_misspelt_split_is_not_all_of_them(tmp_path):
    write_scene_folders(tmp_path, {"images/train": 1, "images/test": 1})
    with pytest.raises(ValueError, match=r"there is no split `trian` in .*images\. Splits there: test, train\."):
        pair_folders(tmp_path, ("trian",), "val", True)


@pytest.mark.parametrize("names", [[], ["ant/1.png", "bee/2.png"]])
def test_a_folder_of_something_else(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    there = "ant, bee" if names else "none"
    with pytest.raises(ValueError, match=rf"must hold parquet files, or folders images/SPLIT .* got none .*There: {there}\.$"):
        pair_folders(tmp_path, ("train", "val"), None, True)


@pytest.mark.parametrize("lost", ["train", "val"])
def test_masks_may_be_absent_only_where_no_label_is_read(tmp_path, lost):
    write_scene_folders(tmp_path, {"images/train": 1, "images/val": 1})
    (tmp_path / "masks" / lost).rename(tmp_path / "gone")
    with pytest.raises(ValueError, match=rf"^the masks of split `{lost}` must be in .*{lost}, got no such folder\."):
        pair_folders(tmp_path, ("train", "val"), None, True)
    if lost == "train":
        assert len(pair_folders(tmp_path, ("train", "val"), None, False)) == 2
    else:
        with pytest.raises(ValueError, match=r"got no such folder\.$"):
            pair_folders(tmp_path, ("train", "val"), None, False)


FOLDERS = PairFolders("i", "m")


def pair(images, masks, **options):
    return paired(FOLDERS, [f"i/{name}" for name in images], [f"m/{name}" for name in masks], labelled=True, **options)


def test_pairs_have_one_place_and_name_whatever_the_suffix():
    masks = ["a.png", "b.1.png", "deep/a.png"]
    assert pair(["deep/a.jpg", "a.JPG", "b.1.jpeg"], masks) == ["m/deep/a.png", "m/a.png", "m/b.1.png"]


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (
            ["a.jpg", "b.jpg", "c.jpg"],
            ["a.png"],
            "every image must have a mask of its name in m, got none for 2 of 3, the first i/b.jpg, i/c.jpg. Then",
        ),
        (
            ["a.jpg"],
            ["a.png", "b.png"],
            "every mask must have an image of its name in i, got none for 1 of 2, the first m/b.png. Bring",
        ),
        (
            ["a.jpg"],
            ["deep/a.png"],
            "every image must have a mask of its name in m, got none for 1 of 1, the first i/a.jpg. Then",
        ),
        (["a.jpg", "a.png"], ["a.png"], "must differ by more than their suffix, got 2 that do not: i/a.jpg, i/a.png."),
        (["a.jpg"], ["a.bmp", "a.png"], "must differ by more than their suffix, got 2 that do not: m/a.bmp, m/a.png."),
    ],
)
def test_what_is_no_pair_is_named(images, masks, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pair(images, masks, advice=" Then")


def test_without_labels_images_need_no_masks():
    assert paired(FOLDERS, ["i/a.jpg", "i/b.jpg"], ["m/b.png"], labelled=False) == [None, "m/b.png"]
