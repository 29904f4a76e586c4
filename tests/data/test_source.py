import subprocess
import sys
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Value

from image_files import SHAPES, pixels, png, write_mixed_folder, write_parquet
from logitkd.data import DataConfig, load_images


def config(folder, **options):
    return DataConfig(source=str(folder), **options)


def test_parquet_to_tensors(parquet_folder):
    data = load_images(config(parquet_folder))
    assert data.classes == tuple(SHAPES)
    assert data.train.images.shape == (12, 3, 6, 5)
    assert data.eval.images.shape == (6, 3, 6, 5)
    assert data.train.labels.tolist() == [row % 3 for row in range(12)]
    for row in range(12):
        np.testing.assert_array_equal(data.train.images[row].permute(1, 2, 0).numpy(), pixels(row))
    values = data.train.images.double().transpose(0, 1).flatten(1) / 255
    torch.testing.assert_close(torch.tensor(data.mean).double(), values.mean(1), rtol=1e-6, atol=0)


def test_image_folder_equals_parquet(parquet_folder, tmp_path):
    for split, rows in (("train", range(12)), ("test", range(100, 106))):
        for row in rows:
            path = tmp_path / "images" / split / SHAPES[row % 3] / f"{row:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(pixels(row)))
    first, second = load_images(config(parquet_folder)), load_images(config(tmp_path / "images"))
    assert second.classes == first.classes
    assert (second.mean, second.std) == (first.mean, first.std)
    order = first.train.labels.argsort(stable=True)  # a folder goes class by class
    assert torch.equal(second.train.images, first.train.images[order])
    assert torch.equal(second.train.labels, first.train.labels[order])


def test_the_same_data_have_the_same_fingerprint(parquet_folder, tmp_path):
    base = load_images(config(parquet_folder)).fingerprint
    whole = tmp_path / "whole"
    whole.mkdir()
    write_parquet(whole / "train.parquet", range(12))
    write_parquet(whole / "test.parquet", range(100, 106))
    assert load_images(config(whole)).fingerprint == base
    write_parquet(whole / "train.parquet", range(1, 13))
    assert load_images(config(whole)).fingerprint != base


def test_string_and_integer_labels(tmp_path):
    write_parquet(tmp_path / "train.parquet", range(3), labels=["b", "c", "a"], label_type=Value("string"))
    write_parquet(tmp_path / "test.parquet", range(3), labels=["a", "a", "c"], label_type=Value("string"))
    data = load_images(config(tmp_path, label_column="kind"))
    assert (data.classes, data.train.labels.tolist()) == (("a", "b", "c"), [1, 2, 0])
    assert data.eval.labels.tolist() == [0, 0, 2]
    write_parquet(tmp_path / "train.parquet", range(3), labels=[1, 0, 1], label_type=Value("int32"))
    write_parquet(tmp_path / "test.parquet", range(3), labels=[0, 0, 2], label_type=Value("int32"))
    with pytest.raises(ValueError, match=r"label 2 in .*test.parquet, row 2 must be in \[0, 1\]"):
        load_images(config(tmp_path, label_column="kind"))


def test_budget_keeps_that_many_of_each_class(parquet_folder):
    whole = load_images(config(parquet_folder))
    data = load_images(config(parquet_folder, train_per_class=2), seed=4)
    assert torch.bincount(data.train.labels).tolist() == [2, 2, 2]
    assert torch.equal(data.eval.images, whole.eval.images)
    assert (data.mean, data.std) == (whole.mean, whole.std)
    assert data.fingerprint != whole.fingerprint
    rows = [int((whole.train.images == image).flatten(1).all(1).nonzero()) for image in data.train.images]
    assert rows == sorted(rows)
    assert torch.equal(whole.train.labels[rows], data.train.labels)


def test_budget_is_decided_by_the_seed():
    config = DataConfig(train_per_class=5)
    prints = [load_images(config, seed=seed).fingerprint for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_budget_beyond_the_data_is_refused(parquet_folder):
    with pytest.raises(ValueError, match=r"`data.train_per_class` must be at most 4, .* class `circle`, got 5"):
        load_images(config(parquet_folder, train_per_class=5))
    with pytest.raises(ValueError, match=r"`data.train_per_class` must be .*1, got 0"):
        load_images(config(parquet_folder, train_per_class=0))


def test_a_corrupt_image_names_file_and_row(parquet_folder):
    images = [{"bytes": png(pixels(row)), "path": None} for row in range(5)]
    images[3]["bytes"] = images[3]["bytes"][:60]
    write_parquet(parquet_folder / "train-00001-of-00002.parquet", range(5), images=images)
    with pytest.raises(ValueError, match=r"cannot decode the image in .*/train-00001-of-00002.parquet, row 3: "):
        load_images(config(parquet_folder))


def test_a_corrupt_image_file_is_named(tmp_path):
    for split in ("train", "test"):
        for kind in ("ant", "bee"):
            (tmp_path / split / kind).mkdir(parents=True)
            (tmp_path / split / kind / "1.png").write_bytes(png(pixels(0)))
    (tmp_path / "test" / "ant" / "2.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"cannot decode the image in .*/test/ant/2.png: "):
        load_images(config(tmp_path))


@pytest.mark.parametrize(("label", "message"), [(3, r"label 3 in .*test.parquet, row 1 must be in"), (None, "null")])
def test_a_bad_label_names_file_and_row(parquet_folder, label, message):
    # ClassLabel refuses to write a 3: integers under its name, as a broken export leaves them.
    write_parquet(parquet_folder / "train.parquet", range(12), label_type=Value("int64"))
    for path in parquet_folder.glob("train-*"):
        path.unlink()
    write_parquet(parquet_folder / "test.parquet", range(2), labels=[0, label], label_type=Value("int64"))
    with pytest.raises(ValueError, match=message):
        load_images(config(parquet_folder, label_column="kind"))


def test_a_missing_column_lists_the_columns(parquet_folder):
    with pytest.raises(ValueError, match=r"`data.label_column` names `class`.*Columns there: img \(Image\), kind \(Class"):
        load_images(config(parquet_folder, label_column="class"))


def test_an_empty_split_is_named(parquet_folder):
    write_parquet(parquet_folder / "test.parquet", [])
    with pytest.raises(ValueError, match=r"split `test` is empty: it has no rows"):
        load_images(config(parquet_folder))


def test_splits_of_two_sizes_are_refused(parquet_folder):
    image = {"bytes": png(pixels(0, 4, 4)), "path": None}
    write_parquet(parquet_folder / "test.parquet", range(1), images=[image])
    with pytest.raises(ValueError, match=r"got 6x5 in .*split `train` and 4x4 in .*split `test`"):
        load_images(config(parquet_folder))


@pytest.mark.parametrize("labels", [[0, 2, 2, 0], [0, 2, 0]])
def test_a_class_to_evaluate_but_not_to_learn_is_named(parquet_folder, labels):
    for path in parquet_folder.glob("train-*"):
        path.unlink()
    write_parquet(parquet_folder / "train.parquet", range(len(labels)), labels=labels)
    with pytest.raises(ValueError, match=r"must have training images, got none of square\. Is a class named"):
        load_images(config(parquet_folder))
    write_parquet(parquet_folder / "test.parquet", range(2), labels=[0, 2])
    assert load_images(config(parquet_folder, train_per_class=1)).train.labels.sort().values.tolist() == [0, 2]


def test_a_class_to_learn_but_not_to_evaluate_warns(parquet_folder):
    for path in parquet_folder.glob("train-*"):
        path.unlink()
    write_parquet(parquet_folder / "train.parquet", range(4), labels=[0, 1, 2, None])
    write_parquet(parquet_folder / "test.parquet", range(2), labels=[0, 2])
    with pytest.warns(UserWarning, match=r"has no image of 1 of the 3 classes in training \(square\): its accuracy"):
        load_images(config(parquet_folder))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_images(config(parquet_folder), labels="none")
        write_parquet(parquet_folder / "test.parquet", range(3), labels=[0, 2, 1])
        load_images(config(parquet_folder))


def test_home_is_expanded(parquet_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(parquet_folder.parent))
    assert len(load_images(config("~/shapes")).train) == 12


def test_digits_need_nothing():
    data = load_images(DataConfig())
    assert (len(data.train), len(data.eval)) == (1297, 500)
    assert data.classes == tuple("0123456789")
    assert data.fingerprint == "9cf38480325ba39c08574184783d9c94"  # the demo's data: if this changes, so do its numbers
    with pytest.raises(ValueError, match=r"no split `valid` in `digits`. Splits there: test, train"):
        load_images(DataConfig(eval_split="valid"))


def test_configuration_and_digits_import_no_datasets():
    code = (
        "import sys; from logitkd.data import DataConfig; assert 'sklearn' not in sys.modules;"
        "from logitkd.data import load_images; load_images(DataConfig()); assert 'datasets' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def rows_of(data, whole):
    return [int((whole.train.images == image).flatten(1).all(1).nonzero()) for image in data.images]


@pytest.fixture
def one_split(tmp_path):
    """Thirty training images, ten of each of three classes, and no split to evaluate on."""
    write_parquet(tmp_path / "train.parquet", range(30))
    write_parquet(tmp_path / "test.parquet", range(3))
    whole = load_images(config(tmp_path))
    (tmp_path / "test.parquet").unlink()
    return tmp_path, whole


@pytest.mark.parametrize(("fraction", "held_out"), [(0.2, 2), (0.01, 1), (0.25, 2), (0.99, 9)])
def test_a_share_of_each_class_is_held_out(one_split, fraction, held_out):
    folder, whole = one_split
    data = load_images(config(folder, eval_fraction=fraction))
    assert torch.bincount(data.eval.labels).tolist() == [held_out] * 3
    rows = rows_of(data.train, whole), rows_of(data.eval, whole)
    assert sorted(rows[0] + rows[1]) == list(range(30))
    assert rows == (sorted(rows[0]), sorted(rows[1]))
    assert torch.equal(whole.train.labels[rows[1]], data.eval.labels)


def test_what_is_held_out_does_not_depend_on_the_seed_and_grows_with_the_fraction(one_split):
    folder, whole = one_split
    first, second = (load_images(config(folder, eval_fraction=0.3), seed=seed) for seed in (0, 1))
    assert first.fingerprint == second.fingerprint
    more = load_images(config(folder, eval_fraction=0.5, train_per_class=2), seed=1)
    assert set(rows_of(first.eval, whole)) < set(rows_of(more.eval, whole))
    assert torch.bincount(more.train.labels).tolist() == [2, 2, 2]
    assert set(rows_of(first.eval, whole)) != set(range(9))  # not simply the first


def test_a_class_of_one_image_keeps_it_to_learn_from(tmp_path):
    write_parquet(tmp_path / "train.parquet", range(5), labels=[0, 0, 1, 2, 2])
    data = load_images(config(tmp_path, eval_fraction=0.5))
    assert (data.train.labels.tolist(), data.eval.labels.tolist()) == ([0, 1, 2], [0, 2])
    write_parquet(tmp_path / "train.parquet", range(3))
    with pytest.raises(
        ValueError, match=r"`data.eval_fraction` must leave something to evaluate on, but every class has a single"
    ):
        load_images(config(tmp_path, eval_fraction=0.5))


def test_digits_are_split_but_for_one_who_names_another_split():
    with pytest.raises(ValueError, match=r"`data.eval_fraction` must be left out .* and `digits` has `test`"):
        load_images(DataConfig(eval_fraction=0.1))
    data = load_images(DataConfig(eval_split="validation", eval_fraction=0.1))
    assert (len(data.train), len(data.eval)) == (1168, 129)


def test_images_of_any_size_stay_encoded(tmp_path):
    folder = write_mixed_folder(tmp_path)
    with pytest.raises(ValueError, match=r"images must all have one size .*For images of any size give `data.image_size`"):
        load_images(config(folder))
    data = load_images(config(folder, image_size=8))
    assert data.classes == tuple(SHAPES)
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    sizes = [data.train.image(row).size for row in range(15)]
    assert len(set(sizes)) == 15
    assert data.train.labels.tolist() == data.eval.labels.tolist() == [row // 5 for row in range(15)]
    part = load_images(config(folder, image_size=8, train_per_class=2), seed=3)
    assert torch.bincount(part.train.labels).tolist() == [2, 2, 2]
    assert part.fingerprint != data.fingerprint


def test_the_same_files_have_one_fingerprint_in_a_folder_and_in_parquet(parquet_folder, tmp_path):
    for split, rows in (("train", range(12)), ("test", range(100, 106))):
        for row in sorted(rows, key=lambda row: row % 3):
            path = tmp_path / "images" / split / SHAPES[row % 3] / f"{row:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(pixels(row)))
    in_order = tmp_path / "parquet"
    in_order.mkdir()
    write_parquet(in_order / "train.parquet", sorted(range(12), key=lambda row: row % 3))
    write_parquet(in_order / "test.parquet", sorted(range(100, 106), key=lambda row: row % 3))
    prints = [
        load_images(config(folder, image_size=8)).fingerprint for folder in (tmp_path / "images", in_order, parquet_folder)
    ]
    assert prints[0] == prints[1] != prints[2]


def test_a_flat_folder_with_a_share_held_out(tmp_path):
    folder = write_mixed_folder(tmp_path, splits=["."])
    data = load_images(config(folder, image_size=8, eval_fraction=0.4))
    assert (len(data.train), len(data.eval)) == (9, 6)
    assert data.classes == tuple(SHAPES)


def test_mean_and_std_can_be_given(parquet_folder):
    given = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    for size in (None, 8):
        data = load_images(config(parquet_folder, image_size=size, **given))
        assert (data.mean, data.std) == (given["mean"], given["std"])


@pytest.mark.parametrize("size", [None, 8])
def test_one_class_is_nothing_to_learn(tmp_path, size):
    write_parquet(tmp_path / "train.parquet", range(4), labels=[1] * 4)
    write_parquet(tmp_path / "test.parquet", range(2), labels=[1] * 2)
    with pytest.raises(ValueError, match=r"images must be of at least 2 classes, got `square` alone in .*split `train`"):
        load_images(config(tmp_path, image_size=size))


def test_cifar100(cifar100_slice):
    data = load_images(config(cifar100_slice, label_column="fine_label"))
    assert data.train.images.shape == (1200, 3, 32, 32)
    assert data.eval.images.shape == (600, 3, 32, 32)
    assert len(data.classes) == 100
    assert data.classes[:2] == ("apple", "aquarium_fish")
    # Near the whole split's (0.5071, 0.4865, 0.4409) and (0.2673, 0.2564, 0.2762).
    torch.testing.assert_close(torch.tensor(data.mean), torch.tensor((0.5071, 0.4865, 0.4409)), atol=0.02, rtol=0)
    torch.testing.assert_close(torch.tensor(data.std), torch.tensor((0.2673, 0.2564, 0.2762)), atol=0.02, rtol=0)
    with pytest.raises(ValueError, match=r"several label columns: fine_label, coarse_label"):
        load_images(config(cifar100_slice))


def rewrite(folder, split, labels, label_type=None):
    """Write a split of ``parquet_folder`` anew."""
    for path in folder.glob(f"{split}*"):
        path.unlink()
    write_parquet(folder / f"{split}.parquet", range(len(labels)), labels=labels, label_type=label_type)


def drop_labels(folder):
    """Take the column of labels out of the training split."""
    for path in folder.glob("train*"):
        pq.write_table(pq.read_table(path).drop_columns("kind"), path)


@pytest.mark.parametrize("kind", [None, Value("int64"), Value("string")])
def test_some_labels_missing(parquet_folder, kind):
    names = SHAPES if kind == Value("string") else [0, 1, 2]
    rewrite(parquet_folder, "train", [names[0], None, names[1], names[2], None], kind)
    rewrite(parquet_folder, "test", [names[0], names[2]], kind)
    data = load_images(config(parquet_folder, label_column="kind"))
    assert data.train.labels.tolist()[1::3] == [-1, -1]
    assert sorted(data.train.labels.tolist()) == [-1, -1, 0, 1, 2]
    assert len(data.classes) == 3
    rewrite(parquet_folder, "test", [names[0], None], kind)
    with pytest.raises(ValueError, match=r"the label is missing \(null\) in .*test.parquet, row 1"):
        load_images(config(parquet_folder, label_column="kind"))


def test_minus_one_is_a_missing_label(parquet_folder):
    rewrite(parquet_folder, "train", [0, -1, 1, 2], ClassLabel(names=SHAPES))
    assert load_images(config(parquet_folder)).train.labels.tolist() == [0, -1, 1, 2]
    rewrite(parquet_folder, "test", [0, -1], ClassLabel(names=SHAPES))
    with pytest.raises(ValueError, match=r"label -1 in .*test.parquet, row 1 must be in \[0, 2\]"):
        load_images(config(parquet_folder))


def test_classes_without_a_label_or_too_few_of_them_are_refused(parquet_folder):
    rewrite(parquet_folder, "train", [0, None, 2])
    with pytest.raises(ValueError, match=r"must have training images, got none of square"):
        load_images(config(parquet_folder))
    rewrite(parquet_folder, "train", [0, None, 1, 2])
    with pytest.raises(ValueError, match=r"`data.train_per_class` must be left out where training labels are missing"):
        load_images(config(parquet_folder, train_per_class=1))


def test_without_labels_the_images_are_the_same_and_the_labels_hidden(parquet_folder):
    given, none = load_images(config(parquet_folder)), load_images(config(parquet_folder), labels="none")
    assert torch.equal(none.train.images, given.train.images)
    assert none.train.labels.tolist() == [-1] * 12
    assert torch.equal(none.eval.labels, given.eval.labels)
    assert (none.classes, none.mean, none.std) == (given.classes, given.mean, given.std)
    drop_labels(parquet_folder)
    assert load_images(config(parquet_folder), labels="none").fingerprint == none.fingerprint
    with pytest.raises(ValueError, match="without labels: no class can be counted"):
        load_images(config(parquet_folder, train_per_class=2), labels="none")


@pytest.mark.parametrize("column", [None, "kind"])
def test_a_training_split_without_labels_asks_for_labels_none(parquet_folder, column):
    hint = r"To train on the teacher alone, without labels, give `labels: none`"
    rewrite(parquet_folder, "train", [None, None])
    with pytest.raises(ValueError, match=rf"every label of .*split `train` is missing, in column `kind`\. {hint}"):
        load_images(config(parquet_folder, label_column=column))
    drop_labels(parquet_folder)
    with pytest.raises(ValueError, match=rf"(no label column|does not have).*{hint}"):
        load_images(config(parquet_folder, label_column=column))
    assert load_images(config(parquet_folder, label_column=column), labels="none").train.labels.tolist() == [-1, -1]


@pytest.mark.parametrize("kind", [Value("int64"), Value("string")])
def test_without_labels_classes_are_those_of_both_splits(parquet_folder, kind):
    names = SHAPES if kind == Value("string") else [0, 1, 2]
    rewrite(parquet_folder, "train", [names[0], names[2], None], kind)
    rewrite(parquet_folder, "test", [names[1], names[0]], kind)
    data = load_images(config(parquet_folder, label_column="kind"), labels="none")
    assert data.classes == tuple(map(str, names))
    assert data.eval.labels.tolist() == [1, 0]


def test_an_evaluation_split_without_labels_is_refused(parquet_folder):
    rewrite(parquet_folder, "test", [None, None])
    for labels in ("given", "none"):
        with pytest.raises(ValueError, match=r"split must be labelled, but every label of .*split `test` is missing"):
            load_images(config(parquet_folder), labels=labels)


def test_a_share_to_evaluate_on_is_of_labelled_images(parquet_folder):
    rewrite(parquet_folder, "train", [0, 1, 2, None] * 4)
    (parquet_folder / "test.parquet").unlink()
    for labels in ("given", "none"):
        data = load_images(config(parquet_folder, eval_fraction=0.25), labels=labels)
        assert sorted(data.eval.labels.tolist()) == [0, 1, 2]
        assert len(data.train) == 13


def test_an_image_folder_without_classes_to_train_on(tmp_path):
    for name in ("train/1.png", "train/more/2.png", "train/a/b/3.png", "test/ant/1.png", "test/bee/2.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels(len(name))))
    data = load_images(config(tmp_path), labels="none")
    assert data.classes == ("ant", "bee")
    assert data.train.labels.tolist() == [-1] * 3
    places = ("train/1.png", "train/a/b/3.png", "train/more/2.png")
    for image, name in zip(data.train.images, places, strict=True):
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), pixels(len(name)))
    with pytest.raises(ValueError, match=r"train/1.png is not in a class folder: .*anywhere with `labels: none`"):
        load_images(config(tmp_path))
