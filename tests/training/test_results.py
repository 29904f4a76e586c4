"""The numbers of an epoch and of a run, from sums over the examples."""

from logitkd.training.results import epoch_line, result_record

from logitkd import ModelConfig, TrainConfig
from logitkd.training.checkpoint import Progress

CONFIG = TrainConfig(ModelConfig("cifar_resnet8"), method="ce", epochs=3, seed=4)
BEST = {"top1": 60.0, "epoch": 2, "split": "test"}


def after(sums):
    return Progress(epoch=3, step=7, seconds=50.0, epoch_seconds=10.0, sums=sums, best=BEST)


def test_an_epochs_means_are_over_its_examples():
    line = epoch_line(CONFIG, after({"loss": 400.0, "ce": 300.0, "correct": 50.0, "count": 200}), 0.1, {"top1": 55.0}, 2.0)
    assert (line["epoch"], line["lr"], line["loss"], line["terms"]) == (3, 0.1, 2.0, {"ce": 1.5})
    assert line["train"] == {"top1": 25.0}
    assert (line["split"], line["eval"], line["best"]) == ("test", {"top1": 55.0}, BEST)
    assert (line["seconds"], line["eval_seconds"], line["images_per_second"]) == (10.0, 2.0, 20.0)


def test_without_labels_no_accuracy_on_the_training_images():
    line = epoch_line(CONFIG, after({"loss": 400.0, "correct": 0.0, "labelled": 0, "count": 200}), 0.1, {"top1": 55.0}, 2.0)
    assert line["train"] == {}


def test_a_result_is_the_last_epochs_and_tells_the_best():
    progress = after({"loss": 400.0, "correct": 50.0, "count": 200})
    progress.last = epoch_line(CONFIG, progress, 0.1, {"top1": 55.0}, 2.0)
    result = result_record(CONFIG, progress, 1234)
    assert (result["top1"], result["epoch"], result["best"]) == (55.0, 3, BEST)
    assert (result["metrics"], result["train"]) == ({"top1": 55.0}, {"top1": 25.0})
    assert (result["method"], result["seed"], result["seconds"], result["parameters"]) == ("ce", 4, 50.0, 1234)
    assert "teacher_top1" not in result
    assert result_record(CONFIG, progress, 1234, 0.0)["teacher_top1"] == 0
