"""Networks are shown blank images before time is spent."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from logitkd import ModelConfig, evaluate, train
from logitkd.data import DataConfig
from logitkd.models import build_model
from logitkd.reach import Teacher
from logitkd.training.network_checks import check_learns, check_student, check_teacher
from network_folders import transformers_folder
from run_parts import blank_task

CPU = torch.device("cpu")
LEARN = "the student must have logits that depend on parameters to train, but `tiny_net:"
RETURN = r"the student must return logits \(N, 10\), one row an image and one column a class, got "

REFUSED = [
    ("tiny_net:Named", RETURN + r"dict \(`tiny_net:Named`\)\. Wrap it"),
    ("tiny_net:Pair", RETURN + r"tuple \(`tiny_net:Pair`\)\. Wrap it"),
    ("tiny_net:Spatial", RETURN + r"\(2, 10, 1, 1\) for 2 images \(`tiny_net:Spatial`\)\. Its `forward"),
    ("tiny_net:seven", RETURN + r"\(2, 7\) for 2 images \(`tiny_net:seven`\)\. It has 7 classes: let it take `num_classes`"),
    ("tiny_net:TwoArguments", r"nothing else, but `tiny_net:TwoArguments` fails on one \(TypeError: .*missing 1 required"),
    ("tiny_net:NoParameters", LEARN + "NoParameters` has no parameters\\. .* `nn.ModuleList`"),
    ("tiny_net:frozen", LEARN + "frozen` has 8 parameters and all of them are frozen"),
    (
        "tiny_net:Detached",
        LEARN + "Detached` returns logits that depend on none of its 8 trainable parameters: they are detached",
    ),
    ("tiny_net:NoGrad", LEARN + "NoGrad` returns logits that depend on none of its 8 trainable"),
    ("tiny_net:Beside", LEARN + "Beside` returns logits that depend on none of its 2 trainable"),
    ("tiny_net:Missing", r"but `tiny_net:Missing` fails on one \(KeyError: 'images'\)"),
]


@pytest.mark.parametrize(("name", "words"), REFUSED)
def test_a_student_is_refused_before_training(tiny, tmp_path, name, words):
    with pytest.raises((TypeError, ValueError), match=words):
        train(tiny(student=ModelConfig(name), epochs=1))
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("name", ["TinyNet", "NoGradInEval", "LastLayerOnly"])
def test_a_student_that_learns_is_shown_images_without_a_trace(name):
    student = build_model(f"tiny_net:{name}", 10)
    state = {key: value.clone() for key, value in student.state_dict().items()}
    before = torch.random.get_rng_state()
    check_learns(student, "`mine`", blank_task(10), CPU)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert student.training
    assert all(torch.equal(value, state[key]) for key, value in student.state_dict().items())
    assert all(parameter.grad is None for parameter in student.parameters())


@pytest.mark.parametrize("name", ["frozen", "Detached"])
def test_what_cannot_learn_can_be_evaluated(name):
    assert evaluate(ModelConfig(f"tiny_net:{name}"), DataConfig(), latency=False)["images"] > 0


def test_images_that_no_memory_holds():
    with pytest.raises(ValueError, match=r"the student must take a batch of images \(3, 9000000, 9000000\) .*RuntimeError"):
        check_student(build_model("tiny_net:TinyNet", 10), "`mine`", blank_task(10, (3, 9_000_000, 9_000_000)), CPU)


def test_a_student_is_refused_before_evaluation():
    with pytest.raises(TypeError, match=REFUSED[0][1]):
        evaluate(ModelConfig("tiny_net:Named"), DataConfig())
    with pytest.raises(ValueError, match=r"\(2, 7\) for 2 images \(`TinyNet`\)"):
        evaluate(build_model("tiny_net:seven", 10), DataConfig())


def test_what_differs_in_training_is_named_at_the_first_step(tiny):
    with pytest.raises(TypeError, match=r"the student must return its logits as one tensor \(N, C\), got tuple"):
        train(tiny(student=ModelConfig("tiny_net:PairInTraining"), epochs=1))


def test_classes_predicted_are_no_logits():
    class Predicts(nn.Module):
        def forward(self, images):
            return torch.zeros(len(images), 10, dtype=torch.long)

    with pytest.raises(TypeError, match=r"the student \(`mine`\) must return floating-point logits, got torch.int64"):
        check_student(Predicts(), "`mine`", blank_task(10), CPU)


def test_a_transformers_network_says_its_size(tiny, tmp_path):
    transformers_folder(tmp_path / "net", 10, kind="vit", image_size=4)
    words = (
        r"the student .* but `transformers:.*net` fails .*built for images of 4x4, these are 8x8: give `--data.image_size 4`"
    )
    with pytest.raises(ValueError, match=words):
        train(tiny(student=ModelConfig(f"transformers:{tmp_path / 'net'}"), epochs=1))


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_other_networks_say_their_size(library):
    if library == "timm":
        network = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=10)
    else:
        network = torchvision.models.VisionTransformer(32, 16, 1, 1, 8, 8, num_classes=10)
    check_student(network, "`mine`", blank_task(10, (3, 32, 32)), CPU)
    with pytest.raises(ValueError, match=r"built for images of 32x32, these are 48x48: give `--data.image_size 32`"):
        check_student(network, "`mine`", blank_task(10, (3, 48, 48)), CPU)


def test_looking_leaves_no_trace():
    student = build_model("tiny_net:AlwaysDrops", 10)
    student[1].eval()
    before = [module.training for module in student.modules()], torch.random.get_rng_state()
    state = {name: value.clone() for name, value in student.state_dict().items()}
    check_student(student, "`mine`", blank_task(10), CPU)
    assert [module.training for module in student.modules()] == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])
    assert all(torch.equal(value, state[name]) for name, value in student.state_dict().items())
    assert all(parameter.grad is None for parameter in student.parameters())


def test_what_a_task_relies_on_is_asked_of_student_and_teacher():
    task, asked = blank_task(10), []
    task.check_network = lambda see, role, name, device: asked.append((role, name, tuple(see(task.blank(3, device)).shape)))
    check_student(build_model("cifar_resnet8", 10), "`it`", task, CPU)
    check_teacher(Teacher(build_model("cifar_resnet8", 10), num_classes=10), task, CPU)
    assert asked == [("student", "`it`", (3, 10)), ("teacher", "CifarResNet", (3, 10))]
