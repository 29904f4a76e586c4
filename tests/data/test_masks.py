import os
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from logitkd.data import UNLABELLED, VOID, MaskConfig, load_masks
from logitkd.data.masks import mask_fingerprint
from logitkd.data.palettes import default_palette
from mask_files import HEIGHT, WIDTH, colours, numbers, png, write_masked_parquet, write_scene_folders, write_scenes


def classes_of(mask):
    mask = mask.astype(np.int16)
    return np.where(mask == 255, VOID, mask)


def age(folder):
    for path in folder.rglob("*"):
        os.utime(path, ns=(0, time.time_ns() - 60 * 10**9))


@pytest.fixture(autouse=True)
def _no_warnings():
    """Nothing warns unless a test says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def check_scenes(data, train=range(5), val=range(100, 103)):
    for split, rows in ((data.train, train), (data.eval, val)):
        assert len(split) == len(rows)
        for index, row in enumerate(rows):
            assert np.array_equal(np.asarray(split.image(index)), colours(numbers(row)))
            assert np.array_equal(split.mask(index), classes_of(numbers(row)))
            assert split.mask(index).dtype == np.int16
        assert split.sizes.tolist() == [[HEIGHT, WIDTH]] * len(rows)
        assert split.size == (HEIGHT, WIDTH)
        assert split.unlabelled == 0


def test_parquet(tmp_path):
    data = load_masks(MaskConfig(str(write_scenes(tmp_path))))
    check_scenes(data)
    assert data.classes == ("0", "1", "2")
    every = np.stack([numbers(row) for row in range(5)])
    assert data.counts.tolist() == [(every == number).sum() for number in range(3)]
    assert data.counts.dtype == torch.int64
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert data.palette == default_palette(3)
    assert data.summary() == "5 training (12x16) and 3 evaluation images with masks of 3 classes: 0, 1, 2"


@pytest.mark.parametrize(
    "places", [("images/train", "images/val"), ("train/images", "val/images"), ("images/train/a/b", "images/val/c")]
)
def test_folders(tmp_path, places, monkeypatch):
    write_scene_folders(tmp_path, dict.fromkeys(places[:1], 5))
    write_scene_folders(tmp_path, dict.fromkeys(places[1:], 3), first=100)
    check_scenes(load_masks(MaskConfig(str(tmp_path))))
    monkeypatch.chdir(tmp_path.parent)
    check_scenes(load_masks(MaskConfig(tmp_path.name)))


def test_hub(tmp_path, monkeypatch):
    import datasets

    folder = write_scenes(tmp_path / "scenes")
    files = {split: str(folder / f"{split}.parquet") for split in ("train", "val")}
    rows = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    monkeypatch.setattr("logitkd.data.readers.load_dataset", lambda source: rows)
    check_scenes(load_masks(MaskConfig("me/scenes")))
    assert mask_fingerprint(MaskConfig("me/scenes")) is None


def test_camvid():
    root = Path(os.environ.get("LOGITKD_DATA") or Path(__file__).parents[3] / "shared" / "data") / "camvid"
    if not root.is_dir():
        pytest.skip("needs CamVid: set LOGITKD_DATA to the folder that has camvid/")
    data = load_masks(MaskConfig(str(root), eval_split="val"))
    assert (len(data.train), len(data.eval), len(data.classes), data.train.size) == (367, 101, 11, (240, 320))
    assert int(data.counts.argmax()) == 3  # the road


@pytest.mark.parametrize(("fraction", "held_out"), [(0.4, 2), (0.01, 1), (0.99, 4)])
def test_the_last_images_are_held_out(tmp_path, fraction, held_out):
    for config in (
        MaskConfig(str(write_scenes(tmp_path / "tables")), eval_split="test"),
        MaskConfig(str(write_scene_folders(tmp_path / "files", {"images": 5}))),
    ):
        data = load_masks(replace(config, eval_fraction=fraction))
        check_scenes(data, range(5 - held_out), range(5 - held_out, 5))


def test_a_single_image_cannot_be_shared(tmp_path):
    config = MaskConfig(str(write_scenes(tmp_path, 1)), eval_split="test", eval_fraction=0.5)
    with pytest.raises(ValueError, match=r"`data.eval_fraction` must leave images to train on, but .* has a single one\."):
        load_masks(config)


def test_names_and_palette(tmp_path):
    folder = str(write_scenes(tmp_path))
    config = MaskConfig(folder, classes=("road", "sky", "car"), palette=((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    data = load_masks(config)
    assert (data.classes, data.palette) == (("road", "sky", "car"), config.palette)
    with pytest.raises(ValueError, match=r"`data.palette` must have a color for each of the 3 classes, got 2\."):
        load_masks(replace(config, classes=None, palette=config.palette[:2]))


def test_the_palette_of_the_masks(tmp_path):
    colors = [10, 0, 0, 0, 20, 0, 0, 0, 30]
    write_masked_parquet(tmp_path / "train.parquet", [png(numbers(row), "P", colors) for row in range(2)])
    write_masked_parquet(tmp_path / "val.parquet", [numbers(5)])
    data = load_masks(MaskConfig(str(tmp_path)))
    assert data.palette == ((10, 0, 0), (0, 20, 0), (0, 0, 30))
    assert np.array_equal(data.train.mask(1), classes_of(numbers(1)))


@pytest.mark.parametrize("ignored", [0, 255])
def test_ignored_numbers_are_no_class_and_0_is_a_number_too(tmp_path, ignored):
    masks = [np.where(numbers(row, classes=4) == 255, 0, numbers(row, classes=4)) for row in range(4)]
    masks = [np.where(mask == 0, ignored, mask).astype(np.uint8) for mask in masks]
    write_masked_parquet(tmp_path / "train.parquet", masks[:3])
    write_masked_parquet(tmp_path / "val.parquet", masks[3:])
    config = MaskConfig(str(tmp_path), ignore_index=ignored)
    if ignored == 255:  # then there are no pixels of class 0
        with pytest.warns(UserWarning, match=r"^no mask has a pixel of 1 of the 4 classes \(0\): nothing teaches them"):
            data = load_masks(config)
    else:
        data = load_masks(config)
    assert data.classes == ("0", "1", "2", "3")
    assert data.counts.tolist() == [0, *((np.stack(masks[:3]) == number).sum() for number in (1, 2, 3))]
    assert np.array_equal(data.train.mask(0) == VOID, masks[0] == ignored)


def test_nothing_is_ignored_without_such_a_number(tmp_path):
    masks = [np.minimum(numbers(row), 2) for row in range(3)]
    write_masked_parquet(tmp_path / "train.parquet", masks)
    write_masked_parquet(tmp_path / "val.parquet", masks)
    data = load_masks(MaskConfig(str(tmp_path), ignore_index=None))
    assert int(data.counts.sum()) == 3 * HEIGHT * WIDTH
    with pytest.warns(UserWarning, match=r"no mask has a pixel of 252 of the 256 classes \(3, 4, 5, 6, 7, ... \(247 more\)\)"):
        assert len(load_masks(MaskConfig(str(write_scenes(tmp_path / "void")), ignore_index=None)).classes) == 256


def write(folder, train, val=None, **options):
    write_masked_parquet(folder / "train.parquet", train, **options)
    write_masked_parquet(folder / "val.parquet", val or [numbers(100)])
    return MaskConfig(str(folder))


def with_number(number, row=1, count=1):
    mask = numbers(row)
    mask.flat[:count] = number
    return mask


@pytest.mark.parametrize(
    ("train", "changes", "message"),
    [
        (
            [numbers(0), with_number(9), with_number(12)],
            {"classes": ("a", "b", "c")},
            r"^class numbers in masks must be in \[0, 2\] \(3 names in `data.classes`\), or `data.ignore_index` \(255\), got 9,"
            r" 12 in 2 of 3 masks, the first in .*train.parquet, row 1\. If 9 marks pixels without a class, give"
            r" `data.ignore_index: 9`; if it is a class, name it in `data.classes`: there must be a name for every number\.$",
        ),
        ([numbers(0), numbers(1)], {"classes": ("a", "b")}, r"must be in \[0, 1\] \(2 names .* got 2 in 2 of 2 masks"),
        ([numbers(0)], {"classes": ("a", "b", "c"), "ignore_index": None}, r"\(3 names in `data.classes`\), got 255 in 1 of 1"),
        ([numbers(0).astype(np.uint16) + 40000], {}, r"in \[0, 32766\], or `data.ignore_index` \(255\), got 40000, 40001"),
        (
            [np.where(numbers(0) == 255, 255, 0).astype(np.uint8)],
            {},
            r"masks must have pixels of at least 2 classes, got `0` alone in .*train`: there is nothing to tell apart\.",
        ),
        ([np.full((HEIGHT, WIDTH), 255, np.uint8)], {}, "masks must have pixels of at least 2 classes, got none in"),
        ([numbers(0)[:6, :8]], {"images": [colours(numbers(0))]}, r"have the size of their images .*, 12x16, got 6x8 in "),
        ([np.stack([numbers(0)] * 3, 2)], {"images": [colours(numbers(0))]}, "got RGB instead of indices .*parquet, row 0"),
        ([None, None], {}, r"^every mask of .*split `train` is missing\. To train on the teacher alone, .* `labels: none`\.$"),
        ([np.minimum(numbers(0), 1)], {}, r"must have training pixels, got none of 2\. Are classes numbered alike"),
    ],
    ids=["range", "names", "no void", "huge", "one class", "all ignored", "size", "RGB", "missing", "untaught"],
)  # fmt: skip
def test_masks_that_do_not_fit_are_named(tmp_path, train, changes, message):
    config = write(tmp_path, train, images=changes.pop("images", None))
    with pytest.raises(ValueError, match=message):
        load_masks(replace(config, **changes))


def test_a_folder_names_the_mask_and_its_image(tmp_path):
    write_scene_folders(tmp_path, {"images/train": 2, "images/val": 1})
    (tmp_path / "masks/train/1.png").write_bytes(png(numbers(1)[:6]))
    with pytest.raises(ValueError, match=r"got 6x16 in .*masks/train/1\.png .*Resize the masks by nearest neighbour"):
        load_masks(MaskConfig(str(tmp_path)))
    turned = Image.open(tmp_path / "images/train/1.png").rotate(90, expand=True)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "images/train/1.png", exif=exif)
    (tmp_path / "masks/train/1.png").write_bytes(png(numbers(1)))
    with pytest.raises(ValueError, match=r"16x12, got 12x16 in .*\(EXIF\), which is not done here: save it upright"):
        load_masks(MaskConfig(str(tmp_path)))
    (tmp_path / "masks/train/1.png").unlink()
    with pytest.raises(
        ValueError, match=r"every image must have a mask .* the first .*images/train/1\.png\. To train .* `labels: none`"
    ):
        load_masks(MaskConfig(str(tmp_path)))


def test_a_class_that_the_evaluation_lacks_is_told(tmp_path):
    config = write(tmp_path, [numbers(0)], [np.where(numbers(3) == 2, 1, numbers(3)).astype(np.uint8)])
    with pytest.warns(UserWarning, match=r"^the evaluation split has no pixel of 1 of the 3 classes in training \(2\)") as told:
        load_masks(config)
    assert told[0].filename == __file__


def test_an_evaluation_without_a_class_would_score_nothing(tmp_path):
    config = write(tmp_path, [numbers(0)], [np.full((HEIGHT, WIDTH), 255, np.uint8)])
    for labels in ("given", "none"):
        with pytest.raises(ValueError, match=r"^masks to evaluate on must have pixels of a class, .*`val` are 255, which"):
            load_masks(config, labels=labels)


def test_training_without_labels_is_no_way_around_masks_to_evaluate_on(tmp_path):
    write_scene_folders(tmp_path, {"images/train": 2, "images/val": 2})
    (tmp_path / "masks/val/3.png").unlink()
    with pytest.raises(ValueError, match=r"must have a mask .* the first .*images/val/3\.png\.$"):
        load_masks(MaskConfig(str(tmp_path)))


def test_images_without_a_mask(tmp_path):
    config = write(tmp_path, [numbers(0), None, numbers(2)])
    data = load_masks(config)
    assert data.train.unlabelled == 1
    assert (data.train.mask(1) == UNLABELLED).all()
    assert data.train.mask(1).shape == (HEIGHT, WIDTH)
    assert np.array_equal(data.train.mask(2), classes_of(numbers(2)))
    assert int(data.counts.sum()) == 2 * HEIGHT * (WIDTH - 1)
    config = write(tmp_path, [numbers(0)], [numbers(1), None, None])
    with pytest.raises(
        ValueError, match=r"^every image to evaluate on must have a mask, got none for 2 of 3, .* in .*val.parquet, row 1"
    ):
        load_masks(config)


def test_without_labels_training_masks_are_not_looked_at(tmp_path):
    config = write(tmp_path, [b"no mask at all", with_number(200, count=9)])
    data = load_masks(config, labels="none")
    assert (data.train.unlabelled, data.eval.unlabelled, data.counts.tolist()) == (2, 0, [0, 0, 0])
    assert (data.train.mask(1) == UNLABELLED).all()
    assert np.array_equal(data.eval.mask(0), classes_of(numbers(100)))
    from datasets import load_dataset

    path = str(tmp_path / "train.parquet")
    load_dataset("parquet", data_files=path, cache_dir=str(tmp_path / "cache"), split="train").remove_columns(
        "mask"
    ).to_parquet(path)
    assert load_masks(config, labels="none").train.unlabelled == 2
    with pytest.raises(ValueError, match=r"`data.mask_column` names `mask`, which .*train` does not have.*`labels: none`\.$"):
        load_masks(config)
    write_scene_folders(tmp_path / "files", {"images/train": 2, "images/val": 2})
    for path in (tmp_path / "files/masks/train").iterdir():
        path.unlink()
    (tmp_path / "files/masks/train").rmdir()
    assert load_masks(MaskConfig(str(tmp_path / "files")), labels="none").train.unlabelled == 2


def test_without_labels_a_share_needs_only_its_own_masks(tmp_path):
    write_scene_folders(tmp_path, {"images": 4})
    (tmp_path / "masks/1.png").unlink()
    config = MaskConfig(str(tmp_path), eval_fraction=0.5)
    data = load_masks(config, labels="none")
    assert (data.train.unlabelled, data.eval.unlabelled) == (2, 0)
    assert np.array_equal(data.eval.mask(0), classes_of(numbers(2)))
    (tmp_path / "masks/3.png").unlink()
    with pytest.raises(
        ValueError, match=r"^every image to evaluate on must have a mask, got none for 1 of 2, .*images/3\.png\.$"
    ):
        load_masks(config, labels="none")


def test_no_such_labels():
    with pytest.raises(ValueError, match="`labels` must be one of 'given', 'none', got 'some'"):
        load_masks(MaskConfig("me/scenes"), labels="some")


def test_the_fingerprint_is_known_without_reading(tmp_path, monkeypatch):
    config = MaskConfig(str(write_scenes(tmp_path)))
    age(tmp_path)
    assert mask_fingerprint(config) is None
    data = load_masks(config)
    assert mask_fingerprint(config) is None  # nobody has asked for it yet
    known = data.fingerprint
    monkeypatch.setattr("logitkd.data.masks.content_hashes", None)
    shaped = {"crop_size": (4, 4), "image_size": (9, 9), "scale": (1, 1), "flip": False, "color_jitter": 0.5, "workers": 3}
    other = replace(config, **shaped, mean=(0.5,) * 3, std=(0.2,) * 3, palette=((1, 1, 1),) * 3)
    assert mask_fingerprint(config) == mask_fingerprint(other) == load_masks(other).fingerprint == known
    assert mask_fingerprint(config, "none") is None
    (tmp_path / "train.parquet").touch()
    assert mask_fingerprint(config) is None


def test_the_fingerprint_is_of_images_masks_order_names_and_what_is_ignored(tmp_path):
    masks = [numbers(row) for row in range(3)]
    images = [colours(mask) for mask in masks]
    base = {"train": masks, "images": images}
    kinds = [
        base,
        base | {"train": [masks[0], masks[1], with_number(1, 2)]},
        base | {"images": [images[1], *images[1:]]},
        base | {"train": masks[::-1], "images": images[::-1]},
        base | {"train": masks[:2], "images": images[:2]},
        base | {"train": [masks[0], masks[1], None]},
    ]
    found = []
    for number, options in enumerate(kinds):
        config = write(tmp_path / str(number), **options)
        found.append(load_masks(config).fingerprint)
    again = write_scene_folders(tmp_path / "files", {"images/train": 3})
    write_scene_folders(again, {"images/val": 1}, first=100)
    config = MaskConfig(str(again))
    assert load_masks(config).fingerprint == found[0]  # the same files, kept otherwise
    assert load_masks(replace(config, classes=("0", "1", "2"))).fingerprint == found[0]
    found += [load_masks(replace(config, classes=("a", "b", "c"))).fingerprint, load_masks(config, labels="none").fingerprint]
    with pytest.warns(UserWarning, match="no mask has a pixel"):
        found.append(load_masks(replace(config, ignore_index=None, classes=tuple(map(str, range(256))))).fingerprint)
    plain = write(tmp_path / "plain", [np.minimum(masks[0], 2)], [np.minimum(masks[1], 2)])
    found += [load_masks(replace(plain, ignore_index=number, classes=("0", "1", "2"))).fingerprint for number in (2, 255)]
    assert len(set(found)) == len(found)
