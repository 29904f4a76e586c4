"""Inputs by name: what runs behind a cut reads the pass's own attention mask, not the example's and not zeros."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
)

from logitkd.data import Batch
from logitkd.reach import PairOptions, RegionModel, StoneModel, Teacher, Tutor, Wants, make_pair
from logitkd.reach.inputs import Inputs, call
from logitkd.reach.replay.flow import follow
from logitkd.reach.replay.replay import Replay
from logitkd.reach.replay.trace import trace
from logitkd.reach.stones.cuts import find_blocks
from plain_network import Plain
from text_network import CLASSES, Text, texts


class IdsAlone(Text):
    """Finds the padding in the ids themselves."""

    def forward(self, input_ids: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input_ids, (input_ids != 0).long())


class Padding(nn.Module):
    """Says where there is padding."""

    def forward(self, attention_mask: Tensor) -> Tensor:
        return attention_mask == 0


class Logits(nn.Module):
    """A transformers classifier whose output is its logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def bert() -> nn.Module:
    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2, "num_labels": CLASSES}
    return Logits(BertForSequenceClassification(BertConfig(num_hidden_layers=4, max_position_embeddings=16, **sizes)))


def distilbert() -> nn.Module:
    config = DistilBertConfig(
        vocab_size=20, dim=6, hidden_dim=12, n_heads=2, n_layers=2, max_position_embeddings=16, num_labels=CLASSES
    )
    return Logits(DistilBertForSequenceClassification(config))


def gpt2() -> nn.Module:
    """Reads the ids again behind its last block, for where each text ends."""
    sizes = {"vocab_size": 20, "n_embd": 8, "n_layer": 4, "n_head": 2, "n_positions": 16, "num_labels": CLASSES}
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
    return Logits(GPT2ForSequenceClassification(GPT2Config(**sizes, **ends)))


EXAMPLE = texts([6, 6])  # nothing is padded here: zeros would do as its additive mask
BATCHES = [texts([6, 2, 3], seed=1), texts([1, 5], seed=2), texts([4, 9], longest=9, seed=3)]


@pytest.mark.parametrize(
    ("build", "cut"),
    [
        (Text, "blocks.0"),
        (Text, "blocks.2"),
        (bert, "model.bert.encoder.layer.0"),
        (bert, "model.bert.encoder.layer.1"),
        (distilbert, "model.distilbert.transformer.layer.0"),
        (gpt2, "model.transformer.h.3"),
    ],
)
@torch.no_grad()
def test_a_resumed_pass_reads_the_masks_of_its_own_batch(build: Callable[[], nn.Module], cut: str) -> None:
    torch.manual_seed(0)
    model = build().eval()
    expected = [model(**batch) for batch in BATCHES]
    if build is not gpt2:  # whose tokens look back only
        ids = BATCHES[0]["input_ids"]
        assert not torch.allclose(expected[0], model(ids, torch.ones_like(ids)))
    replay = Replay(model, [cut], EXAMPLE)
    replay.check(EXAMPLE)
    passes = [replay.run(batch) for batch in BATCHES]
    for whole, (output, (value,), memo) in reversed(list(zip(expected, passes, strict=True))):
        torch.testing.assert_close(output, whole, rtol=0, atol=0)
        torch.testing.assert_close(replay.resume(memo, 0, value), whole)
        rows = replay.resume(memo, 0, value.repeat_interleave(2, 0))
        torch.testing.assert_close(rows, whole.repeat_interleave(2, 0))
    _, (value,), memo = passes[0]
    with pytest.raises(ValueError, match="so many rows for each of its 3 examples, got 4 rows"):
        replay.resume(memo, 0, value[[0, 0, 1, 2]])


@torch.no_grad()
def test_token_ids_alone_are_read_behind_a_cut_as_well() -> None:
    torch.manual_seed(0)
    model = IdsAlone().eval()
    ids = EXAMPLE["input_ids"]
    replay = Replay(model, ["blocks.0"], ids)
    replay.check(ids)
    for batch in BATCHES:
        output, (value,), memo = replay.run(batch["input_ids"])
        torch.testing.assert_close(replay.resume(memo, 0, value), output)


def test_a_mask_that_a_skipped_module_made_is_refused() -> None:
    """On an example without padding zeros stand for it just as well: only noise shows that it is read."""
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"cut `blocks.0` of Text must put out all that the parts behind it read"):
        Replay(Text(masks=Padding()), ["blocks.0"], EXAMPLE).check(EXAMPLE)


def test_the_blocks_of_a_text_model_are_found() -> None:
    """GPT-2 returns its last norm's output as a view."""
    assert find_blocks(gpt2(), EXAMPLE).paths == tuple(f"model.transformer.h.{n}" for n in range(4))


def test_what_is_made_of_a_mask_does_not_count_as_read_around_a_block() -> None:
    flow = follow(Text(), EXAMPLE)
    assert [flow.of(flow.at(f"blocks.{n}")).alone for n in range(3)] == [True] * 3
    assert flow.of(flow.at("blocks.0.attention")).alone is False  # beside its residual
    assert [call.path for call in trace(Text(), EXAMPLE)[0]][:2] == ["embed", "blocks.0"]


@pytest.mark.parametrize(
    ("student", "teacher", "cuts"),
    [
        (Text, Text, [("blocks.0", "blocks.0"), ("blocks.1", "blocks.1"), ("blocks.2", "blocks.2")]),
        (
            distilbert,
            bert,
            [
                ("model.distilbert.transformer.layer.0", "model.bert.encoder.layer.1"),
                ("model.distilbert.transformer.layer.1", "model.bert.encoder.layer.3"),
            ],
        ),
    ],
)
def test_stones_of_texts_enter_the_teacher_with_its_own_masks(
    student: Callable[[], nn.Module], teacher: Callable[[], nn.Module], cuts: list[tuple[str, str]]
) -> None:
    torch.manual_seed(0)
    pupil, model = student(), teacher().eval()
    tutor = Tutor(Teacher(model, num_classes=CLASSES), Wants("stones"))
    pair = make_pair(Wants("stones"), pupil.eval(), tutor, _batch(EXAMPLE))
    taught = [tutor.teach(_batch(inputs), 1) for inputs in BATCHES]
    assert pair.note().count(" -> ") == len(cuts)
    assert all(f"{here} (" in pair.note() and f"{there} (" in pair.note() for here, there in cuts)
    connectors = list(pair.trained()["connectors"])
    for inputs, one in zip(BATCHES, taught, strict=True):
        torch.testing.assert_close(one.signals.logits, model(**inputs).detach())
        signals, _ = pair(_batch(inputs), one)
        torch.testing.assert_close(signals.logits, pupil(**inputs), rtol=0, atol=0)
        for stone, connector, (here, there) in zip(signals.stones or [], connectors, cuts, strict=True):
            torch.testing.assert_close(stone, _by_hand(pupil, model, connector, here, there, inputs))
    sum(stone.sum() for stone in signals.stones or []).backward()  # type: ignore[union-attr]
    assert next(pupil.parameters()).grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())
    before = pupil(**BATCHES[0])
    torch.testing.assert_close(pair.close()(**BATCHES[0]), before, rtol=0, atol=0)


def _batch(inputs: Inputs) -> Batch:
    return Batch(inputs, torch.zeros(2, dtype=torch.long), torch.arange(2))  # type: ignore[arg-type]


def _by_hand(
    student: nn.Module, teacher: nn.Module, connector: nn.Module, here: str, there: str, inputs: dict[str, Tensor]
) -> Tensor:
    """Return a stone's logits by hooks: the student's features, brought over, in place of what the teacher puts out."""
    seen: list[Tensor] = []
    first = student.get_submodule(here).register_forward_hook(lambda *ran: seen.append(_tensor(ran[2])))
    call(student, inputs)
    first.remove()
    entering = connector(seen[0])

    def replace(module: nn.Module, arguments: object, output: object) -> object:
        return (entering, *output[1:]) if isinstance(output, tuple) else entering

    second = teacher.get_submodule(there).register_forward_hook(replace)
    try:
        return call(teacher, inputs)
    finally:
        second.remove()


def _tensor(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def test_a_loop_of_ones_own_over_texts() -> None:
    torch.manual_seed(0)
    student, teacher = Text(4), Teacher(Text(), num_classes=CLASSES)
    cuts = ["blocks.1"]
    stones = StoneModel(student, teacher, EXAMPLE, student_cuts=cuts, teacher_cuts=cuts)
    for inputs in BATCHES:
        taught, signals = stones.teach(inputs), stones(inputs)
        torch.testing.assert_close(taught.logits, teacher.logits(inputs), rtol=0, atol=0)
        assert [stone.shape for stone in signals.stones or []] == [taught.logits.shape]
    assert stones.export() is student


def test_inputs_that_a_model_does_not_take_are_named() -> None:
    with pytest.raises(TypeError, match=r"Text must be callable with its inputs by name, `model\(input_ids\)`, but"):
        trace(Text(), {"input_ids": EXAMPLE["input_ids"]})


def test_regions_are_of_images() -> None:
    with pytest.raises(TypeError, match=r"region logits need images, .* got inputs by name \(input_ids, attention_mask\)"):
        RegionModel(Text())(EXAMPLE)
    tutor = Tutor(Teacher(Plain(), num_classes=5), Wants("regions", (1, 2)))
    with pytest.raises(ValueError, match="the student has no regions: region logits need images"):
        make_pair(Wants("regions", (1, 2)), Text(), tutor, _batch(EXAMPLE), PairOptions())
