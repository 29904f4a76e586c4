import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from image_files import pixels, png
from logitkd.data.encoded import EncodedSplit, whole


def place(row):
    return f"row {row} of the files"


def fingerprint(split):
    digest = hashlib.sha256()
    split.update(digest)
    return digest.hexdigest()


@pytest.fixture
def files():
    return [png(pixels(row, 4 + row, 9)) for row in range(6)]


def test_images_come_one_at_a_time_in_their_own_size(files):
    split = whole(files, torch.arange(6), place)
    assert len(split) == 6
    for row in range(6):
        assert split.image(row).mode == "RGB"
        assert np.array_equal(np.asarray(split.image(row)), pixels(row, 4 + row, 9))


def test_a_part_knows_its_rows(files):
    split = whole(files, torch.arange(6), place).take(torch.arange(6) % 2 == 1).take(torch.tensor([False, True, True]))
    assert split.labels.tolist() == [3, 5]
    assert np.array_equal(np.asarray(split.image(1)), pixels(5, 9, 9))
    files[5] = b"broken"
    with pytest.raises(ValueError, match=r"^cannot decode the image in row 5 of the files: "):
        split.image(1)


def test_the_fingerprint_sees_bytes_labels_and_order_and_not_how_they_are_kept(files, tmp_path):
    labels = torch.arange(6) % 2
    base = fingerprint(whole(files, labels, place))
    for row, content in enumerate(files):
        (tmp_path / f"{row}.png").write_bytes(content)
    paths = [{"path": str(tmp_path / f"{row}.png")} for row in range(6)]
    assert fingerprint(whole(paths, labels, place)) == base
    assert fingerprint(whole([{"bytes": content, "path": None} for content in files], labels, place)) == base
    assert fingerprint(whole([*files[:5], files[5] + b"\0"], labels, place)) != base  # the same pixels, another file
    assert fingerprint(whole(files, 1 - labels, place)) != base
    assert fingerprint(whole(files[::-1], labels, place)) != base
    assert fingerprint(EncodedSplit(files[::-1], torch.arange(6).flip(0), labels, place)) == base


def test_the_fingerprint_decodes_nothing_but_looks_at_headers(files, tmp_path):
    files[2] = files[2][:-40]
    split = whole(files, torch.zeros(6).long(), place)
    fingerprint(split)  # that its pixels are cut off only decoding shows
    with pytest.raises(ValueError, match="cannot decode the image in row 2 of the files"):
        split.image(2)
    files[4] = b"not an image"
    with pytest.raises(ValueError, match=r"^cannot decode the image in row 4 of the files: cannot identify"):
        fingerprint(split)
    deep = Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16))
    deep.save(tmp_path / "deep.png")
    files[3] = (tmp_path / "deep.png").read_bytes()
    for reader in (fingerprint, lambda split: split.image(3)):
        with pytest.raises(ValueError, match=r"row 3 of the files: pixels must have at most 8 bits a channel, got .*I;16"):
            reader(split)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the image is missing .null. in row 1 of the files"),
        ({"bytes": None, "path": None}, "the image is missing .null. in row 1 of the files"),
        ({"path": "/no/such.png"}, "cannot read the image in row 1 of the files: .*such.png"),
    ],
)
def test_what_is_missing_is_named(files, value, message):
    files[1] = value
    split = whole(files, torch.zeros(6).long(), place)
    with pytest.raises(ValueError, match=message):
        fingerprint(split)
    with pytest.raises(ValueError, match=message):
        split.image(1)
