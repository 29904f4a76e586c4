"""Writing masks: all at once or none, never in place of a file, each by a name that says whose it is."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from logitkd.data import Batch
from logitkd.data.unseen import Unseen
from logitkd.tasks.mask_answers import MaskAnswers, mask_names, mask_png

NAMES, COLORS = ("sky", "road", "tree"), ((1, 2, 3), (4, 5, 6), (7, 8, 9))


def answers(folder, **changes):
    return MaskAnswers(**{"classes": NAMES, "palette": COLORS, "top": None, "output": folder, **changes})


def examples(*files):
    return Unseen([(file, None) for file in files], SimpleNamespace())


def batch(*indices, size=(4, 6)):
    return Batch(None, torch.full((len(indices), *size), -1), torch.tensor(indices))


def logits(number, cells=(2, 3)):
    """A map whose every cell has class ``number``."""
    return torch.nn.functional.one_hot(torch.full((1, *cells), number), 3).movedim(-1, 1).float()


def test_masks_appear_together_when_all_are_done(tmp_path):
    given = answers(tmp_path / "new/out")
    with given.begin(["a.jpg", "b.jpg"], examples("a.jpg", "b.jpg")):
        (first,) = given.of({"out": logits(2), "aux": logits(0)}, batch(0))
        assert not (tmp_path / "new/out/a.png").exists()
        (second,) = given.of(logits(1), batch(1, size=(5, 5)))
    assert sorted(path.name for path in (tmp_path / "new/out").iterdir()) == ["a.png", "b.png"]
    assert (first.file, first.mask) == ("a.jpg", str(tmp_path / "new/out/a.png"))
    assert (first.shares, second.shares["road"]) == ({"sky": 0, "road": 0, "tree": 1}, 1)
    with Image.open(second.mask) as image:
        assert (image.mode, image.size) == ("P", (5, 5))
        assert (np.asarray(image) == 1).all()


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_where_something_fails(tmp_path, there):
    folder = tmp_path / "new/out"
    if there:
        folder.mkdir(parents=True)
        (folder / "mine.txt").write_text("mine")
    given = answers(folder)
    what = torch.cat([logits(0), logits(0) * float("nan")])
    with (
        pytest.raises(ValueError, match=r"must be numbers, got NaN or infinity for c\.jpg\."),
        given.begin([], examples("a.jpg", "b.jpg", "c.jpg")),
    ):
        given.of(torch.cat([logits(1), what]), batch(0, 1, 2))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == (["mine.txt"] if there else [])
    assert (tmp_path / "new").exists() == there


def test_a_file_is_never_replaced(tmp_path):
    (tmp_path / "b.png").write_text("corrected by hand")
    given = answers(tmp_path)
    with pytest.raises(FileExistsError, match=r"there is .*b\.png already, perhaps corrected by hand"):
        given.begin([], examples("a.jpg", "b.jpg"))
    (tmp_path / "b.png").unlink()
    with pytest.raises(FileExistsError, match=r"a\.png already"), given.begin([], examples("a.jpg")):
        (tmp_path / "a.png").write_text("another process")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["another process"]


def test_two_masks_of_one_name_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png would be that of x/a\.jpg and of y/a\.bmp\. Give them one after the other"):
        answers(tmp_path / "out").begin(["x/a.jpg", "y/a.bmp"], examples("x/a.jpg", "y/a.bmp"))
    with pytest.raises(ValueError, match=r"a\.png would be that of x/a\.jpg and of x/a\.png"):
        answers(tmp_path / "out").begin(["x"], examples("x/a.jpg", "x/a.png"))
    assert not (tmp_path / "out").exists()


def test_names_keep_the_folders_below_what_was_given():
    names = mask_names(["p/a/1.jpg", "p/1.jpg", "q/2.x.jpg", "/r/3.png"], ["p/", "q/2.x.jpg", "/r"])
    assert [name.as_posix() for name in names] == ["a/1.png", "1.png", "2.x.png", "3.png"]
    assert [name.as_posix() for name in mask_names(["a/1.jpg", "2.jpg"], ["."])] == ["a/1.png", "2.png"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"output": None}, ValueError, "`output` must be given for a run on masks: the folder that the masks are written to"),
        ({"top": 3}, ValueError, "`top` must be left out where each pixel gets its most probable class, got 3."),
        ({"classes": range(257)}, ValueError, "masks of at most 256 classes can be written, got a run of 257."),
        ({"output": __file__}, NotADirectoryError, "`output` must be a folder, but .* is a file"),
    ],
)
def test_refused(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        answers(**{"folder": tmp_path, **changes})


def test_256_classes_fit():
    numbers = torch.arange(256).view(16, 16)
    palette = [(number, 0, 255 - number) for number in range(256)]
    with Image.open(BytesIO(mask_png(numbers, palette))) as image:
        assert np.array_equal(np.asarray(image), numbers.numpy())
        assert image.getpalette()[-3:] == [255, 0, 0]
