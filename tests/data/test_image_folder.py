"""Image folders: what is an image, what is none."""

import pytest

from image_files import SIX, write_image_folder
from logitkd.data.image_folder import images_under
from logitkd.data.readers import read_frames


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "old.zip", "._1.png", ".DS_Store", "1.png.txt"])
def test_what_is_no_image_changes_nothing(tmp_path, name):
    folder = write_image_folder(tmp_path, SIX)
    (folder / "train" / "ant" / name).write_text("file_name,label\n1.png,bee\n")
    train, _ = read_frames(str(folder), ("train", "test"))
    assert train.read("label") == [0, 0, 1]


def test_images_at_any_depth(tmp_path):
    folder = write_image_folder(tmp_path, ["b.PNG", "a/c/d.jpeg"])
    (folder / "notes.txt").write_text("no image")
    assert images_under(folder) == [str(folder / "a/c/d.jpeg"), str(folder / "b.PNG")]
    (folder / "a/e").mkdir()
    with pytest.raises(ValueError, match=r"a/e must hold images, got none in it or the folders in it"):
        images_under(folder / "a/e")
