"""Runs without labels, with some of them, with mixed ones and with weighed classes; and what is refused before one begins."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from datasets import ClassLabel
from safetensors.torch import load_file

from image_files import SHAPES, pixels, png, write_parquet
from interrupted_runs import StopAfter
from logitkd import ModelConfig, evaluate, methods, train
from logitkd.data import DataConfig, Loader
from logitkd.exporting.kinds import kind_of
from logitkd.runs.folder import read_run
from logitkd.runs.rules import checked


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def student_of(result):
    return (result.folder / "student.safetensors").read_bytes()


@pytest.fixture
def shapes(tmp_path, tiny):
    """Return a function that trains on 24 noise images of three classes with the training labels given to it.

    ``other`` are rows whose images are others than usual.
    """
    folder = tmp_path / "shapes"
    folder.mkdir()

    def images(rows):
        return [{"bytes": png(pixels(row, 8, 8)), "path": None} for row in rows]

    write_parquet(folder / "test.parquet", range(100, 109), images=images(range(100, 109)))

    def run(given, name, /, display=None, other=(), **changes):
        rows = [row + 1000 * (row in other) for row in range(24)]
        kind = ClassLabel(names=SHAPES)
        write_parquet(folder / "train.parquet", rows, images=images(rows), labels=given, label_type=kind)
        data = DataConfig(source=str(folder), crop_padding=1, mean=(0.5,) * 3, std=(0.3,) * 3)
        options = {"epochs": 2, "batch_size": 6, "data": data} | changes
        flat = ModelConfig("tiny_net:flat_net")
        return train(tiny(student=flat, teacher=flat, output=str(tmp_path / name), **options), display=display)

    return run


ALL = [row % 3 for row in range(24)]
SOME = [row % 3 if row < 9 else None for row in range(24)]
NONE = [None] * 24


@pytest.mark.parametrize("method", ["kd", "icd-gdkd"])
def test_labels_none_on_digits(tiny, method, capsys):
    student = ModelConfig("tiny_net:TinyNet" if method == "kd" else "cifar_resnet8")
    data = DataConfig(crop_padding=1, flip=False)
    warmup = {"warmup_epochs": 0} if method != "kd" else {}
    epochs = 2 if method == "kd" else 1
    config = tiny(method=method, labels="none", data=data, student=student, epochs=epochs, method_options=warmup)
    result = train(config)
    assert result.top1 > 20  # ten classes, and not one label was read
    record = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert record["method"]["ce_weight"] == 0
    assert record["run"]["labels"] == "none"
    assert "unlabelled" not in record["data"]
    line = lines(result.folder)[-1]
    assert line["train"] == {}
    assert "ce" not in line["terms"]
    shown = capsys.readouterr().err
    assert f"labels: none, so `{method}` learns from the teacher alone: ce_weight 0.0" in shown
    assert "train" not in next(line for line in shown.splitlines() if line.startswith(f"epoch {epochs}/"))
    assert train(config).resumed_finished
    assert evaluate(result.folder, latency=False)["top1"] == result.top1
    record = read_run(result.folder)
    assert "evaluation images of the run" in kind_of(record).read_input(record, result.folder).words  # for an export


def test_no_label_decides_anything(shapes):
    runs = [shapes(labels, f"run{i}", labels="none") for i, labels in enumerate((ALL, ALL[::-1], SOME, NONE))]
    assert len({student_of(run) for run in runs}) == 1
    assert student_of(shapes(ALL, "given")) != student_of(runs[0])


def test_some_labels(shapes, capsys):
    result = shapes(SOME, "some")
    assert "15 of 24 training labels are missing" in capsys.readouterr().err
    record = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert record["data"]["unlabelled"] == 15
    for line in lines(result.folder):
        assert line["train"]["top1"] * 9 / 100 == pytest.approx(round(line["train"]["top1"] * 9 / 100))  # of the nine
        assert set(line["terms"]) == {"ce", "kd"}
    assert len({student_of(result), student_of(shapes(ALL, "all")), student_of(shapes(SOME, "none", labels="none"))}) == 3
    assert shapes(SOME, "some").resumed_finished


def test_images_without_a_label_count_for_nothing_where_there_is_no_teacher(shapes):
    config = {"method": "ce", "batch_size": 8}
    first = shapes(SOME, "first", **config)
    assert student_of(shapes(SOME, "unlabelled", other=range(9, 24), **config)) == student_of(first)
    assert student_of(shapes(SOME, "labelled", other=[8], **config)) != student_of(first)


def test_a_loss_that_needs_labels_refuses_missing_ones_before_training(shapes):
    hint = r"but 15 of 24 training labels are missing\. These can do it: ce, kd, .*ls-ldrld, block-kd, .*\.$"
    with pytest.raises(ValueError, match=rf"every training example must have a label for `dkd`, .*{hint}"):
        shapes(SOME, "dkd", method="dkd", method_options={"warmup_epochs": 0})
    with pytest.raises(ValueError, match=r"`mixup` and `cutmix` must be 0 where labels are missing.*With `labels: none`"):
        shapes(SOME, "mixed", mixup=0.2)
    with pytest.raises(ValueError, match=r"every label of .* is missing.*`labels: none`"):
        shapes(NONE, "no", method="kd")


def test_mixed_images_without_labels(shapes):
    runs = [shapes(labels, f"run{i}", labels="none", mixup=0.5, cutmix=1.0) for i, labels in enumerate((ALL, NONE))]
    assert student_of(runs[0]) == student_of(runs[1])
    assert student_of(runs[0]) != student_of(shapes(ALL, "plain", labels="none"))


@pytest.mark.parametrize("mixing", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_mixing_on_digits(tiny, mixing):
    result = train(tiny(method="gdkd", method_options={"warmup_epochs": 0}, epochs=1, **mixing))
    (line,) = lines(result.folder)
    assert {"ce", "group", "top", "rest"} == set(line["terms"])
    assert 5 < line["train"]["top1"] < 90
    assert yaml.safe_load((result.folder / "config.yaml").read_text())["run"]["mixup"] == mixing.get("mixup", 0.0)


def test_regions_of_mixed_images_are_judged_by_the_teacher(tiny):
    options = {"judge": "teacher", "scales": (1, 2)}
    config = tiny(student=ModelConfig("cifar_resnet8"), method="sdd-kd", method_options=options, mixup=0.2, epochs=1)
    assert train(config).top1 > 10


def test_mixing_of_an_earlier_version_is_not_gone_on_with(tiny):
    """It had other partners, and no ``data_seed``."""
    config = tiny(mixup=0.2, epochs=1)
    folder = train(config).folder
    (folder / "student.safetensors").unlink()  # as if it had not come to its end
    record = yaml.safe_load((folder / "config.yaml").read_text())
    assert record["run"].pop("data_seed") is None
    (folder / "config.yaml").write_text(yaml.safe_dump(record))
    with pytest.raises(ValueError, match="begun by an earlier version, which mixed each example with its neighbour"):
        train(config)
    record["run"]["mixup"] = 0.0
    (folder / "config.yaml").write_text(yaml.safe_dump(record))
    assert not train(replace(config, mixup=0.0)).resumed_finished  # plain views are what they were


def test_the_data_seed_decides_what_is_seen_and_the_seed_the_initial_weights(tiny, monkeypatch):
    seen, weights = [], []
    whole = Loader._batches

    def watched(self, epoch, start_step):
        for batch in whole(self, epoch, start_step):
            if self.shuffle:
                seen.append(batch)
            yield batch

    monkeypatch.setattr(Loader, "_batches", watched)
    data = replace(tiny().data, train_per_class=5)
    still = replace(tiny().optim, lr=1e-30)  # what comes out is what it began with
    for number, (seed, data_seed) in enumerate([(0, None), (1, 0), (0, 1)]):
        config = tiny(seed=seed, data_seed=data_seed, mixup=0.2, cutmix=1.0, data=data, epochs=1, batch_size=50, optim=still)
        result = train(replace(config, output=f"{config.output}{number}"))
        parameters = load_file(result.folder / "student.safetensors")
        weights.append(torch.cat([parameters[name].flatten() for name in sorted(parameters) if "running" not in name]))
    first, other_weights, other_views = seen[1::2]  # before each epoch the networks are shown two examples
    assert all(torch.equal(a, b) for a, b in zip(first, other_weights, strict=True))
    assert not torch.equal(first.inputs, other_views.inputs)
    assert not torch.equal(weights[0], weights[1])
    torch.testing.assert_close(weights[0], weights[2], rtol=0, atol=1e-20)


@pytest.mark.parametrize("changes", [{"labels": "none"}, {"cutmix": 1.0}], ids=["none", "cutmix"])
def test_block_kd(tiny, changes):
    """Its task term takes mixed labels; without labels it has none."""
    resnet = ModelConfig("cifar_resnet8")
    data = DataConfig(crop_padding=1, flip=False)
    result = train(tiny(student=resnet, method="block-kd", data=data, epochs=1, batch_size=128, **changes))
    assert ("task" in lines(result.folder)[0]["terms"]) == ("labels" not in changes)  # without labels it counts nothing
    options = yaml.safe_load((result.folder / "config.yaml").read_text())["method"]
    assert (options["alpha"] == 0) == ("labels" in changes)


def test_resume_with_mixing_is_exact(tiny, tmp_path):
    config = tiny(epochs=3, checkpoint_every=2, mixup=0.4, cutmix=1.0, output=str(tmp_path / "crashed"))
    with pytest.raises(RuntimeError, match="crash"):
        train(config, display=StopAfter(13 + 7))
    whole = train(replace(config, output=str(tmp_path / "whole")))
    assert student_of(train(config)) == student_of(whole)


def test_resume_with_some_labels_is_exact(shapes):
    whole = shapes(SOME, "whole", checkpoint_every=1)
    with pytest.raises(RuntimeError, match="crash"):
        shapes(SOME, "crashed", display=StopAfter(6), checkpoint_every=1)
    again = shapes(SOME, "crashed", checkpoint_every=1)
    assert student_of(again) == student_of(whole)
    assert [line["train"] for line in lines(again.folder)] == [line["train"] for line in lines(whole.folder)]


def test_balanced_classes(shapes, tmp_path):
    labels = [0] * 16 + [1] * 6 + [2] * 2
    plain, balanced = shapes(labels, "plain"), shapes(labels, "balanced", class_weights="balanced")
    assert student_of(plain) != student_of(balanced)
    record = yaml.safe_load((balanced.folder / "config.yaml").read_text())
    weights = {"circle": 0.5, "square": 24 / 18, "star": 4.0}
    assert record["data"]["class_weights"] == pytest.approx(weights)
    file = tmp_path / "weights.json"
    file.write_text(json.dumps(weights))
    assert student_of(shapes(labels, "file", class_weights=str(file))) == student_of(balanced)
    file.write_text(json.dumps(weights | {"star": 1.0}))
    with pytest.raises(ValueError, match=r"belongs to another run; under `data`:\n.*class_weights"):
        shapes(labels, "file", class_weights=str(file))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "dkd", "labels": "none"}, r"without labels, got `dkd`: its loss needs them\. These can: kd, gdkd, "),
        ({"method": "ce", "labels": "none"}, r"without labels, got `ce`: it has no teacher"),
        ({"labels": "none", "method_options": {"ce_weight": 0.5}}, r"`ce_weight` must be 0\.0 without labels, got 0\.5"),
        ({"labels": "nothing"}, r"`labels` must be one of 'given', 'none', got 'nothing'"),
        (
            {"labels": "none", "data": DataConfig(train_per_class=2)},
            r"`data.train_per_class` must be left out with `labels: none`",
        ),
        ({"mixup": -0.1}, r"`mixup` must be in \[0, 1000\], got -0\.1"),
        (
            {"method": "dkd", "mixup": 0.2},
            r"`mixup` must be 0 for `dkd`, .*got 0\.2\. These can do it: ce, kd, .*block-ldrld\.$",
        ),
        ({"method": "icd-kd", "cutmix": 1.0}, r"`cutmix` must be 0 for `icd-kd`.*So can this one with `judge: teacher`\."),
        ({"class_weights": "balance"}, r"`class_weights` must be `balanced` or a file .*, got balance: no such file"),
        (
            {"class_weights": "balanced", "labels": "none"},
            r"no cross-entropy to weigh, got balanced for `kd` with",
        ),
    ],
)
def test_refused_before_anything_is_loaded(tiny, changes, message, monkeypatch):
    monkeypatch.setattr("logitkd.tasks.images.load_images", lambda *args, **options: pytest.fail("data were loaded"))
    base = {} if "data" in changes else {"data": DataConfig()}
    with pytest.raises(ValueError, match=message):
        train(tiny(**base, **changes))


def test_what_is_said_to_work_with_mixed_labels_does(tiny):
    for name in methods.names():
        if name == "cwd":  # of maps
            continue
        config = tiny(method=name, mixup=0.2)
        if methods.get(name).needs_hard_labels:
            with pytest.raises(ValueError, match=rf"`mixup` must be 0 for `{name}`"):
                checked(config)
        else:
            checked(config)
        if methods.get(name).labels_optional:  # without labels there is nothing that must not be mixed
            checked(replace(config, labels="none", data=replace(config.data, train_per_class=None)))


def test_without_labels_images_need_none_of_their_classes(tmp_path, tiny):
    """An image folder whose training images lie in no class folders."""
    for row in range(12):
        path = tmp_path / "photos" / "train" / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels(row, 8, 8)))
    for row in range(4):
        path = tmp_path / "photos" / "test" / f"class{row % 2}" / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels(row, 8, 8)))
    flat = ModelConfig("tiny_net:flat_net")
    data = DataConfig(source=str(tmp_path / "photos"))
    result = train(tiny(student=flat, teacher=flat, data=data, labels="none", epochs=1, batch_size=6))
    assert yaml.safe_load((result.folder / "config.yaml").read_text())["data"]["classes"] == ["class0", "class1"]
    assert torch.isfinite(torch.tensor(result.metrics["loss"]))


def test_a_finished_run_notices_other_class_weights(tiny, tmp_path):
    file = tmp_path / "weights.yaml"
    file.write_text("".join(f"'{digit}': {1 + digit % 2}\n" for digit in range(10)))
    config = tiny(epochs=1, class_weights=str(file))
    train(config)
    assert train(config).resumed_finished
    file.write_text("".join(f"'{digit}': {1 + digit % 3}\n" for digit in range(10)))
    with pytest.raises(ValueError, match=r"under `data`:\n  class_weights\.2: 1\.0 in the folder, 3\.0 now"):
        train(config)
