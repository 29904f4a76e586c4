"""Which examples are trained on and evaluated on; of whole sources in ``test_source.py`` and ``test_texts.py``."""

import pytest
import torch

from logitkd.data import TextConfig, TextSplit
from logitkd.data.selection import check_selection, divide, keep
from logitkd.data.splits import IMAGES, TEXTS

CLASSES = ("ant", "bee")


def split(*labels):
    return TextSplit(([f"text {row}" for row in range(len(labels))],), torch.tensor(labels))


@pytest.mark.parametrize(("kind", "noun"), [(IMAGES, "image"), (TEXTS, "text")])
def test_messages_call_examples_what_they_are(kind, noun):
    config, both = TextConfig(), [split(0, 0), split(0, 1)]
    with pytest.raises(ValueError, match=f"every class of the evaluation split must have training {noun}s, got none of bee"):
        divide(both, config, True, CLASSES, kind)
    with pytest.warns(UserWarning, match=rf"has no {noun} of 1 of the 2 classes in training \(bee\)") as caught:
        divide(both[::-1], config, True, CLASSES, kind)
    with pytest.raises(ValueError, match=f"at most 1, the {noun}s there are of class `bee`, got 2"):
        keep(split(0, 0, 1), 2, 0, CLASSES, kind)
    with pytest.raises(ValueError, match=f"every class has a single {noun}"):
        divide(both[1:], TextConfig(eval_fraction=0.5), True, CLASSES, kind)
    assert len(caught) == 1


def test_labels_are_hidden_after_the_held_out_were_chosen_by_them():
    config = TextConfig(eval_fraction=0.5)
    train, evaluation = divide([split(0, 0, 1, 1, -1)], config, False, CLASSES, TEXTS)
    assert (train.labels.tolist(), sorted(evaluation.labels.tolist())) == ([-1] * 3, [0, 1])
    shown, same = divide([split(0, 0, 1, 1, -1)], config, True, CLASSES, TEXTS)
    assert (shown.texts, same.texts) == (train.texts, evaluation.texts)
    assert sorted(shown.labels.tolist()) == [-1, 0, 1]


def test_which_are_chosen_stays_as_it_is():
    """The numbers are part of every result that was published."""
    rows = split(*[0] * 8)
    _, evaluation = divide([rows], TextConfig(eval_fraction=0.25), False, CLASSES, TEXTS)
    assert evaluation.texts == (["text 5", "text 7"],)
    assert keep(rows, 2, 0, CLASSES, TEXTS).texts == (["text 3", "text 5"],)
    assert keep(rows, 2, 1, CLASSES, TEXTS).texts == (["text 0", "text 1"],)


def test_what_cannot_be_chosen():
    with pytest.raises(ValueError, match=r"`data.train_per_class` must be at least 1, got 0"):
        check_selection(TextConfig(train_per_class=0), "given")
    with pytest.raises(ValueError, match="left out without labels"):
        check_selection(TextConfig(train_per_class=1), "none")
    with pytest.raises(ValueError, match=r"`labels` must be one of 'given', 'none', got 'some'"):
        check_selection(TextConfig(), "some")
    with pytest.raises(ValueError, match="where training labels are missing"):
        keep(split(0, 1, -1), 1, 0, CLASSES, TEXTS)
