"""Networks that take different things of a batch: each gets its own, in every pair that can join them."""

import pytest
import torch

from logitkd.data import Batch
from logitkd.reach import Ensemble, PairOptions, Teacher, Tutor, Wants, make_pair
from logitkd.reach.inputs import ByNetwork, apply, call, count, for_network, take, tensors
from text_network import CLASSES, Text, texts

ROLES = ("student", "teacher", "teacher.others[0]")
INPUTS = ByNetwork({role: texts([5, 3, 4], seed=seed) for seed, role in enumerate(ROLES)})


def network(seed):
    torch.manual_seed(seed)
    return Text()


def batch(inputs):
    rows = torch.arange(count(inputs))
    return Batch(inputs, rows % CLASSES, rows)


def teacher(seed, role="teacher"):
    return Teacher(network(seed).eval(), num_classes=CLASSES, role=role)


def pair(reads, teachers, inputs, student=None):
    tutor = Tutor(teachers, Wants(reads))
    made = make_pair(tutor.wants, network(0).eval() if student is None else student, tutor, batch(inputs), PairOptions(seed=1))
    return made, tutor


def test_each_network_gets_its_own():
    made, tutor = pair("logits", teacher(1), INPUTS)
    student, taught = made(batch(INPUTS), tutor.teach(batch(INPUTS), 1))
    torch.testing.assert_close(student.logits, network(0).eval()(**INPUTS["student"]))
    torch.testing.assert_close(taught.logits, network(1).eval()(**INPUTS["teacher"]))


def test_each_of_several_teachers_gets_its_own():
    several = Ensemble([teacher(1), teacher(2, ROLES[2])], "logits")
    made, tutor = pair("logits", several, INPUTS)
    _, taught = made(batch(INPUTS), tutor.teach(batch(INPUTS), 1))
    each = [network(seed).eval()(**INPUTS[role]) for seed, role in ((1, ROLES[1]), (2, ROLES[2]))]
    torch.testing.assert_close(taught.logits, sum(each) / 2)


def test_a_network_without_inputs_in_a_batch_is_named():
    with pytest.raises(ValueError, match=r"hold what each network takes, got student, and nothing for the teacher"):
        teacher(1).logits(ByNetwork({"student": INPUTS["student"]}))


def test_stones_need_the_same_tokens_in_every_batch_not_in_the_example_alone():
    same = {"student": INPUTS["student"], "teacher": INPUTS["student"]}
    with pytest.raises(ValueError, match=r"both must be shown the same tokens, got attention_mask, input_ids of their own"):
        pair("stones", teacher(1), ByNetwork(same))
    with pytest.raises(ValueError, match="got attention_mask of their own"):
        pair("stones", teacher(1), ByNetwork(same, ["input_ids"]))


class Typed(Text):
    """Takes token types beside the rest."""

    def forward(self, input_ids, attention_mask, token_type_ids):
        return super().forward(input_ids, attention_mask) + token_type_ids.sum()


def test_stones_of_shared_tokens_are_those_of_plain_inputs_whatever_else_a_network_takes():
    plain, types = texts([6, 4]), {"token_type_ids": torch.ones(2, 6, dtype=torch.long)}
    torch.manual_seed(0)
    typed = Typed().eval()
    inputs = ByNetwork({"student": {**plain, **types}, "teacher": plain}, ["input_ids", "attention_mask"])
    made, tutor = pair("stones", teacher(1), inputs, typed)
    expected, usual = pair("stones", teacher(1), plain)
    found = made(batch(inputs), tutor.teach(batch(inputs), 1))[0]
    wanted = expected(batch(plain), usual.teach(batch(plain), 1))[0]
    torch.testing.assert_close(found.logits, wanted.logits + 12)
    assert len(found.stones) == len(wanted.stones) == 3
    for stone, other in zip(found.stones, wanted.stones, strict=True):
        torch.testing.assert_close(stone, other)


def test_inputs_by_network_are_counted_taken_and_changed_like_any():
    inputs = ByNetwork(INPUTS, ["input_ids"])
    assert count(inputs) == 3
    assert len(tensors(inputs)) == 6
    first = take(inputs, 1)
    assert isinstance(first, ByNetwork)
    assert first.shared == {"input_ids"}
    assert count(first) == 1
    assert torch.equal(first["teacher"]["input_ids"], INPUTS["teacher"]["input_ids"][:1])
    doubled = apply(lambda tensor: 2 * tensor, inputs)
    assert torch.equal(doubled["student"]["input_ids"], 2 * INPUTS["student"]["input_ids"])
    assert for_network(inputs, "student") is inputs["student"]
    assert torch.equal(call(network(0).eval(), inputs), network(0).eval()(**INPUTS["student"]))
