import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from image_files import pixels, png
from logitkd.data import decode
from logitkd.data.decode import decode_images


def place(row):
    return f"some/file, row {row}"


def encode(image: Image.Image, kind="png", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def as_array(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def test_pixels_come_back(tmp_path):
    (tmp_path / "two.png").write_bytes(png(pixels(2)))
    values = [
        png(pixels(0)),
        {"bytes": png(pixels(1)), "path": None},
        {"bytes": None, "path": str(tmp_path / "two.png")},
        encode(Image.fromarray(pixels(3)), "webp", lossless=True),
        encode(Image.fromarray(pixels(4)), "bmp"),
    ]
    images = decode_images(values, place)
    assert images.dtype == torch.uint8
    assert images.shape == (5, 3, 6, 5)
    assert images.is_contiguous()
    for row in range(5):
        np.testing.assert_array_equal(as_array(images[row]), pixels(row))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_8_bit_mode_becomes_rgb(mode):
    image = Image.fromarray(pixels(0)).convert(mode)
    content = encode(image, "jpeg", quality=100) if mode == "CMYK" else encode(image)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(as_array(decode_images([content], place)[0]), expected)


def test_16_bit_pixels_are_refused_not_clipped():
    content = encode(Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)))
    with pytest.raises(ValueError, match=r"some/file, row 0: pixels must have at most 8 bits a channel, got .* I;16"):
        decode_images([content], place)


def deep_png(channels: int) -> bytes:
    """A 2x2 PNG of 16 bits a channel, which Pillow reads and does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 2, 2, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = (b"\0" + bytes(range(4 * channels))) * 2
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bits_in_each_of_several_channels_are_refused_not_cut(channels):
    with pytest.raises(ValueError, match=r"some/file, row 0: pixels must have at most 8 bits a channel, got \w+;16B"):
        decode_images([deep_png(channels)], place)


def corrupt(kind):
    content = encode(Image.fromarray(pixels(1, 32, 32)), kind)
    return {"cut": content[: len(content) // 2], "garbage": b"not an image", "empty": b""}


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp"])
def test_a_corrupt_image_is_named(kind, damage):
    values = [png(pixels(0, 32, 32)), corrupt(kind)[damage]]
    with pytest.raises(ValueError, match=r"cannot decode the image in some/file, row 1: "):
        decode_images(values, place)


def test_a_changed_byte_in_a_png_is_named():
    content = bytearray(png(pixels(0, 32, 32)))
    content[len(content) // 2] ^= 255
    with pytest.raises(ValueError, match=r"cannot decode the image in some/file, row 0: "):
        decode_images([bytes(content)], place)


@pytest.mark.parametrize("value", [None, {"bytes": None, "path": None}])
def test_a_missing_image_is_named(value):
    with pytest.raises(ValueError, match=r"the image is missing \(null\) in some/file, row 1"):
        decode_images([png(pixels(0)), value], place)


def test_a_missing_image_file_is_named():
    with pytest.raises(ValueError, match=r"cannot read the image in some/file, row 0: .*nowhere.png"):
        decode_images([{"bytes": None, "path": "nowhere.png"}], place)


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"6x5 as in some/file, row 0, got 5x6 in some/file, row 2"):
        decode_images([png(pixels(0)), png(pixels(1)), png(pixels(2, 5, 6))], place)


def test_many_images_are_decoded_once(monkeypatch):
    monkeypatch.setattr(decode, "CACHE_FROM", 4)
    values = [png(pixels(row)) for row in range(4)]
    first = decode_images(values, place)
    monkeypatch.setattr(decode, "_decode_all", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(decode_images(values, place), first)


def test_what_another_version_decoded_is_decoded_again(monkeypatch):
    monkeypatch.setattr(decode, "CACHE_FROM", 2)
    values = [png(pixels(row)) for row in range(2)]
    decode_images(values, place)
    monkeypatch.setattr(decode, "DECODING", decode.DECODING + 1)
    monkeypatch.setattr(decode, "_decode_all", lambda *_: torch.zeros(2, 3, 6, 5, dtype=torch.uint8))
    assert not decode_images(values, place).any()


@pytest.mark.parametrize("change", ["one image", "their order", "their borders"])
def test_other_images_are_another_cache_entry(monkeypatch, change):
    monkeypatch.setattr(decode, "CACHE_FROM", 2)
    values = [encode(Image.fromarray(pixels(row)), "bmp") for row in range(3)]
    decode_images(values, place)
    if change == "one image":
        values[1] = png(pixels(9))
    elif change == "their order":
        values = values[::-1]
    else:  # the same bytes in all, cut elsewhere: bmp ignores what follows the pixels
        values = [values[0], values[1] + values[2][:1], values[2]]
    expected = torch.stack([decode_images([value], place)[0] for value in values])
    assert torch.equal(decode_images(values, place), expected)
