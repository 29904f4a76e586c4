"""Texts as token ids: the same that the tokenizer gives on its own, cut and counted; and which tokenizers are refused."""

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from logitkd.models import load_tokenizer
from text_folders import WORDS, network_folder

TEXTS = ["my card was lost", "what", "the rate of the new loan is high today please help", "high rate"]
MORE = ["is the loan new", "my my my my my my my my my my", "no", "what"]


def read(folder, **options):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)(**options)


def rows_of(tokens, values=None):
    """Return the tokens of each text as a list."""
    values = tokens.ids if values is None else values
    return [values[start:end].tolist() for start, end in zip(tokens.starts, tokens.ends, strict=True)]


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a tiny folder and names it: ``make("roberta")``."""

    def make(kind="bert", **options):
        return f"transformers:{network_folder(tmp_path / kind, kind, **options)}"

    return make


def folder_of(name):
    return Path(name.partition(":")[2])


@pytest.mark.parametrize("columns", [(TEXTS,), (TEXTS, MORE)])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_the_same_tokens_as_of_one_text_at_a_time(make, kind, columns, monkeypatch):
    monkeypatch.setattr("logitkd.models.tokenizers._AT_ONCE", 3)  # more than one piece
    name = make(kind)
    tokens = load_tokenizer(name).encode(columns, 8)
    for number, row in enumerate(rows_of(tokens)):
        pair = {"text_pair": columns[1][number]} if len(columns) == 2 else {}
        alone = read(folder_of(name), text=columns[0][number], truncation=True, max_length=8, **pair)
        assert row == alone["input_ids"]
        if kind == "bert":
            assert rows_of(tokens, tokens.types)[number] == alone["token_type_ids"]
    assert (tokens.types is None) == (kind == "distilbert")
    assert (tokens.ids.dtype, tokens.ends.dtype, len(tokens)) == (torch.int32, torch.int64, 4)
    assert (tokens.pad, tokens.pad_type, tokens.left) == (0, 0, False)


def test_texts_that_are_cut_are_counted(make):
    tokenizer = load_tokenizer(make())
    longest = [len(text.split()) + 2 for text in TEXTS]
    assert longest == [6, 3, 13, 4]
    for most in (8, 12, 13):
        tokens = tokenizer.encode((TEXTS,), most)
        assert tokens.cut == sum(length > most for length in longest)
        assert tokens.lengths.tolist() == [min(length, most) for length in longest]
    pairs = tokenizer.encode((TEXTS, MORE), 11)  # 11, 14, 15 and 6 tokens
    assert (pairs.cut, pairs.lengths.tolist()) == (2, [11, 11, 11, 6])


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_texts_without_tokens_are_refused(make, kind):
    """Characters without width, which are no spaces: a decoder without special tokens would be shown nothing at all."""
    name = make(kind)
    file = folder_of(name) / "tokenizer.json"
    said = json.loads(file.read_text())
    replaced = {"type": "Replace", "pattern": {"String": "\u200b"}, "content": ""}
    said |= {"normalizer": replaced} | ({"post_processor": None} if kind == "gpt2" else {})
    file.write_text(json.dumps(said))
    tokenizer = load_tokenizer(name)
    words = r"texts must have tokens, got none of the tokenizer of `transformers:.*` for '\\u200b' \(text 1,001 "
    with pytest.raises(ValueError, match=words):
        tokenizer.encode((["card"] * 1001 + ["\u200b"],), 16)
    assert len(tokenizer.encode((["card", "qq"],), 16)) == 2


def test_no_texts_are_no_tokens(make):
    tokens = load_tokenizer(make()).encode(([],), 8)
    assert (len(tokens), len(tokens.ids), len(tokens.types), tokens.cut) == (0, 0, 0, 0)


def test_a_very_long_text_is_read_at_once(make):
    tokenizer = load_tokenizer(make())
    begun = time.perf_counter()
    tokens = tokenizer.encode((["card " * 20_000, "x" * 100_000, "\u00e9\u0301\U0001f600" * 30_000, "loan"],), 16)
    assert time.perf_counter() - begun < 5
    assert (tokens.lengths.tolist(), tokens.cut) == ([16, 3, 16, 3], 2)


def test_a_tokenizer_written_in_python(tmp_path, make):
    """Transformers has some of which there is no faster form."""
    from transformers import ByT5Tokenizer

    name = make(vocab_size=400)
    ByT5Tokenizer(model_max_length=64).save_pretrained(folder_of(name))
    (folder_of(name) / "tokenizer.json").unlink()
    tokenizer = load_tokenizer(name)
    assert not tokenizer.inner.is_fast
    one = tokenizer.encode((["ab", "abcdefgh", ""],), 8)  # the end token is one too many
    assert rows_of(one) == [[100, 101, 1], [*range(100, 107), 1], [1]]
    assert one.cut == 1
    two = tokenizer.encode((["ab", "abcde"], ["c", "ab"]), 8)
    assert rows_of(two) == [[100, 101, 1, 102, 1], [100, 101, 102, 103, 1, 100, 101, 1]]
    assert two.cut == 1
    assert tokenizer.files().keys() >= {"tokenizer_config.json"}


@pytest.mark.parametrize(
    ("kind", "changes", "longest"),
    [
        ("bert", {"max_position_embeddings": 40}, 40),
        ("bert", {"max_position_embeddings": 100}, 64),  # what the tokenizer says
        ("roberta", {"max_position_embeddings": 41}, 40),  # whose positions begin behind that of the padding's id
        ("gpt2", {"n_positions": 33}, 33),
        ("xlnet", {}, 64),
    ],
)
def test_the_longest_text_is_what_tokenizer_and_network_can_take(make, kind, changes, longest):
    tokenizer = load_tokenizer(make(kind, **changes))
    assert tokenizer.longest == longest
    tokenizer.check(longest)
    words = rf"`data.max_length` must be in \[8, {longest}\] \(tokens that `transformers:.*` takes\), got {longest + 1}"
    with pytest.raises(ValueError, match=words):
        tokenizer.check(longest + 1)
    with pytest.raises(ValueError, match="`data.max_length` must be"):
        tokenizer.encode((TEXTS,), longest + 1)
    with pytest.raises(ValueError, match="`data.max_length` must be"):
        tokenizer.check(7)


def test_a_tokenizer_and_a_network_without_limits(make):
    name = make("xlnet")
    path = folder_of(name) / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": None}))
    tokenizer = load_tokenizer(name)
    assert tokenizer.longest is None
    assert tokenizer.encode((["card " * 3000],), 2000).lengths.tolist() == [2000]


def test_the_files_of_a_run_folder_stand_in_for_the_networks_own(make, tmp_path):
    name = make()
    tokenizer = load_tokenizer(name)
    before = tokenizer.files()
    wanted = tokenizer.encode((TEXTS,), 8)  # which sets what some of its files hold
    assert tokenizer.files() == before == load_tokenizer(name).files()
    assert not any(str(tmp_path).encode() in content for content in before.values())
    network = tmp_path / "run" / "network"
    network.mkdir(parents=True)
    for file, content in {**before, "config.json": (folder_of(name) / "config.json").read_bytes()}.items():
        (network / file).write_bytes(content)
    (tmp_path / "run" / "student.safetensors").touch()
    shutil.rmtree(folder_of(name))
    for checkpoint in (tmp_path / "run", str(tmp_path / "run" / "student.safetensors")):
        found = load_tokenizer(name, checkpoint)
        assert found.encode((TEXTS,), 8).same(wanted)
        assert found.files() == before
    with pytest.raises(ValueError, match="does not exist"):
        load_tokenizer(name, tmp_path)


def test_types_are_left_out_where_a_network_has_but_one(make):
    name = make("roberta")
    path = folder_of(name) / "tokenizer_config.json"
    names = ["input_ids", "attention_mask", "token_type_ids"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_input_names": names}))
    assert load_tokenizer(name).encode((TEXTS, MORE), 8).types is not None
    config = folder_of(name) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "type_vocab_size": 1}))
    assert load_tokenizer(name).encode((TEXTS, MORE), 8).types is None


def test_loading_leaves_the_random_stream_as_it_was(make):
    name = make()
    before = torch.get_rng_state()
    load_tokenizer(name)
    assert torch.get_rng_state().equal(before)


def test_a_tokenizer_that_its_network_cannot_read(make):
    words = (
        r"must have every token of its tokenizer, got the id 19 \('today'\) for a `vocab_size` of 19\. Is it the tokenizer of"
    )
    with pytest.raises(ValueError, match=words):
        load_tokenizer(make(vocab_size=len(WORDS) + 3))
    with pytest.raises(
        ValueError, match=r"its tokenizer must have a padding token, .* got none\. Save it to a folder with one"
    ):
        load_tokenizer(make(padding=False))
    with pytest.raises(ValueError, match=r"`pad_token_id` in its `config.json` must be what its tokenizer pads with, 0, got 5"):
        load_tokenizer(make(pad_token_id=5))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_folder_without_a_tokenizer(make, kind):
    """Transformers makes one up, which knows no words."""
    name = make(kind)
    for path in folder_of(name).glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"must come with a tokenizer, got none: without what `tokenizer.save_pretrained`"):
        load_tokenizer(name)


def test_a_damaged_tokenizer(make):
    name = make()
    (folder_of(name) / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"model `transformers:.*`: its tokenizer cannot be read \(.+\)"):
        load_tokenizer(name)
    (folder_of(name) / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(ValueError, match=r"model `transformers:.*`: its tokenizer cannot be read \(.+\)"):
        load_tokenizer(name)


def test_code_that_a_tokenizer_brings_is_never_run(make, tmp_path):
    name = make()
    path = folder_of(name) / "tokenizer_config.json"
    record = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    path.write_text(json.dumps({**json.loads(path.read_text()), **record}))
    (folder_of(name) / "own.py").write_text(f"open({str(tmp_path / 'run.txt')!r}, 'w')\nclass Own: pass\n")
    with suppress(ValueError):  # refused by some versions of transformers; others need but tokenizer.json
        load_tokenizer(name)
    assert not (tmp_path / "run.txt").exists()


def test_networks_that_read_no_texts(tmp_path):
    from network_folders import transformers_folder

    with pytest.raises(ValueError, match="must come with a tokenizer to read texts, got one that has none"):
        load_tokenizer("resnet18")
    transformers_folder(tmp_path / "net")
    with pytest.raises(ValueError, match=r"must read texts, got one of images \(resnet\)"):
        load_tokenizer(f"transformers:{tmp_path / 'net'}")
