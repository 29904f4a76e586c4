"""Runs of segmentation: every method that fits, exact resume, unlike grids, label maps, several teachers, labels or none."""

import json

import pytest
import torch
import yaml

from interrupted_runs import StopAfter, outcome
from logitkd import methods
from logitkd.evaluation import evaluate
from logitkd.runs.plan import plan
from logitkd.runs.settings import SettingsError
from logitkd.training.train import train
from scenes import COLORS, NAMES, write_scenes, write_table

DENSE = [name for name in methods.names() if (loss := methods.get(name).loss) is not None and not loss.unfit("maps")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), {"train": 6, "val": 3})


@pytest.fixture(scope="module")
def teacher(folder, tmp_path_factory):
    """A teacher's run folder."""
    return run(
        folder, tmp_path_factory.mktemp("runs") / "teacher", "ce", student="dense_networks:build_aux", epochs=12, optim__lr=0.1
    ).folder


def settings(folder, output, method, student="dense_networks:build", **values):
    data = {"source": str(folder), "classes": list(NAMES), "palette": [list(color) for color in COLORS], "workers": 0}
    values = {f"data.{key}": value for key, value in data.items()} | {
        "task": "segmentation",
        "student.name": student,
        "epochs": 1,
        "batch_size": 3,
        "device": "cpu",
        "quiet": True,
        "output": str(output),
        **{key.replace("__", "."): value for key, value in values.items()},
    }
    return plan(None, method, overrides=values)


def run(folder, output, method, **values):
    return train(settings(folder, output, method, **values))


def taught_by(teacher):
    return {"teacher": str(teacher)}


@pytest.mark.parametrize("method", DENSE)
def test_every_method_that_fits_trains(folder, teacher, tmp_path, method):
    options = {"method__top_k": 2} if "top_k" in methods.get(method).options else {}
    options |= {"method__depth": 3} if "depth" in methods.get(method).options else {}
    options |= {"method__d_depth": 3} if "d_depth" in methods.get(method).options else {}
    result = run(folder, tmp_path / "run", method, student="dense_networks:build_aux", **taught_by(teacher), **options)
    line = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    names = methods.get(method).loss.term_weights
    assert set(names) <= set(line["terms"])
    assert result.headline == "miou"
    assert set(NAMES) >= {key.removeprefix("iou/") for key in result.metrics if key.startswith("iou/")}
    assert {"agreement", "pixel_accuracy", "loss"} <= set(result.metrics)


def test_what_compares_examples_or_regions_is_refused_by_name(folder, teacher, tmp_path):
    for method in sorted(set(methods.names()) - set(DENSE) - {"ce"}):
        with pytest.raises(SettingsError, match=f"`method` must fit the task `segmentation`, got `{method}`.*These fit: kd,"):
            run(folder, tmp_path / "run", method, **taught_by(teacher))
    assert not (tmp_path / "run").exists()
    with pytest.raises(SettingsError, match="must fit the task `images`, got `cwd`"):
        train(plan("digits", "cwd", overrides={"teacher.checkpoint": str(teacher), "output": str(tmp_path / "run")}))


def test_a_run_resumes_bit_for_bit_inside_an_epoch(folder, teacher, tmp_path):
    options = {
        "student": "dense_networks:build_aux",
        "epochs": 2,
        "checkpoint_every": 1,
        "data__color_jitter": 0.3,
        **taught_by(teacher),
    }
    run(folder, tmp_path / "whole", "kd", **options)
    with pytest.raises(RuntimeError, match="crash"):
        train(settings(folder, tmp_path / "cut", "kd", **options), display=StopAfter(3))
    run(folder, tmp_path / "cut", "kd", **options)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_the_number_of_workers_changes_nothing(folder, teacher, tmp_path):
    for workers in (0, 2):
        run(folder, tmp_path / str(workers), "kd", **taught_by(teacher), data__workers=workers)
    assert outcome(tmp_path / "0") == outcome(tmp_path / "2")


@pytest.mark.parametrize("grid", ["coarser", "student", "labels"])
def test_student_and_teacher_of_unlike_grids_meet_on_the_one_asked_for(folder, teacher, tmp_path, grid):
    result = run(
        folder, tmp_path / "run", "kd", student="dense_networks:build_teacher", **taught_by(teacher), distill__grid=grid
    )
    assert result.metrics["loss"] > 0


def test_an_auxiliary_head_is_trained_and_distilled_with_its_weight(folder, teacher, tmp_path):
    losses = {}
    for weight in (0.4, 0.0):
        options = {"student": "dense_networks:build_aux", "method__top_k": 2, "aux_weight": weight, "batch_size": 6}
        run(folder, tmp_path / str(weight), "gdkd", **options, **taught_by(teacher))
        line = json.loads((tmp_path / str(weight) / "metrics.jsonl").read_text())
        losses[weight] = line["loss"], line["terms"]
    total, terms = losses[0.4]
    assert {name.removesuffix("_aux") for name in terms if name.endswith("_aux")} == {"ce", "group", "top", "rest"}
    weights = methods.get("gdkd").replace(top_k=2, warmup_epochs=0).objective().loss.term_weights | {"ce": 1.0}
    heads = [sum(weights[name] * terms[f"{name}{end}"] for name in weights) for end in ("", "_aux")]
    assert total == pytest.approx(heads[0] + 0.4 * heads[1], rel=1e-5)
    assert not any(name.endswith("_aux") for name in losses[0.0][1])


def test_labels_may_be_missing_or_none(teacher, tmp_path):
    some = write_table(tmp_path / "some", {"train": 6, "val": 3}, without=(0, 2))
    run(some, tmp_path / "kd", "kd", **taught_by(teacher))
    assert yaml.safe_load((tmp_path / "kd/config.yaml").read_text())["data"]["unlabelled"] == 2
    with pytest.raises(ValueError, match="every training example must have a label for `dkd`"):
        run(some, tmp_path / "dkd", "dkd", **taught_by(teacher))
    result = run(some, tmp_path / "none", "kd", labels="none", **taught_by(teacher))
    assert "ce" not in json.loads((tmp_path / "none/metrics.jsonl").read_text())["terms"]
    assert result.metrics["miou"] >= 0


def test_class_weights_label_maps_and_several_teachers(folder, teacher, tmp_path):
    swapped = ["bar", "disc", "ground"]
    other = run(folder, tmp_path / "other", "ce", student="dense_networks:build_aux", data__classes=swapped).folder
    (tmp_path / "map.yaml").write_text("bar: ground\nground: bar\ndisc: disc\n")
    result = run(
        folder,
        tmp_path / "run",
        "kd",
        class_weights="balanced",
        teacher=str(teacher),
        teacher__others=[{"name": str(other), "label_map": str(tmp_path / "map.yaml")}],
    )
    assert result.teacher_score is not None
    weights = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["data"]["class_weights"]
    assert list(weights) == list(NAMES)
    with pytest.raises(ValueError, match="in their order, got"):
        run(folder, tmp_path / "wrong", "kd", teacher=str(other))


def test_evaluation_gives_the_runs_numbers_and_what_it_costs(folder, teacher, tmp_path):
    result = run(folder, tmp_path / "run", "kd", **taught_by(teacher))
    found = evaluate(tmp_path / "run", teacher=str(teacher), device="cpu")
    for key, value in result.metrics.items():
        assert found[key] == pytest.approx(value, abs=1e-4), key
    assert found["teacher_miou"] == pytest.approx(result.teacher_score)
    assert list(found["cost"]["student"]["latency_ms"]) == [1, 4]


def test_bfloat16_and_channels_last_run(folder, teacher, tmp_path):
    result = run(
        folder, tmp_path / "run", "gdkd", method__top_k=2, precision="bfloat16", channels_last=True, **taught_by(teacher)
    )
    assert torch.tensor(list(result.metrics.values())).isfinite().all()


def test_a_segmentation_network_is_no_classifiers_teacher_and_the_reverse(folder, teacher, tmp_path):
    with pytest.raises(ValueError, match="segmentation"):
        train(plan("digits", "kd", overrides={"teacher": str(teacher), "output": str(tmp_path / "run"), "device": "cpu"}))
