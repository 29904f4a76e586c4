"""predict() against the run's own evaluation, on images and on text, and what it refuses before anything is predicted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from image_files import pixels, png, write_image_folder, write_mixed_folder
from logitkd import ModelConfig, Prediction, TrainConfig, evaluate, predict, prediction, train
from logitkd.data import DataConfig, load_images
from logitkd.data.text_config import TextConfig
from logitkd.models import build_model
from scenes import COLORS, IGNORE, NAMES
from text_folders import network_folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """The evaluation images of the digits, a PNG file each, and their classes."""
    folder = tmp_path_factory.mktemp("scans")
    data = load_images(DataConfig())
    files = []
    for number, image in enumerate(data.eval.images):
        files.append(folder / f"{number:03}.png")
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(files[-1])
    return files, [data.classes[label] for label in data.eval.labels]


def share_right(predictions, classes):
    return 100 * sum(one.classes[0] == name for one, name in zip(predictions, classes, strict=True)) / len(classes)


def test_the_runs_own_evaluation_images_give_its_own_top1(teacher_folder, scans):
    files, classes = scans
    found = predict(teacher_folder, files)
    assert share_right(found, classes) == json.loads((teacher_folder / "result.json").read_text())["top1"]
    assert [one.file for one in found] == list(map(str, files))
    assert predict(str(teacher_folder), files[0].parent, batch_size=7) == [  # a folder, and other batches
        replace(one, probabilities=pytest.approx(one.probabilities)) for one in found
    ]


def test_the_order_is_that_given_and_probabilities_are_the_networks(teacher_folder, scans):
    files = [scans[0][3], scans[0][0], scans[0][3]]
    found = predict(teacher_folder, files, top=10)
    assert [one.file for one in found] == list(map(str, files))
    assert found[0] == found[2]
    data = load_images(DataConfig())
    images = (data.eval.images[[3, 0]] / 255 - torch.tensor(data.mean).view(3, 1, 1)) / torch.tensor(data.std).view(3, 1, 1)
    with torch.no_grad():
        shares = build_model("cifar_resnet8", 10, checkpoint=teacher_folder).eval()(images).softmax(dim=1)
    for one, row in zip(found, shares, strict=False):
        assert list(one.probabilities) == sorted(one.probabilities, reverse=True)
        assert dict(zip(one.classes, one.probabilities, strict=True)) == pytest.approx(
            dict(zip(data.classes, row.tolist(), strict=True)), abs=1e-5
        )
    best = predict(teacher_folder, files[1])
    assert best == [Prediction(str(files[1]), found[1].classes[:1], pytest.approx(found[1].probabilities[:1]))]


def test_images_of_any_size_are_shown_as_in_the_evaluation(tmp_path):
    """Of many sizes, modes and formats; normalised as in the run, not as is usual."""
    folder = write_mixed_folder(tmp_path / "shapes", per_class=10)
    data = DataConfig(str(folder), image_size=12, crop_ratio=0.5, workers=0, mean=(0.2, 0.3, 0.4), std=(0.3, 0.2, 0.1))
    config = TrainConfig(
        ModelConfig("tiny_net:TinyNet"),
        method="ce",
        data=data,
        epochs=4,
        batch_size=8,
        output=str(tmp_path / "run"),
        quiet=True,
    )
    result = train(config)
    found = predict(result.folder, folder / "test", top=2, batch_size=3)
    assert len(found) == 30
    assert share_right(found, [Path(one.file).parent.name for one in found]) == result.top1
    assert result.top1 == evaluate(result.folder, latency=False)["top1"]
    assert all(len(one.classes) == 2 for one in found)


def test_all_unreadable_files_are_named_before_anything_is_predicted(teacher_folder, scans, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, "_predict", lambda *_: pytest.fail("predicted"))
    whole = scans[0][0].read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "large.png").write_bytes(png(pixels(0, 9, 8)))
    (tmp_path / "empty").mkdir()
    write_image_folder(tmp_path / "lost", ["a.png"])
    (tmp_path / "lost" / "b.png").symlink_to(tmp_path / "gone.png")
    names = ["cut.png", "text.png", "large.png", "gone.png", "empty", "lost"]
    with pytest.raises(ValueError, match="`files` must be images that can be read, got 6 that cannot:") as caught:
        predict(teacher_folder, [scans[0][0], *(tmp_path / name for name in names)])
    lines = str(caught.value).splitlines()[1:]
    said = dict(zip(sorted(names, key=lambda name: "." in name), lines, strict=True))  # folders are looked into first
    assert all(str(tmp_path / name) in line for name, line in said.items())
    assert "must be 8x8 pixels (height x width), the size that the run was trained on, got 9x8." in said["large.png"]
    assert "must hold images" in said["empty"]
    assert "must be readable" in said["lost"]
    assert "cannot read the image" in said["gone.png"]
    assert "cannot decode the image" in said["cut.png"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": []}, "`files` must name at least one image, got none."),
        ({"top": 11}, r"`top` must be in \[1, 10\] \(the run's classes\), got 11."),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0."),
        ({"device": "cuda:99"}, "`device`"),
        ({"run": "."}, r"a run folder holds a config.yaml, but there is no config.yaml"),
    ],
)
def test_refused(teacher_folder, scans, changes, message):
    arguments = {"run": teacher_folder, "files": scans[0][:1], **changes}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        predict(**arguments)


def test_another_student_than_the_run_wrote_is_refused(tiny, scans):
    result = train(tiny(epochs=1))
    with open(result.folder / "student.safetensors", "ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match=r"student\.safetensors is not what the run wrote"):
        predict(result.folder, scans[0][:1])
    (result.folder / "student.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="student"):
        predict(result.folder, scans[0][:1])


def test_the_runs_own_evaluation_texts_give_its_own_top1(text_run):
    table = text_run.parent / "data/test.jsonl"
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    found = predict(text_run, table, top=3, batch_size=4)  # batches are of similar length, predictions in the file's order
    result = json.loads((text_run / "result.json").read_text())
    assert result["top1"] > 50
    assert share_right(found, [line["label"] for line in lines]) == pytest.approx(result["top1"])
    assert [(one.file, one.row) for one in found] == [(str(table), row) for row in range(len(lines))]
    assert all(sum(one.probabilities) == pytest.approx(1, abs=1e-5) for one in found)
    again = predict(text_run, texts=[line["text"] for line in lines], top=3)
    assert [one.classes for one in again] == [one.classes for one in found]
    assert all(
        one.probabilities == pytest.approx(other.probabilities, abs=1e-5) for one, other in zip(found, again, strict=True)
    )


def test_a_text_of_any_length_is_predicted_alone_and_beside_others(text_run, tmp_path):
    (tmp_path / "a.txt").write_text("card " * 20_000)
    (tmp_path / "b.txt").write_text("loan")
    both = predict(text_run, tmp_path, top=3)
    assert [(one.file, one.row) for one in both] == [(str(tmp_path / name), None) for name in ("a.txt", "b.txt")]
    for one in both:
        (alone,) = predict(text_run, one.file, top=3)
        assert alone.classes == one.classes
        assert alone.probabilities == pytest.approx(one.probabilities, abs=1e-6)


def test_pairs_of_texts(tmp_path):
    texts = ["my card", "the loan is new", "rate please", "a card of a loan"] * 3
    rows = [{"premise": text, "hypothesis": "high rate", "label": number % 2} for number, text in enumerate(texts)]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    name = f"transformers:{network_folder(tmp_path / 'net', classes=2)}"
    result = train(
        TrainConfig(
            ModelConfig(name), method="ce", task="text", data=TextConfig(str(tmp_path), max_length=16), epochs=1,
            output=str(tmp_path / "run"), device="cpu", quiet=True,
        )
    )  # fmt: skip
    found = predict(result.folder, tmp_path / "test.jsonl", top=2)
    pairs = predict(result.folder, texts=[(row["premise"], row["hypothesis"]) for row in rows], top=2)
    assert [one.probabilities for one in pairs] == [one.probabilities for one in found]
    turned = predict(result.folder, texts=[(row["hypothesis"], row["premise"]) for row in rows], top=2)
    assert [one.probabilities for one in turned] != [one.probabilities for one in found]


def test_the_runs_own_evaluation_images_give_its_own_miou(mask_run, tmp_path):
    """Masks are those that the evaluation scored: pooled over all images they give the same confusion matrix."""
    images, masks = mask_run.parent / "scenes/images/val", mask_run.parent / "scenes/masks/val"
    found = predict(mask_run, images, output=tmp_path / "out")
    assert [one.file for one in found] == [str(path) for path in sorted(images.iterdir())]
    matrix = np.zeros((3, 3), dtype=int)  # truth x answer
    for one in found:
        with Image.open(one.mask) as image:
            assert (image.mode, image.getpalette()[:9]) == ("P", [part for color in COLORS for part in color])
            answer = np.asarray(image)
        truth = np.asarray(Image.open(masks / Path(one.file).name))
        assert one.shares == pytest.approx({name: (answer == number).mean() for number, name in enumerate(NAMES)})
        np.add.at(matrix, (truth[truth != IGNORE], answer[truth != IGNORE]), 1)
    result = json.loads((mask_run / "result.json").read_text())
    assert result["metrics"]["pixel_accuracy"] == pytest.approx(100 * matrix.trace() / matrix.sum())
    there = matrix.sum(0) + matrix.sum(1) > 0
    overlap = matrix.diagonal()[there] / (matrix.sum(0) + matrix.sum(1) - matrix.diagonal())[there]
    assert result["miou"] == pytest.approx(100 * overlap.mean())


def test_masks_are_as_large_as_their_images_and_lie_where_these_lay(mask_run, tmp_path):
    sizes = {"a/one.jpg": (40, 30), "a/b/two.png": (17, 23), "three.jpeg": (33, 64)}
    for name, size in sizes.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (90, 40, 60)).save(tmp_path / "photos" / name)
    Image.new("RGB", (9, 5)).save(tmp_path / "four.bmp")
    found = predict(mask_run, [tmp_path / "four.bmp", tmp_path / "photos"], output=tmp_path / "out")
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")} == {
        "four.png", "a/one.png", "a/b/two.png", "three.png",
    }  # fmt: skip
    for one in found:
        with Image.open(one.file) as image, Image.open(one.mask) as mask:
            assert image.size == mask.size


def test_masks_need_a_folder_and_nothing_else_may_have_one(mask_run, teacher_folder, text_run, scans, tmp_path):
    images = mask_run.parent / "scenes/images/val"
    with pytest.raises(ValueError, match="`output` must be given for a run on masks"):
        predict(mask_run, images)
    with pytest.raises(ValueError, match="`top` must be left out where each pixel"):
        predict(mask_run, images, output=tmp_path / "out", top=1)
    with pytest.raises(ValueError, match="`texts` must be left out"):
        predict(mask_run, texts=["a"], output=tmp_path / "out")
    with pytest.raises(ValueError, match="`output` must be left out for a run that gives images a class each"):
        predict(teacher_folder, scans[0][:1], output=tmp_path / "out")
    with pytest.raises(ValueError, match="`output` must be left out for a run that gives texts a class each"):
        predict(text_run, texts=["a"], output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_each_task_reads_its_own(teacher_folder, text_run, scans):
    with pytest.raises(ValueError, match=r"`texts` must be left out for a run on images\. Give `files`"):
        predict(teacher_folder, texts=["a"])
    with pytest.raises(ValueError, match=r"000\.png must be a text \(\.txt\)"):
        predict(text_run, scans[0][:1])
