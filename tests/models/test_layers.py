"""A student that starts as some of its teacher's layers: exactly those, and everything else; or a refusal."""

import pytest
import torch
from torch import nn

from logitkd.models import build_model, build_pretrained, copy_layers
from text_folders import network_folder

IDS = torch.tensor([[2, 5, 9, 4, 3], [2, 7, 6, 3, 0]])
MASK = (IDS != 0).long()
WHERE = {
    "bert": "bert.encoder.layer",
    "distilbert": "distilbert.transformer.layer",
    "roberta": "roberta.encoder.layer",
    "gpt2": "transformer.h",
    "electra": "electra.encoder.layer",
    "deberta-v2": "deberta.encoder.layer",
    "xlnet": "transformer.layer",
}


@pytest.fixture
def pair(tmp_path):
    """Return a function that builds a teacher of four layers and a student of two, whose weights are others."""

    def pair(kind="bert", student="", layers=2, **changes):
        name = f"transformers:{network_folder(tmp_path / 'teacher', kind, layers=4)}"
        own = f"transformers:{network_folder(tmp_path / 'student', student or kind, layers=4, seed=1, **changes)}"
        small = build_model(own, changes.get("classes", 3), layers=layers)
        with torch.no_grad():
            for number, value in enumerate(small.parameters()):
                value.fill_(number / 100)
        return small, build_pretrained(name).model

    return pair


@pytest.mark.parametrize("layers", [(1, 3), (0, 2)])
@pytest.mark.parametrize("kind", WHERE)
def test_the_students_logits_are_those_of_the_teacher_without_the_other_layers(pair, kind, layers):
    student, teacher = pair(kind)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    copy_layers(student, teacher, layers)
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    stack = teacher.model.get_submodule(WHERE[kind])
    owner, _, last = WHERE[kind].rpartition(".")
    setattr(teacher.model.get_submodule(owner), last, nn.ModuleList(stack[layer] for layer in layers))
    teacher.model.config.num_hidden_layers = 2
    with torch.no_grad():
        found, wanted = student.eval()(IDS, MASK), teacher.eval()(IDS, MASK)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    torch.testing.assert_close(student.state_dict(), teacher.state_dict(), rtol=0, atol=0)


def test_all_layers_are_the_teacher_and_share_nothing_with_it(pair):
    student, teacher = pair(layers=4)
    copy_layers(student, teacher, range(4))
    torch.testing.assert_close(student.state_dict(), teacher.state_dict(), rtol=0, atol=0)
    held = {value.data_ptr() for value in teacher.parameters()}
    assert not any(value.data_ptr() in held for value in student.parameters())
    assert all(value.requires_grad for value in student.parameters())


def test_buffers_that_are_in_no_state_dict_are_copied_too(pair):
    student, teacher = pair()
    for network, value in ((student, 0.0), (teacher, 3.0)):
        network.model.bert.encoder.layer[0].register_buffer("scale", torch.tensor(value), persistent=False)
        network.model.bert.encoder.layer[1].register_buffer("scale", torch.tensor(value + 1), persistent=False)
    teacher.model.bert.encoder.layer[3].register_buffer("scale", torch.tensor(7.0), persistent=False)
    copy_layers(student, teacher, (1, 3))
    assert [layer.scale.item() for layer in student.model.bert.encoder.layer] == [4, 7]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((1, 4), r"must be in \[0, 3\] \(the teacher has 4, counted from 0\), got 4"),
        ((-1, 2), r"must be in \[0, 3\] .*, got -1"),
        ((3, 1), r"must rise, got \[3, 1\]"),
        ((1, 1), r"must rise, got \[1, 1\]"),
        ((1,), r"must be as many as the student has layers, 2, got 1: \[1\]"),
        ((0, 1, 2), r"must be as many as the student has layers, 2, got 3: \[0, 1, 2\]"),
    ],
)
def test_layers_that_are_not_there(pair, layers, words):
    student, teacher = pair()
    before = [value.clone() for value in student.parameters()]
    with pytest.raises(ValueError, match=f"`layers` {words}"):
        copy_layers(student, teacher, layers)
    assert all(value.equal(old) for value, old in zip(student.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student": "electra"}, r"of a teacher of the student's family, electra, got a bert\. Give the student the"),
        ({"classes": 5}, r"of a teacher of the student's classes, 5, got 3: the classifier is copied too"),
        ({"width": 8}, r"of a teacher that is as the student but for .*, got other hidden_size \(8 and 16\), inter"),
        ({"num_attention_heads": 4}, r"of a teacher .*, got other num_attention_heads \(4 and 2\)\."),  # of the same shapes
        ({"hidden_act": "relu"}, r"of a teacher .*, got other hidden_act \('relu' and 'gelu'\)\."),
    ],
)
def test_networks_that_are_not_alike(pair, changes, words):
    student, teacher = pair(**changes)
    with pytest.raises(ValueError, match=f"`layers` must be {words}"):
        copy_layers(student, teacher, (1, 3))


def test_what_only_training_reads_may_differ(pair):
    student, teacher = pair(hidden_dropout_prob=0.3, initializer_range=0.1, id2label={0: "a", 1: "b", 2: "c"})
    copy_layers(student, teacher, (1, 3))
    assert student.model.classifier.weight.equal(teacher.model.classifier.weight)


def test_a_tensor_of_no_counterpart(pair):
    """Nothing keeps the value that it had."""
    student, teacher = pair()
    student.model.bert.register_parameter("extra", nn.Parameter(torch.zeros(1)))
    with pytest.raises(ValueError, match=r"shapes, but bert\.extra fit nothing of the other"):
        copy_layers(student, teacher, (1, 3))
    student, teacher = pair()
    teacher.model.bert.register_parameter("extra", nn.Parameter(torch.zeros(1)))
    with pytest.raises(ValueError, match=r"shapes, but bert\.extra fit nothing of the other"):
        copy_layers(student, teacher, (1, 3))


def test_networks_that_are_no_text_classifiers(pair):
    student, teacher = pair()
    with pytest.raises(TypeError, match=r"got a teacher that is none \(Linear\)"):
        copy_layers(student, nn.Linear(2, 2), (1, 3))
    with pytest.raises(TypeError, match=r"got a student that is none \(Linear\)"):
        copy_layers(nn.Linear(2, 2), teacher, (1, 3))


def test_a_family_that_shares_the_weights_of_its_layers(tmp_path):
    name = f"transformers:{network_folder(tmp_path, 'albert', layers=2, embedding_size=16)}"
    teacher = build_pretrained(name).model
    with pytest.raises(ValueError, match="`layers` must be left out for a network of the kind albert"):
        copy_layers(build_model(name, 3), teacher, (0, 1))
