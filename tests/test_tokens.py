import torch

from logitkd.tokens import Tokens


def tokens(**changes):
    """Three texts of 2, 1 and 4 tokens."""
    given = {
        "ids": torch.tensor([5, 6, 7, 1, 2, 3, 4], dtype=torch.int32),
        "ends": torch.tensor([2, 3, 7]),
        "types": None,
        "pad": 9,
    }
    return Tokens(**{**given, **changes})


def test_rows_are_filled_up_to_the_longest_of_them_and_no_further():
    rows = tokens().rows(torch.tensor([1, 0]))
    assert rows["input_ids"].tolist() == [[7, 9], [5, 6]]
    assert rows["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert rows.keys() == {"input_ids", "attention_mask"}
    assert all(tensor.dtype == torch.int64 for tensor in rows.values())
    assert tokens().rows(torch.tensor([2, 1]))["input_ids"].tolist() == [[1, 2, 3, 4], [7, 9, 9, 9]]


def test_filling_stands_before_the_text_where_a_tokenizer_says_so():
    rows = tokens(left=True).rows(torch.tensor([1, 2, 0]))
    assert rows["input_ids"].tolist() == [[9, 9, 9, 7], [1, 2, 3, 4], [9, 9, 5, 6]]
    assert rows["attention_mask"].tolist() == [[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1]]


def test_types_are_filled_up_with_their_own():
    types = torch.tensor([0, 1, 0, 0, 0, 1, 1], dtype=torch.int32)
    assert tokens(types=types, pad_type=3).rows(torch.tensor([0, 2]))["token_type_ids"].tolist() == [[0, 1, 3, 3], [0, 0, 1, 1]]


def test_no_rows_are_no_texts():
    assert tokens().rows(torch.tensor([], dtype=torch.int64))["input_ids"].shape == (0, 0)


def test_the_same_are_the_same_ids_in_the_same_filling_and_types():
    types = torch.zeros(7, dtype=torch.int32)
    one = tokens()
    assert one.same(tokens())
    assert not one.same(tokens(pad=0))
    assert not one.same(tokens(left=True))
    assert not one.same_ids(tokens(ids=torch.tensor([5, 6, 7, 1, 2, 3, 8], dtype=torch.int32)))
    assert not one.same_ids(tokens(ends=torch.tensor([1, 3, 7])))
    assert one.same_ids(tokens(types=types))
    assert not one.same(tokens(types=types))
    assert tokens(types=types).same(tokens(types=types.clone()))
    assert not tokens(types=types).same(tokens(types=types + 1))
