import io

import numpy as np
import pytest
import torch
from PIL import Image

from logitkd.data import mask_files
from logitkd.data.mask_files import Pairs, find_numbers, mask_palette, open_mask
from mask_files import numbers, png

MASK = numbers(3)


def place(row):
    return f"row {row} of the files"


def wide(array):
    buffer = io.BytesIO()
    Image.fromarray(array.astype(np.uint16)).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(MASK), MASK),
        (png(MASK, "P"), MASK),
        (png(MASK, format="tiff"), MASK),
        (png(MASK, "P", bits=2, palette=[0, 0, 0, 255, 0, 0]), MASK & 3),
        (wide(MASK), MASK),
        (wide(MASK.astype(int) + 30000), MASK.astype(int) + 30000),
        (png(np.where(MASK == 1, 255, 0).astype(np.uint8), "1"), MASK == 1),
    ],
    ids=["gray", "palette", "tiff", "palette of 2 bits", "16 bits", "16 bits and large numbers", "1 bit"],
)
def test_numbers_are_what_was_written(content, expected):
    assert np.array_equal(open_mask(content, 0, place), expected)


def gray_of_few_bits():
    """A PNG of gray values 0 to 3, in 2 bits each: Pillow would read 0, 85, 170, 255."""
    import struct
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0)
    body = zlib.compress(b"\0" + bytes([0b00011011]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            png(np.stack([MASK] * 3, 2)),
            r"^masks must be images of one channel .*, got RGB instead of indices .* in row 7 of .*turn each",
        ),
        (png(MASK, "RGBA"), "got RGBA instead of indices"),
        (png(MASK, "LA"), "got LA instead of indices"),
        (png(MASK, format="jpeg"), "masks must be in a format that keeps every number, such as PNG, got JPEG in row 7"),
        (png(MASK, "F", format="tiff"), "got F instead of indices"),
        (gray_of_few_bits(), "with a palette, got gray of 2 or 4 bits in row 7"),
        (png(MASK)[:-30], "^cannot decode the mask in row 7 of the files: "),
        (b"nothing", "^cannot decode the mask in row 7 of the files: cannot identify"),
        ({"bytes": None, "path": "/no/such.png"}, "row 7 of the files: .*such.png"),
    ],
)
def test_what_is_no_mask_is_named(content, message):
    with pytest.raises(ValueError, match=message):
        open_mask(content, 7, place)


def test_what_numbers_there_are():
    masks = [np.uint8([[0, 0, 2], [255, 2, 2]]), None, {"bytes": None, "path": None}, np.uint8([[7]])]
    column = [png(mask) if isinstance(mask, np.ndarray) else mask for mask in masks]
    expected = [[0, 2, 3, 0, 2], [0, 2, 3, 2, 3], [0, 2, 3, 255, 1], [3, 1, 1, 7, 1]]
    assert find_numbers(column, range(4), place).tolist() == expected
    assert find_numbers(column, [3, 1], place).tolist() == [[0, 1, 1, 7, 1]]
    assert find_numbers(column, [1], place).shape == (0, 5)
    assert find_numbers([wide(np.array([[3, 65535]]))], [0], place).tolist() == [[0, 1, 2, 3, 1], [0, 1, 2, 65535, 1]]


def test_the_same_bytes_are_decoded_once(tmp_path, monkeypatch):
    column = [png(numbers(row)) for row in range(3)]
    first = find_numbers(column, range(3), place)
    for row, content in enumerate(column):
        (tmp_path / f"{row}.png").write_bytes(content)
    files = [{"bytes": None, "path": str(tmp_path / f"{row}.png")} for row in range(3)]
    opened = []
    monkeypatch.setattr(mask_files, "open_mask", lambda *about: opened.append(about[1]) or open_mask(*about))
    assert torch.equal(find_numbers(files, range(3), place), first)
    assert opened == []
    (tmp_path / "1.png").write_bytes(png(numbers(9)))
    changed = find_numbers(files, range(3), place)
    assert sorted(opened) == [0, 1, 2]
    assert not torch.equal(changed, first)


def test_a_palette_of_colors_is_one():
    assert mask_palette(png(MASK, "P", [9, 8, 7, 1, 2, 3, 0, 0, 0]), 0, place)[:3] == [(9, 8, 7), (1, 2, 3), (0, 0, 0)]
    ramp = [shade for number in range(256) for shade in [number] * 3]
    assert mask_palette(png(MASK, "P", ramp), 0, place) is None  # what Pillow gives numbers that nobody gave colors
    assert mask_palette(png(MASK), 0, place) is None


def test_headers_tell_sizes(tmp_path):
    (tmp_path / "1.png").write_bytes(png(np.zeros((3, 5, 3), np.uint8)))
    column = [png(np.zeros((4, 7, 3), np.uint8))[:-20], {"bytes": None, "path": str(tmp_path / "1.png")}]  # one cut off
    assert Pairs("here", column, None, place, place).sizes([1, 0]).tolist() == [[3, 5], [4, 7]]
    for bad, message in (
        (None, "is missing .null. in row 0"),
        (b"x", "cannot decode the image in row 0"),
        (wide(MASK), "8 bits"),
    ):
        with pytest.raises(ValueError, match=message):
            Pairs("here", [bad], None, place, place).sizes([0])
