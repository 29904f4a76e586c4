"""The teacher of a run: where it comes from, what it is shown, which classes it ends in, and that a change is noticed."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import torchvision
import yaml
from safetensors.torch import save_file

from dense_networks import save_segformer
from logitkd import ModelConfig, TeacherConfig, TeacherSource, TrainConfig, evaluate, train
from logitkd.models import build_model
from logitkd.reach import Ensemble, LabelMap
from logitkd.runs.rules import checked
from logitkd.training.networks import build_networks, build_teacher, load_network
from logitkd.training.provenance import teacher_record
from network_folders import OWN_MEAN, OWN_STD, timm_folder, transformers_folder
from run_parts import image_task


@pytest.fixture(scope="module")
def task():
    return image_task()


@pytest.fixture(scope="module")
def digits(task):
    return task.data


@pytest.fixture
def images(digits):
    return normalised(digits, digits.mean, digits.std)


def normalised(digits, mean, std):
    column = [torch.tensor(values).view(3, 1, 1) for values in (mean, std)]
    return (digits.eval.images[:4] / 255 - column[0]) / column[1]


def write(path, text):
    path.write_text(text)
    return str(path)


def twelve_to_ten(path):
    """Twelve teacher classes: 0 to 9 as they are, 10 adds to 3, 11 is nothing."""
    return write(path, "".join(f"{i}: {i}\n" for i in range(10)) + "10: 3\n11: null\n")


@pytest.mark.parametrize("write_folder", [timm_folder, transformers_folder])
def test_the_student_input_is_normalised_again_as_the_source_says(tmp_path, task, digits, images, write_folder):
    prefix = "local-dir" if write_folder is timm_folder else "transformers"
    network = write_folder(tmp_path / "net", 10).eval()
    teacher = build_teacher(TeacherConfig(f"{prefix}:{tmp_path / 'net'}"), task)
    own = network(normalised(digits, OWN_MEAN, OWN_STD))
    torch.testing.assert_close(teacher(images).logits, getattr(own, "logits", own).detach())
    assert teacher_record(teacher, TeacherConfig(f"{prefix}:{tmp_path / 'net'}"))["mean"] == pytest.approx(OWN_MEAN)


def test_torchvision_weights_are_shown_imagenets_pixels(tmp_path, task, digits, images):
    network = torchvision.models.resnet18(num_classes=10).eval()
    torch.save(network.state_dict(), tmp_path / "net.pth")
    teacher = build_teacher(TeacherConfig("torchvision:resnet18", str(tmp_path / "net.pth")), task)
    expected = network(normalised(digits, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(teacher(images).logits, expected.detach(), rtol=1e-4, atol=1e-4)


def test_what_is_given_wins_and_equal_statistics_cost_nothing(tmp_path, task, digits, images):
    timm_folder(tmp_path / "net", 10)
    name = f"local-dir:{tmp_path / 'net'}"
    given = build_teacher(TeacherConfig(name, mean=(0.3, 0.4, 0.5), std=(0.2, 0.2, 0.2)), task)
    torch.testing.assert_close(given.prepare(images), normalised(digits, (0.3, 0.4, 0.5), (0.2, 0.2, 0.2)))
    one = build_teacher(TeacherConfig(name, std=(0.2, 0.2, 0.2)), task)
    assert (one.renormalize.own_mean, one.renormalize.own_std) == (tuple(OWN_MEAN), (0.2, 0.2, 0.2))
    same = build_teacher(TeacherConfig(name, mean=digits.mean, std=digits.std), task)
    assert same.prepare(images) is images
    assert "mean" not in teacher_record(same, TeacherConfig(name))


def test_a_runs_student_is_shown_what_its_run_was(teacher_folder, tmp_path, task, digits, images):
    record = yaml.safe_load((teacher_folder / "config.yaml").read_text())
    assert record["data"]["mean"] == list(digits.mean)
    config = TeacherConfig("cifar_resnet8", str(teacher_folder))
    assert build_teacher(config, task).renormalize is None
    other = tmp_path / "other"
    shutil.copytree(teacher_folder, other)
    record["data"] |= {"mean": [0.2] * 3, "std": [0.3] * 3}
    (other / "config.yaml").write_text(yaml.safe_dump(record))
    for checkpoint in (other, other / "student.safetensors"):
        teacher = build_teacher(replace(config, checkpoint=str(checkpoint)), task)
        torch.testing.assert_close(teacher.prepare(images), normalised(digits, [0.2] * 3, [0.3] * 3))
    del record["data"]["mean"], record["data"]["std"]  # as earlier versions wrote it
    (other / "config.yaml").write_text(yaml.safe_dump(record))
    assert build_teacher(replace(config, checkpoint=str(other)), task).renormalize is None


def test_classes_that_are_not_the_datas_need_a_map(tmp_path, task, digits, images):
    timm_folder(tmp_path / "net", 12)
    config = TeacherConfig(f"local-dir:{tmp_path / 'net'}")
    with pytest.raises(ValueError, match=r"`teacher` must have the data's classes, 10, or a label map: local-dir:.* has 12"):
        build_teacher(config, task)
    mapped = build_teacher(replace(config, label_map=twelve_to_ten(tmp_path / "map.yaml")), task)
    plain = mapped.model(mapped.prepare(images))
    expected = plain[:, :10].clone()
    expected[:, 3] = plain[:, [3, 10]].logsumexp(1)
    torch.testing.assert_close(mapped(images).logits, expected)


def test_a_checkpoint_says_its_own_classes_where_there_is_a_map(tmp_path, task, digits):
    torch.manual_seed(0)
    save_file(build_model("cifar_resnet8", 12).state_dict(), tmp_path / "net.safetensors")
    config = TeacherConfig("cifar_resnet8", str(tmp_path / "net.safetensors"))
    with pytest.raises(ValueError, match=r"has 12 classes .* the model has 10.* needs `teacher.label_map`"):
        build_teacher(config, task)
    config = replace(config, label_map=twelve_to_ten(tmp_path / "map.yaml"))
    for known in (None, 12):
        assert build_teacher(replace(config, num_classes=known), task).label_map.teacher_classes == 12
    with pytest.raises(ValueError, match=r"has 12 classes .* the model has 11"):
        build_teacher(replace(config, num_classes=11), task)


def test_names_come_from_the_run_or_the_source(teacher_folder, tmp_path, task, digits):
    record = yaml.safe_load((teacher_folder / "config.yaml").read_text())
    names = [f"digit {i}" for i in range(10)]
    other = tmp_path / "other"
    shutil.copytree(teacher_folder, other)
    record["data"]["classes"] = names
    (other / "config.yaml").write_text(yaml.safe_dump(record))
    text = "".join(f"digit {i}: {(i + 1) % 10}\n" for i in range(10))
    label_map = write(tmp_path / "map.yaml", text)
    teacher = build_teacher(TeacherConfig("cifar_resnet8", str(other), label_map), task)
    assert teacher.label_map.target == (*range(1, 10), 0)
    transformers_folder(tmp_path / "net", names=names)
    teacher = build_teacher(TeacherConfig(f"transformers:{tmp_path / 'net'}", label_map=label_map), task)
    assert teacher.label_map.target == (*range(1, 10), 0)


def test_the_datas_classes_in_another_order_are_refused(tmp_path, task, digits):
    transformers_folder(tmp_path / "net", names=[str(9 - i) for i in range(10)])
    with pytest.raises(ValueError, match=r"has the data's classes in another order \(9, 8.*Give `teacher.label_map`"):
        build_teacher(TeacherConfig(f"transformers:{tmp_path / 'net'}"), task)


def test_several_teachers(teacher_folder, tmp_path, task, digits, images):
    timm_folder(tmp_path / "net", 12)
    first = TeacherSource("cifar_resnet8", str(teacher_folder))
    second = TeacherSource(f"local-dir:{tmp_path / 'net'}", label_map=twelve_to_ten(tmp_path / "map.yaml"))
    parts = [build_teacher(TeacherConfig(**vars(each)), task)(images).logits for each in (first, second)]
    both = build_teacher(TeacherConfig(**vars(first), others=(second,)), task)
    assert isinstance(both, Ensemble)
    torch.testing.assert_close(both(images).logits, ((parts[0].softmax(1) + parts[1].softmax(1)) / 2).log())
    both = build_teacher(TeacherConfig(**vars(first), others=(second,), combine="logits"), task)
    torch.testing.assert_close(both(images).logits, (parts[0] + parts[1]) / 2)
    record = teacher_record(both, TeacherConfig(**vars(first), others=(second,)))
    assert "mean" not in record
    assert record["others"]["0"]["mean"] == OWN_MEAN
    assert record["others"]["0"]["label_map"]["used"] == 11


@pytest.mark.parametrize(("method", "precision"), [("kd", "bfloat16"), ("sdd-kd", "float32")])
def test_training_on_two_teachers_one_with_a_label_map(tiny, teacher_folder, tmp_path, method, precision):
    timm_folder(tmp_path / "net", 12)
    other = TeacherSource(f"local-dir:{tmp_path / 'net'}", label_map=twelve_to_ten(tmp_path / "map.yaml"))
    teacher = TeacherConfig("cifar_resnet8", str(teacher_folder), others=(other,))
    config = tiny(student=ModelConfig("cifar_resnet8"), teacher=teacher, method=method, precision=precision, epochs=2)
    result = train(config)
    assert result.top1 > 20
    agreement = evaluate(result.folder, teacher=teacher, latency=False)["agreement"]
    if precision == "float32":
        assert agreement == pytest.approx(result.metrics["agreement"])
    assert train(config).resumed_finished
    saved = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert saved["run"]["teacher"]["others"][0]["name"] == other.name
    assert saved["teacher"].keys() == {"parameters", "weights", "files", "others"}

    write(tmp_path / "map.yaml", "".join(f"{i}: {i}\n" for i in range(10)))
    with pytest.raises(ValueError, match=r"others\.0\.label_map\.fingerprint: \w+ in the folder"):
        train(config)


def test_a_changed_second_teacher_is_noticed_on_resume(tiny, teacher_folder, tmp_path):
    timm_folder(tmp_path / "net", 10)
    other = TeacherSource(f"local-dir:{tmp_path / 'net'}")
    config = tiny(teacher=TeacherConfig("cifar_resnet8", str(teacher_folder), others=(other,)), epochs=1)
    train(config)
    shutil.rmtree(tmp_path / "net")
    timm_folder(tmp_path / "net", 10, seed=99)
    with pytest.raises(ValueError, match=r"others\.0\.weights: \w+ in the folder"):
        train(config)


def test_a_run_of_an_earlier_version_goes_on(tiny):
    """Its config.yaml lacks the settings that came since."""
    result = train(tiny(epochs=1))
    path = result.folder / "config.yaml"
    record = yaml.safe_load(path.read_text())
    record["run"]["teacher"] = {key: record["run"]["teacher"][key] for key in ("name", "checkpoint")}
    del record["data"]["mean"], record["data"]["std"]
    path.write_text(yaml.safe_dump(record))
    assert train(tiny(epochs=1)).resumed_finished
    with pytest.raises(ValueError, match=r"teacher.mean: None in the folder, \[0.5, 0.5, 0.5\] now"):
        train(tiny(epochs=1, teacher=TeacherConfig(**record["run"]["teacher"], mean=(0.5,) * 3)))


def test_a_student_starts_from_pretrained_weights_with_a_new_head(tiny, tmp_path):
    source = timm_folder(tmp_path / "net", 7)
    config = tiny(student=ModelConfig(f"local-dir:{tmp_path / 'net'}"), method="ce", teacher=None, epochs=1)
    first = train(replace(config, output=str(tmp_path / "a")))
    again = train(replace(config, output=str(tmp_path / "b")))
    assert (first.folder / "student.safetensors").read_bytes() == (again.folder / "student.safetensors").read_bytes()
    assert "weights" in yaml.safe_load((first.folder / "config.yaml").read_text())["student"]
    source.conv1.weight.data.zero_()
    save_file(source.state_dict(), tmp_path / "net" / "model.safetensors")
    with pytest.raises(ValueError, match=r"under `student`:\n  weights:"):
        train(replace(config, output=str(tmp_path / "a")))


def test_several_teachers_have_no_stones(tiny, teacher_folder):
    teacher = TeacherConfig("cifar_resnet8", str(teacher_folder), others=(TeacherSource("a", str(teacher_folder)),))
    with pytest.raises(ValueError, match=r"`teacher\.others` must be empty for the method `block-kd`, got 1"):
        train(tiny(teacher=teacher, method="block-kd"))


def test_each_of_several_teachers_needs_weights(tiny, teacher_folder):
    teacher = TeacherConfig("cifar_resnet8", str(teacher_folder), others=(TeacherSource("cifar_resnet8"),))
    with pytest.raises(ValueError, match=r"`teacher.others\[0\].checkpoint` must be given"):
        train(tiny(teacher=teacher))


def test_a_plain_network_will_do_as_a_teacher(tiny, teacher_folder):
    assert checked(tiny()).teacher == TeacherConfig("cifar_resnet8", str(teacher_folder))


def test_the_label_map_of_a_teacher_is_a_label_map(tmp_path, task, digits):
    timm_folder(tmp_path / "net", 10)
    permutation = write(tmp_path / "map.csv", "teacher,student\n" + "".join(f"{i},{9 - i}\n" for i in range(10)))
    teacher = build_teacher(TeacherConfig(f"local-dir:{tmp_path / 'net'}", label_map=permutation), task)
    assert isinstance(teacher.label_map, LabelMap)
    assert teacher.label_map.target == tuple(range(9, -1, -1))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("vit", r"images \(3, 8, 8\) and nothing else, but TransformersClassifier fails on one \(.*\(4\*4\)"),
        ("TwoArguments", r"but TwoArguments fails on one \(.*missing 1 required positional argument: 'mask'\)"),
        ("Pair", r"the teacher must return its logits as one tensor \(N, C\), got tuple"),
    ],
)
def test_a_teacher_that_cannot_take_the_images_is_refused_before_training(tiny, tmp_path, network, words):
    name = f"tiny_net:{network}"
    if network == "vit":
        transformers_folder(tmp_path / "net", 10, kind="vit", image_size=4)
        name = f"transformers:{tmp_path / 'net'}"
    with pytest.raises((ValueError, TypeError), match=words):
        train(tiny(teacher=TeacherConfig(name), epochs=1))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_run_says_and_keeps_its_teachers_own_accuracy(tiny, teacher_folder, capsys):
    own = json.loads((teacher_folder / "result.json").read_text())["top1"]
    result = train(tiny(epochs=1))
    assert f"the teacher's own top-1 on test (500 images): {own:.2f}\n" in capsys.readouterr().err
    assert json.loads((result.folder / "result.json").read_text())["teacher_top1"] == own


def test_a_run_on_a_random_teacher_warns(tiny):
    with pytest.warns(UserWarning, match=r"the teacher's own top-1 .*Are these its trained weights"):
        train(tiny(teacher=TeacherConfig("tiny_net:TinyNet"), epochs=1))


@pytest.fixture
def scenes(digits):
    """A task on the digits whose networks return maps."""
    task = image_task()
    task.network_options = {"output": "maps", "aux": False}
    return task


def test_a_task_says_what_its_networks_are_built_with(scenes, images):
    config = TrainConfig(ModelConfig("deeplabv3:test_efficientnet"), TeacherConfig("dense_networks:build_teacher"))
    student, teacher = build_networks(config, scenes)
    assert student.model.aux_classifier is None
    assert student.eval()(images)["out"].shape == (4, 10, 1, 1)
    assert teacher(images).logits.shape == (4, 2, 2, 10)
    torch.testing.assert_close(teacher(images).logits.movedim(-1, 1), teacher.model(images))
    scenes.network_options = {"output": "maps", "aux": True}
    assert build_networks(config, scenes)[0].model.aux_classifier is not None


def test_teachers_that_return_maps_have_their_own_classes_and_inputs(tmp_path, scenes, digits, images):
    source = save_segformer(tmp_path / "net", 12)
    config = TeacherConfig(f"transformers:{tmp_path / 'net'}", label_map=twelve_to_ten(tmp_path / "map.yaml"))
    teacher = build_teacher(config, scenes)
    own = source(normalised(digits, OWN_MEAN, OWN_STD)).logits.detach()
    expected = own[:, :10].clone()
    expected[:, 3] = own[:, [3, 10]].logsumexp(1)
    torch.testing.assert_close(teacher(images).logits.movedim(-1, 1), expected)
    torch.save(build_model(config.name, 12, output="maps").state_dict(), tmp_path / "twelve.pth")
    assert build_teacher(replace(config, checkpoint=str(tmp_path / "twelve.pth")), scenes).model.num_classes == 12


def test_a_classifiers_run_gives_no_network_of_maps(scenes, task, teacher_folder):
    words = "`{}` must return logits of every cell of a grid, .* returns them .*: it was trained with `task: images`"
    config = ModelConfig("dense_networks:build", str(teacher_folder))
    with pytest.raises(ValueError, match=words.format("teacher")):
        build_teacher(config, scenes)
    with pytest.raises(ValueError, match=words.format("checkpoint")):
        load_network(config, scenes.classes, **scenes.network_options)
    with pytest.raises(ValueError, match="`teacher` must return logits"):
        build_teacher(TeacherConfig("cifar_resnet8", str(teacher_folder)), scenes)
