"""The task segmentation: what is right on a grid, what counts, its own loss, and which networks are refused."""

import json
import os
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dense_networks import TinySegmenter, tiny_map_network
from logitkd.data import Batch
from logitkd.data.mask_config import MaskConfig
from logitkd.reach import Signals
from logitkd.runs.config import DistillConfig, TrainConfig
from logitkd.runs.networks import ModelConfig
from logitkd.tasks.segmentation import SegmentationTask
from scenes import COLORS, NAMES, write_scenes, write_table

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"))


def settings(folder, **changes):
    data = {"source": str(folder), "classes": NAMES, "palette": COLORS, "workers": 0, **changes.pop("data", {})}
    return TrainConfig(ModelConfig("own:net"), task="segmentation", data=MaskConfig(**data), **changes)


def loaded(folder, **changes):
    task = SegmentationTask(settings(folder, **changes))
    task.load()
    return task


def batch_of(labels):
    return Batch(torch.zeros(len(labels), 3, *labels.shape[1:]), labels, torch.arange(len(labels)))


def test_a_cell_has_the_label_of_the_pixel_at_its_centre_and_void_counts_nowhere(folder):
    task = loaded(folder)
    labels = torch.arange(36).view(1, 6, 6) % 3
    labels[0, 1, 1] = -1  # the centre of the first cell of three pixels a side
    labels[0, 1, 4] = -2  # there is no label, but the cell is distilled
    student = Signals(torch.zeros(1, 2, 2, 3))
    targets = task.targets(batch_of(labels), student)
    assert targets.labels.tolist() == [[[-1, -1], [labels[0, 4, 1], labels[0, 4, 4]]]]
    assert targets.example_weights.tolist() == [[[0, 1], [1, 1]]]
    same = task.targets(batch_of(labels), Signals(torch.zeros(1, 6, 6, 3)))
    assert same.labels.equal(labels.clamp(min=-1))


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 4.0]])
def test_its_own_loss_is_the_cross_entropy_at_the_masks_size_for_both_heads(folder, weights):
    task = loaded(folder)
    task.class_weights = None if weights is None else torch.tensor(weights)
    torch.manual_seed(0)
    own, aux, grid = torch.randn(2, 3, 4, 3), torch.randn(2, 2, 2, 3), torch.randn(2, 2, 2, 3)
    labels = torch.randint(-2, 3, (2, 12, 16))
    student = Signals(grid, streams={"own": own, "own_aux": aux})
    found = task.terms(student, task.targets(batch_of(labels), student))
    assert list(found) == ["ce", "ce_aux"]
    for name, logits in (("ce", own), ("ce_aux", aux)):
        large = F.interpolate(logits.movedim(-1, 1), size=(12, 16), mode="bilinear")
        wanted = F.cross_entropy(large, labels.clamp(min=-1), task.class_weights, ignore_index=-1)
        assert found[name].mean() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_batch_that_is_void_costs_nothing(folder):
    task = loaded(folder)
    student = Signals(torch.randn(1, 2, 2, 3, requires_grad=True))
    targets = task.targets(batch_of(torch.full((1, 4, 4), -1)), student)
    total = sum(term.mean() for term in task.terms(student, targets).values())
    total.backward()
    assert total == 0
    assert not student.logits.grad.any()


def test_aux_weight_decides_what_is_built_and_how_it_is_weighed(folder):
    assert SegmentationTask(settings(folder)).streams == {"aux": 0.4}
    none = SegmentationTask(settings(folder, aux_weight=0.0))
    assert none.streams == {}
    assert none.network_options == {"output": "maps", "aux": False}
    assert SegmentationTask(settings(folder, distill=DistillConfig("labels"))).grid == "labels"


def test_what_a_run_writes_down_brings_classes_colours_and_normalisation_back(folder):
    task = loaded(folder)
    record = json.loads(json.dumps(task.record()))
    assert record["classes"] == list(NAMES)
    assert record["palette"] == [list(color) for color in COLORS]
    assert record["input_size"] == [3, 24, 32]
    assert record["size"] == [24, 32]
    again = SegmentationTask(settings(folder, data={"classes": None, "palette": None}))
    again.recall(folder, record)
    assert (again.classes, again.palette) == (NAMES, COLORS)
    data = SegmentationTask.as_learnt(
        replace(task.settings.data, classes=None), {**record, "mean": [0.1, 0.2, 0.3], "std": [1] * 3}
    )
    assert (data.classes, data.mean) == (NAMES, (0.1, 0.2, 0.3))
    listed = json.loads(task.assets(nn.Identity())["classes.json"])
    assert listed[1] == {"name": "disc", "color": [220, 40, 40]}


def test_it_is_unchanged_where_files_and_weights_are(folder, tmp_path):
    weights = tmp_path / "weights.yaml"
    weights.write_text("ground: 1\ndisc: 2\nbar: 3\n")
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))  # of a file changed just now nothing is kept
    task = loaded(folder, class_weights=str(weights))
    record = task.record()
    fresh = SegmentationTask(task.settings)
    assert fresh.unchanged(record)
    weights.write_text("ground: 1\ndisc: 2\nbar: 4\n")
    assert not fresh.unchanged(record)
    assert not SegmentationTask(settings(folder)).unchanged(record)


def test_balanced_weights_count_pixels(folder):
    task = loaded(folder, class_weights="balanced")
    counts = task.data.counts
    assert task.class_weights.tolist() == pytest.approx((counts.sum() / (3 * counts.float())).tolist())


def test_missing_masks_are_counted(tmp_path):
    task = loaded(write_table(tmp_path / "some", without=(1, 4)))
    assert (task.train_size, task.unlabelled) == (12, 2)
    assert loaded(write_table(tmp_path / "none"), labels="none").unlabelled == 0


class Raises(nn.Module):
    """Takes images of one size alone."""

    def forward(self, images):
        if images.shape[2:] != (16, 16):
            raise ValueError("only 16 x 16")
        return torch.zeros(len(images), 3, 4, 4)


def check(task, network):
    network.eval()
    with torch.no_grad():
        task.check_output(network(task.blank(2, CPU)), 2, "`net`")
        task.check_network(network, "student", "`net`", CPU)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda: TinySegmenter(4), "must return a map of 3 classes.*got 4.*let it take `num_classes`"),
        (lambda: TinySegmenter(1), "got 1: one channel is a sigmoid's. Give it two, background and foreground"),
        (
            lambda: nn.Sequential(tiny_map_network(3), nn.Sigmoid()),
            r"must return logits, but what `net` returns stays in \[0, 1\]",
        ),
        (lambda: nn.Sequential(tiny_map_network(3), nn.Softmax(1)), "probabilities. Take the softmax or sigmoid out"),
        (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), "the student"),
    ],
)
def test_networks_that_do_not_return_a_map_of_logits_are_refused(folder, network, words):
    with pytest.raises((TypeError, ValueError), match=words):
        check(loaded(folder), network())


def test_a_network_that_cannot_take_whole_images_is_refused(folder):
    task = loaded(folder, data={"crop_size": (16, 16)})
    with pytest.raises(ValueError, match=r"must take whole images of 24x32 pixels.*only 16 x 16.*`data.image_size`"):
        check(task, Raises())


def test_good_networks_pass(folder):
    for network in (tiny_map_network(3), tiny_map_network(3, stride=8, aux=True), TinySegmenter(3, stride=1)):
        check(loaded(folder), network)


def test_a_teacher_no_better_than_the_most_frequent_class_is_told(folder):
    task = loaded(folder)
    meter = task.meter(CPU)
    for batch in task.loader(train=False, device=CPU).epoch(1):
        constant = torch.zeros(len(batch.labels), 3, 2, 2)
        constant[:, 0] = 1
        meter.update(constant, batch)
    with pytest.warns(UserWarning, match="hardly above that of the most frequent class everywhere"):
        task.rate_teacher(meter)
