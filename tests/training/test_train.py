"""Whole runs on the embedded digits, and everything that must be refused before one begins."""

import json
import os
import re
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from logitkd import ModelConfig, OptimConfig, methods, tensor_checks, train
from logitkd.data import DataConfig
from logitkd.models import build_model
from logitkd.reach import PlainPair
from logitkd.training import checkpoint
from logitkd.training.checkpoint import FILE
from logitkd.training.display import Lines
from logitkd.training.epoch_log import NonFiniteLossError
from logitkd.training.interrupt import Interrupted
from logitkd.training.preflight import check_last_batch


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_run_folder(tiny, teacher_folder):
    config = tiny(method="gdkd", method_options={"top_k": 3, "warmup_epochs": 1})
    result = train(config)
    folder = result.folder
    assert sorted(p.name for p in folder.iterdir()) == [
        ".lock",
        "checkpoint",
        "config.yaml",
        "metrics.jsonl",
        "result.json",
        "student.safetensors",
    ]
    record = yaml.safe_load((folder / "config.yaml").read_text())
    assert record["run"]["optim"] == {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "clip_grad": None}
    assert record["method"]["top_k"] == 3
    assert record["method"]["temperature"] == methods.get("gdkd").options["temperature"]
    assert record["data"]["train"] == 400
    assert record["student"]["parameters"] == result.parameters == sum(p.numel() for p in student(config).parameters())
    assert len(record["teacher"]["weights"]) == len(record["data"]["fingerprint"]) == 32
    assert record["versions"]["torch"]

    log = lines(folder)
    assert [line["epoch"] for line in log] == [1, 2, 3]
    assert {"ce", "group", "top", "rest"} <= set(log[0]["terms"])
    assert log[-1]["eval"] == result.metrics
    assert set(result.metrics) == {"loss", "top1", "top5", "calibration_error", "agreement"}
    assert result.top1 == result.metrics["top1"] > 20
    best = max(log, key=lambda line: line["eval"]["top1"])
    assert result.best == {"top1": best["eval"]["top1"], "epoch": best["epoch"], "split": "test"}
    assert result.seconds >= sum(line["seconds"] for line in log)

    model = student(config)
    model.load_state_dict(load_file(folder / "student.safetensors"))  # plain names, nothing of wrappers or teacher


def student(config):
    return build_model(config.student.name, 10)


def test_finished_run_returns_at_once(tiny, capsys):
    first = train(tiny(epochs=1))
    capsys.readouterr()
    again = train(tiny(epochs=1, quiet=False, checkpoint_every=7))
    assert again == replace(first, resumed_finished=True)
    assert "finished: nothing to train" in capsys.readouterr().err


def test_same_seed_same_student_other_seed_another(tiny, tmp_path):
    folders = [
        train(tiny(epochs=1, seed=seed, output=str(tmp_path / name))).folder for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    a, b, c = ((folder / "student.safetensors").read_bytes() for folder in folders)
    assert a == b != c


def test_methods_start_from_the_same_weights(tiny, tmp_path, monkeypatch):
    """Whatever a teacher draws when it is built, the student's first weights and its dropout depend on the seed alone."""
    from logitkd.training import run

    seen = []
    whole = run.Run.complete

    def complete(self):
        weights = {name: tensor.clone() for name, tensor in self.pupil.student.state_dict().items()}
        seen.append((weights, torch.get_rng_state()))
        return whole(self)

    monkeypatch.setattr(run.Run, "complete", complete)
    train(tiny(epochs=1, method="ce", teacher=None, output=str(tmp_path / "ce")))
    train(tiny(epochs=1, method="kd", output=str(tmp_path / "kd")))
    (ce, ce_stream), (kd, kd_stream) = seen
    assert all(torch.equal(ce[name], kd[name]) for name in ce)
    assert torch.equal(ce_stream, kd_stream)


def test_an_option_that_an_earlier_version_did_not_have_is_its_default(tiny):
    run = tiny(method="sdd-kd", epochs=1)
    file = train(run).folder / "config.yaml"
    record = yaml.safe_load(file.read_text())
    del record["method"]["judge"]
    file.write_text(yaml.safe_dump(record))
    assert train(run).resumed_finished
    with pytest.raises(ValueError, match=r"judge: label in the folder, teacher now"):
        train(replace(run, method_options={"judge": "teacher"}, output=str(file.parent)))


@pytest.mark.parametrize("method", ["sdd-kd", "icd-kd"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_region_methods(tiny, method, precision):
    """In bfloat16 with a folded teacher too; the student that comes out has no wrapper's names."""
    config = tiny(student=ModelConfig("cifar_resnet8"), method=method, precision=precision, channels_last=True, epochs=1)
    result = train(config)
    student(config).load_state_dict(load_file(result.folder / "student.safetensors"))
    assert result.top1 > 10


def test_cosine_adamw_clipping_bfloat16(tiny):
    optim = OptimConfig(name="adamw", lr=0.01, clip_grad=1.0)
    config = tiny(optim=optim, precision="bfloat16", channels_last=True)
    config = replace(config, schedule=replace(config.schedule, name="cosine"))
    result = train(config)
    assert [line["lr"] for line in lines(result.folder)] == pytest.approx([0.01, 0.0075, 0.0025])
    assert result.top1 > 15
    weights = load_file(result.folder / "student.safetensors")
    assert all(tensor.dtype != torch.bfloat16 for tensor in weights.values())


def test_clipping_bounds_the_step(tiny):
    """One step of plain SGD at rate 1 moves the weights by the clipped norm, no further."""
    optim = OptimConfig(lr=1.0, momentum=0.0, weight_decay=0.0, clip_grad=0.01)
    config = tiny(epochs=1, batch_size=400, optim=optim, method="ce", teacher=None)
    torch.manual_seed(config.seed)
    before = student(config)
    result = train(config)
    after = load_file(result.folder / "student.safetensors")
    moved = torch.stack([(after[name] - p.detach()).norm() for name, p in before.named_parameters()]).norm()
    assert moved.item() == pytest.approx(0.01, rel=1e-3)


def test_student_from_a_checkpoint(tiny, teacher_folder):
    config = tiny(student=ModelConfig("cifar_resnet8", str(teacher_folder)), method="ce", epochs=1)
    result = train(replace(config, optim=OptimConfig(lr=1e-6)))
    assert result.metrics["agreement"] > 85  # it was the teacher; a millionth of a step later it nearly still is


def test_warm_up_weighs_the_loss(tiny):
    """In epoch 1 of 4 the total holds a quarter of the distillation term."""
    options = {"ce_weight": 0.5, "kd_weight": 2.0, "warmup_epochs": 4}
    with pytest.warns(UserWarning, match="never reaches its full weight"):
        result = train(tiny(method_options=options, epochs=1))
    line = lines(result.folder)[0]
    assert line["loss"] == pytest.approx(0.5 * line["terms"]["ce"] + 0.25 * 2.0 * line["terms"]["kd"], rel=1e-5)


def test_tensorboard(tiny):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(tiny(trackers=("tensorboard",)))
    (events,) = (result.folder / "trackers").glob("events.*")
    reader = EventAccumulator(str(events)).Reload()
    points = reader.Scalars("eval/top1")
    assert [point.step for point in points] == [1, 2, 3]
    assert [point.value for point in points] == pytest.approx([line["eval"]["top1"] for line in lines(result.folder)])
    assert {"lr", "train/loss", "train/top1", "train/ce", "train/kd", "eval/agreement"} <= set(reader.Tags()["scalars"])


def test_a_tracker_shows_no_epoch_twice(tiny, monkeypatch):
    """A run that breaks off while its second epoch is being saved does that epoch again."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def save(folder, modules, optimizer, progress, device):
        if progress.epoch == 3:
            raise RuntimeError("crash")
        checkpoint.save_checkpoint(folder, modules, optimizer, progress, device)

    config = tiny(trackers=("tensorboard",))
    with monkeypatch.context() as patch:
        patch.setattr("logitkd.training.pupil.save_checkpoint", save)
        with pytest.raises(RuntimeError, match="crash"):
            train(config)
    folder = train(config).folder / "trackers"
    steps = [p.step for file in folder.glob("events.*") for p in EventAccumulator(str(file)).Reload().Scalars("eval/top1")]
    assert sorted(steps) == [1, 2, 3]


def test_tracker_that_is_not_installed(tiny):
    with pytest.raises(ValueError, match="`trackers` must be installed, but comet_ml is not"):
        train(tiny(trackers=("comet_ml",)))


def test_divergence_is_caught_and_explained(tiny):
    with pytest.raises(NonFiniteLossError) as error:
        train(tiny(optim=OptimConfig(lr=1e18)))
    message = str(error.value)
    assert "must be finite" in message
    assert "at epoch 1, step" in message
    assert "student logits:" in message
    assert "teacher logits: min" in message
    assert "100.0 % finite" in message
    assert "smaller `optim.lr`" in message


def test_divergence_without_a_teacher(tiny):
    """Here no loss looks at the logits: the accumulators are what catches it."""
    with pytest.raises(NonFiniteLossError, match=r"the loss term `ce` must be finite, got \S+ at epoch 1, step \d+"):
        train(tiny(optim=OptimConfig(lr=1e18), method="ce", teacher=None))


class FillDisk(Lines):
    """From the second epoch on, no file may grow beyond a few bytes."""

    def epoch(self, line):
        if line["epoch"] == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_full_disk_loses_only_the_checkpoint_being_written(tiny, tmp_path):
    config = tiny(checkpoint_every=4)
    whole = train(replace(config, output=str(tmp_path / "whole")))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(
            OSError, match=r"no checkpoint at epoch 2, step 4: .* could not be written .* before it is untouched"
        ):
            train(config, display=FillDisk())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in (tmp_path / "run" / "checkpoint").iterdir()] == [FILE]
    resumed = train(config)
    assert (resumed.folder / "student.safetensors").read_bytes() == (whole.folder / "student.safetensors").read_bytes()


class NoMetrics(Lines):
    """After the first epoch ``metrics.jsonl`` has become something that cannot be appended to."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def epoch(self, line):
        self.path.unlink()
        self.path.mkdir()


def test_metrics_that_cannot_be_written(tiny, tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    with pytest.raises(OSError, match=r"metrics\.jsonl could not be written .* run the same command again"):
        train(tiny(), display=NoMetrics(path))


def test_other_configuration_is_refused(tiny):
    train(tiny(epochs=1))
    with pytest.raises(ValueError, match="another run") as error:
        train(tiny(epochs=2, optim=OptimConfig(lr=0.1), method_options={"temperature": 2.0}))
    assert "epochs: 1 in the folder, 2 now" in str(error.value)
    assert "optim.lr: 0.05 in the folder, 0.1 now" in str(error.value)
    with pytest.raises(ValueError, match=r"temperature: 4\.0 in the folder, 2\.0 now"):
        train(tiny(epochs=1, method_options={"temperature": 2.0}))
    assert train(tiny(epochs=1, method_options={"temperature": 4.0})).resumed_finished  # spelled out, yet the same


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"method": "sdd-kd", "student": ModelConfig("tiny_net:flat_net")}, ValueError),  # found before the first step
        ({"optim": OptimConfig(lr=1e18)}, NonFiniteLossError),  # found after some steps
        ({"data": DataConfig(crop_padding=100, flip=False)}, ValueError),
    ],
)
def test_a_start_that_failed_leaves_the_folder_free(tiny, change, error):
    with pytest.raises(error):
        train(tiny(epochs=1, **change))
    config = tiny(epochs=1)
    record = yaml.safe_load((train(config).folder / "config.yaml").read_text())
    assert record["run"]["method"] == record["method"]["name"] == "kd"
    assert record["run"]["optim"]["lr"] == 0.05
    with pytest.raises(ValueError, match="another run"):
        train(tiny(epochs=1, seed=1))


def test_regions_of_ones_own_network(tiny, tmp_path):
    """Found by itself, or told: the same numbers; the record says which."""
    found = train(tiny(method="sdd-kd", epochs=1, output=str(tmp_path / "found")))
    told = tiny(method="sdd-kd", epochs=1, output=str(tmp_path / "told"), student=ModelConfig("tiny_net:TinyNet", pool="6"))
    result = train(told)
    assert result.metrics == found.metrics
    assert yaml.safe_load((result.folder / "config.yaml").read_text())["run"]["student"]["pool"] == "6"
    assert train(told).resumed_finished


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"student": ModelConfig("tiny_net:flat_net")},
            r"the student `tiny_net:flat_net` has no regions for `sdd-kd`.*`1` of Sequential reads .* of the 3 x 8 x 8 numbers",
        ),
        ({"student": ModelConfig("tiny_net:TinyNet", pool="9")}, r"`pool` must be a module that takes a map .* `9` of TinyNet"),
        ({"student": ModelConfig("tiny_net:TinyNet", head="fc")}, r"`student\.head` `fc` is no module of TinyNet"),
        ({"student": ModelConfig("tiny_net:TinyNet", head="fc"), "method": "kd"}, r"`student\.head` `fc` is no module"),
    ],
)
def test_networks_without_the_regions_asked_for(tiny, change, words, monkeypatch):
    monkeypatch.setattr("logitkd.training.run.measure", lambda *_: pytest.fail("time was spent"))
    with pytest.raises(ValueError, match=words):
        train(tiny(**{"method": "sdd-kd", "epochs": 1, **change}))


def test_a_teachers_path_that_is_none(tiny):
    teacher = tiny().teacher
    with pytest.raises(ValueError, match=r"`teacher\.pool` `avgpol` is no module of CifarResNet\..* Modules there: "):
        train(tiny(method="sdd-kd", teacher=replace(teacher, pool="avgpol")))


def test_a_finished_run_with_another_teacher_is_refused(tiny, teacher_folder, tmp_path):
    path = tmp_path / "teacher.safetensors"
    path.write_bytes((teacher_folder / "student.safetensors").read_bytes())
    config = tiny(teacher=ModelConfig("cifar_resnet8", str(path)), epochs=1)
    train(config)
    assert train(config).resumed_finished
    save_file(build_model("cifar_resnet8", 10).state_dict(), path)
    with pytest.raises(ValueError, match="under `teacher`:\n  weights: "):
        train(config)


def test_a_finished_run_on_other_data_is_refused(tiny):
    config = tiny(epochs=1)
    path = train(config).folder / "config.yaml"
    record = yaml.safe_load(path.read_text())
    record["data"]["fingerprint"] = "0" * 32
    path.write_text(yaml.safe_dump(record))
    with pytest.raises(ValueError, match="under `data`:\n  fingerprint: 0000"):
        train(config)


def test_a_finished_run_whose_student_is_gone_writes_it_again(tiny, capsys):
    config = tiny(epochs=1)
    first = train(config)
    path = first.folder / "student.safetensors"
    before = path.read_bytes()
    path.unlink()
    again = train(config)
    assert not again.resumed_finished
    assert path.read_bytes() == before
    assert again.metrics == first.metrics
    assert "but no student.safetensors: going on from its checkpoint" in capsys.readouterr().err


class LastSignal(Lines):
    """Sends SIGTERM when the last epoch is evaluated and saved."""

    def epoch(self, line):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_at_the_very_end_is_obeyed(tiny):
    """The run is finished, but a series of runs must not go on with the next."""
    config = tiny(epochs=1)
    with pytest.raises(Interrupted) as stopped:
        train(config, display=LastSignal())
    assert stopped.value.code == 143
    assert train(config).resumed_finished


def test_the_best_epoch_is_the_first_of_equals(tiny):
    result = train(tiny(student=ModelConfig("tiny_net:flat_net"), optim=OptimConfig(lr=1e-30)))
    assert len({line["eval"]["top1"] for line in lines(result.folder)}) == 1
    assert result.best["epoch"] == 1


@pytest.mark.parametrize("method", ["kd", "ce"])
def test_student_and_teacher_on_one_body(tiny, method):
    """With cross-entropy too, where the teacher is only compared with: it is frozen all the same."""
    network = ModelConfig("tiny_net:on_one_body")
    with pytest.raises(ValueError, match="student and teacher must not share tensors, got 2 shared"):
        train(tiny(student=network, teacher=network, method=method))


def test_a_last_batch_of_one_image(tiny):
    """400 images: a batch norm may have one value a channel there, and fails after a whole epoch."""
    with pytest.raises(ValueError, match=r"got 21 with 400 training examples\. Try 22"):
        train(tiny(batch_size=21))
    train(tiny(batch_size=21, student=ModelConfig("tiny_net:flat_net"), epochs=1))


def test_batches_of_one_image(tiny, tmp_path):
    """A map has a variance over its cells; a vector has none."""
    few = DataConfig(crop_padding=1, flip=False, train_per_class=1)
    assert train(tiny(batch_size=1, epochs=1, data=few)).metrics["loss"] > 0
    with pytest.raises(
        ValueError, match=r"^`batch_size` must be at least 2, as a batch norm of `tiny_net:normed_vector` .*Try 2"
    ):
        train(tiny(batch_size=1, data=few, student=ModelConfig("tiny_net:normed_vector"), output=str(tmp_path / "other")))


def test_a_batch_norm_that_is_never_trained_takes_one_image():
    class Frozen(nn.BatchNorm1d):
        def train(self, mode=True):
            return super().train(False)

    check_last_batch(PlainPair(Frozen(3), None), examples=10, batch_size=3)
    check_last_batch(PlainPair(nn.Linear(3, 3), None), examples=10, batch_size=3)
    for norm in (nn.BatchNorm1d(3), nn.BatchNorm1d(3).eval()):  # training sets its mode
        for images, batch_size, fix in ((10, 3, "Try 4."), (10, 9, "Try 10."), (1, 8, "Give more examples.")):
            with pytest.raises(ValueError, match=re.escape(fix)):
                check_last_batch(PlainPair(norm, None), examples=images, batch_size=batch_size)


def test_bfloat16_with_a_teacher_that_computes_its_head_in_float32(tiny):
    result = train(tiny(teacher=ModelConfig("tiny_net:Float32Head"), precision="bfloat16", epochs=1))
    assert result.top1 > 5


class Crash(Lines):
    """Breaks a run off after its first epoch."""

    def epoch(self, line):
        raise RuntimeError("crash")


def test_other_teacher_weights_are_refused(tiny, teacher_folder, tmp_path):
    path = tmp_path / "teacher.safetensors"
    path.write_bytes((teacher_folder / "student.safetensors").read_bytes())
    config = tiny(teacher=ModelConfig("cifar_resnet8", str(path)))
    with pytest.raises(RuntimeError, match="crash"):
        train(config, display=Crash())
    save_file(build_model("cifar_resnet8", 10).state_dict(), path)
    with pytest.raises(ValueError, match="under `teacher`:\n  weights: "):
        train(config)


def test_other_data_are_refused(tiny):
    """The configuration is the same, but what the folder remembers of the data is not."""
    config = tiny()
    with pytest.raises(RuntimeError, match="crash"):
        train(config, display=Crash())
    path = Path(config.output) / "config.yaml"
    record = yaml.safe_load(path.read_text())
    record["data"]["fingerprint"] = "0" * 32
    path.write_text(yaml.safe_dump(record))
    with pytest.raises(ValueError, match="under `data`:\n  fingerprint: 0000"):
        train(config)


def test_other_thread_count_warns(tiny):
    config = tiny()
    with pytest.raises(RuntimeError, match="crash"):
        train(config, display=Crash())
    torch.set_num_threads(2)
    with pytest.warns(UserWarning, match="threads was 1 in the earlier sitting and is 2 now"):
        train(config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "`epochs` must be"),
        ({"method": "gdk"}, "Did you mean `gdkd`"),
        ({"method_options": {"temprature": 1}}, "temperature"),
        ({"teacher": None}, "`teacher` must be given, as the method `kd` learns from one"),
        ({"teacher": ModelConfig("cifar_resnet8")}, "would teach random weights"),
        ({"device": "tpu"}, "`device` must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        ({"device": "cuda:99"}, "torch sees"),
        ({"data": DataConfig(source="nowhere/at/all")}, "nowhere"),
    ],
)
def test_refused_before_training(tiny, tmp_path, change, words):
    with pytest.raises((ValueError, OSError)) as error:
        train(tiny(**change))
    assert words in str(error.value)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_teacher_of_other_classes(tiny, tmp_path):
    path = tmp_path / "other.pt"
    torch.save(build_model("cifar_resnet8", 7).state_dict(), path)
    with pytest.raises(ValueError, match=r"has 7 classes .* the model has 10"):
        train(tiny(teacher=ModelConfig("cifar_resnet8", str(path))))


class Watch(Lines):
    """Notes whether values are being checked, and how often losses are read."""

    def __init__(self):
        super().__init__()
        self.debug, self.read = [], []

    def step(self, epoch, done, numbers):
        self.debug.append(tensor_checks._debug)
        self.read.append("loss" in numbers)


@pytest.mark.parametrize("debug", [False, True])
def test_debug_looks_at_every_step(tiny, debug):
    watch = Watch()
    train(tiny(epochs=1, debug=debug), display=watch)
    assert set(watch.debug) == {debug}
    assert sum(watch.read) == (13 if debug else 1)  # 13 steps; otherwise after the tenth
    assert not tensor_checks._debug


def test_two_precisions_in_one_process(tiny, tmp_path):
    """accelerate fixes its precision once a process; runs one after the other must not see that."""
    for number, precision in enumerate(("bfloat16", "float32", "bfloat16")):
        computed = set()

        def note(module, _, output, computed=computed):
            if module.training and isinstance(module, nn.Conv2d | nn.Linear):  # the student's steps
                computed.add(output.dtype)

        with register_module_forward_hook(note):
            train(tiny(epochs=1, precision=precision, output=str(tmp_path / str(number))))
        assert computed == {getattr(torch, precision)}
