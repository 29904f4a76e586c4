"""Text classifiers of transformers: the logits that it gives, whatever a text is padded to; and what cannot be one."""

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from logitkd.models import ClassCountError, TextClassifier, build_model, build_pretrained, load_tokenizer
from text_folders import CLASSES, network_folder

TEXTS = ["my card was lost", "what", "the rate of the new loan is high today please help", "high [PAD] rate [PAD]"]
MORE = ["is the loan new", "my my my my my my my", "no", "what [SEP]"]
RELATIVE = {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0}
KINDS = {
    "bert": {},
    "distilbert": {},
    "roberta": {},
    "gpt2": {},
    "electra": {},
    "albert": {},
    "deberta-v2": RELATIVE,
    "xlnet": {},
}


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a tiny folder and names it: ``make("roberta")``."""

    def make(kind="bert", **options):
        return f"transformers:{network_folder(tmp_path / kind, kind, **{**KINDS.get(kind, {}), **options})}"

    return make


def folder_of(name):
    return Path(name.partition(":")[2])


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def logits_of(network, tokens, rows):
    with torch.no_grad():
        return network.eval()(**tokens.rows(torch.tensor(rows)))


@pytest.mark.parametrize("columns", [(TEXTS,), (TEXTS, MORE)], ids=["texts", "pairs"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_logit(make, kind, columns):
    name = make(kind)
    network, tokens = build_pretrained(name).model, load_tokenizer(name).encode(columns, 32)
    together = logits_of(network, tokens, [0, 1, 2, 3])
    assert together.abs().max() > 1e-3
    for row in range(4):
        torch.testing.assert_close(logits_of(network, tokens, [row])[0], together[row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_those_of_transformers_own_classes(make, kind):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    name = make(kind)
    found = build_pretrained(name)
    assert isinstance(found.model, TextClassifier)
    assert found.model.training
    assert (found.num_classes, found.classes, found.mean, found.std) == (3, None, None, None)
    model = AutoModelForSequenceClassification.from_pretrained(folder_of(name)).eval()
    side = "left" if kind == "xlnet" else "right"
    read = AutoTokenizer.from_pretrained(folder_of(name), padding_side=side)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**read).logits
    tokens = load_tokenizer(name).encode((TEXTS,), 32)
    torch.testing.assert_close(logits_of(found.model, tokens, [0, 1, 2, 3]), theirs, rtol=0, atol=1e-6)


def test_names_of_classes(make):
    name = make(id2label=dict(enumerate(CLASSES)), label2id={word: number for number, word in enumerate(CLASSES)})
    assert build_pretrained(name).classes == CLASSES


def test_a_student_of_other_classes_gets_a_new_head(make):
    name = make()
    body = build_pretrained(name).model.model.bert.state_dict()
    student = build_model(name, 5)
    assert student.num_classes == 5
    assert student.model.classifier.weight.shape == (5, 16)
    torch.testing.assert_close(student.model.bert.state_dict(), body, rtol=0, atol=0)


def test_a_body_without_a_head_starts_a_student_and_is_no_teacher(make):
    """Nor need it have the pooling in front of the head, which a network that learnt to fill in words lacks."""
    name = make()
    path = folder_of(name) / "model.safetensors"
    state = load_file(path)
    kept = {key: value for key, value in state.items() if not key.startswith(("classifier", "bert.pooler"))}
    save_file(kept, path, metadata={"format": "pt"})
    student = build_model(name, 3).model.state_dict()
    torch.testing.assert_close({key: student[key] for key in kept}, kept, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"lack bert\.pooler.*, classifier.weight, which would be random.*classify texts"):
        build_pretrained(name)
    del kept["bert.encoder.layer.1.output.dense.weight"]
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack bert\.encoder\.layer\.1\.output\.dense\.weight: they are of another network"):
        build_model(name, 3)


def test_so_many_layers(make):
    name = make(layers=3)
    whole = build_model(name, 3)
    two = build_model(name, 3, layers=2)
    assert two.model.config.num_hidden_layers == len(two.model.bert.encoder.layer) == 2
    state = whole.state_dict()
    for key, value in two.state_dict().items():
        assert value.equal(state[key])
    assert len(build_pretrained(name, layers=1).model.model.bert.encoder.layer) == 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "albert"])
def test_every_family_takes_fewer_layers(make, kind):
    assert build_model(make(kind, layers=3), 3, layers=1).model.config.num_hidden_layers == 1


def test_layers_that_cannot_be(make, tmp_path):
    from network_folders import transformers_folder

    name = make()
    for wrong in (0, 3):
        with pytest.raises(ValueError, match=rf"`layers` must be in \[1, 2\] \(what `transformers:.*` has\), got {wrong}"):
            build_model(name, 3, layers=wrong)
    with pytest.raises(ValueError, match=r"`layers` must be left out for a network of the kind albert"):
        build_model(make("albert"), 3, layers=1)
    with pytest.raises(ValueError, match=r"`layers` must be left out for `cifar_resnet8`: only text classifiers"):
        build_model("cifar_resnet8", 3, layers=1)
    with pytest.raises(ValueError, match=r"`layers` must be left out for `torchvision:resnet18.DEFAULT`"):
        build_pretrained("torchvision:resnet18.DEFAULT", layers=1)
    transformers_folder(tmp_path / "images")
    with pytest.raises(ValueError, match=r"`layers` must be left out for `transformers:.*`: it classifies images"):
        build_model(f"transformers:{tmp_path / 'images'}", 3, layers=1)


def test_layers_of_several_kinds_are_no_smaller_network(tmp_path):
    from transformers import Gemma2Config

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 32}
    Gemma2Config(vocab_size=20, num_hidden_layers=4, **sizes).save_pretrained(tmp_path)
    words = r"`layers` must be left out for `transformers:.*`: its layers are of several kinds \(full_attention, sliding"
    with pytest.raises(ValueError, match=words):
        build_model(f"transformers:{tmp_path}", 3, layers=2)


def test_layers_that_a_configuration_lists_by_kind_are_fewer_there_too(tmp_path):
    from transformers import AutoConfig, Qwen2Config, Qwen2ForSequenceClassification

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32}
    config = Qwen2Config(vocab_size=20, num_hidden_layers=3, pad_token_id=0, num_labels=3, **sizes)
    Qwen2ForSequenceClassification(config).save_pretrained(tmp_path / "whole")
    found = build_model(f"transformers:{tmp_path / 'whole'}", 3, layers=2).model.config
    assert len(getattr(found, "layer_types", None) or range(2)) == 2
    found.save_pretrained(tmp_path / "saved")
    assert AutoConfig.from_pretrained(tmp_path / "saved").num_hidden_layers == 2


def test_a_run_folder_brings_the_configuration(make, tmp_path):
    name = make(layers=3)
    network = tmp_path / "run" / "network"
    network.mkdir(parents=True)
    student = build_model(name, 3, layers=2)
    save_file(student.state_dict(), tmp_path / "run" / "student.safetensors")
    folder_of(name).rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="does not exist"):
        build_model(name, 3, checkpoint=tmp_path / "run", layers=2)
    (network / "config.json").write_bytes((tmp_path / "elsewhere" / "config.json").read_bytes())
    for checkpoint in (tmp_path / "run", str(tmp_path / "run" / "student.safetensors")):
        for found in (
            build_model(name, 3, checkpoint=checkpoint, layers=2),
            build_pretrained(name, 3, checkpoint=checkpoint, layers=2).model,
        ):
            torch.testing.assert_close(found.state_dict(), student.state_dict(), rtol=0, atol=0)


def test_weights_of_transformers_beside_a_name(make, tmp_path):
    name = make()
    other = network_folder(tmp_path / "other", seed=5)
    found = build_pretrained(name, 3, checkpoint=other / "model.safetensors").model
    wanted = build_pretrained(f"transformers:{other}").model
    torch.testing.assert_close(found.state_dict(), wanted.state_dict(), rtol=0, atol=0)


def test_a_seed_decides_a_new_head(make):
    name = make()
    heads = []
    for layers in (None, 2):  # asking what there is of layers draws nothing
        torch.manual_seed(7)
        heads.append(build_model(name, 5, layers=layers).model.classifier.weight)
    assert heads[0].equal(heads[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_other_classes_says_so(make, kind, tmp_path):
    name = make(kind)
    save_file(build_model(name, 5).state_dict(), tmp_path / "five.safetensors")
    with pytest.raises(ClassCountError, match=r"has 5 classes .*, the model has 3: build it with `num_classes=5`"):
        build_pretrained(name, 3, checkpoint=tmp_path / "five.safetensors")


def test_what_is_no_text_classifier(make, tmp_path):
    from transformers import T5Config, WhisperConfig

    T5Config().save_pretrained(tmp_path / "t5")
    with pytest.raises(ValueError, match=r"must be an encoder or a decoder, got an encoder-decoder \(t5\).* Take an encoder"):
        build_model(f"transformers:{tmp_path / 't5'}", 3)
    WhisperConfig().save_pretrained(tmp_path / "whisper")
    words = r"must be one that transformers can build as a classifier of images or of texts, got a whisper"
    for build in (build_pretrained, lambda name: build_model(name, 3)):
        with pytest.raises(ValueError, match=words):
            build(f"transformers:{tmp_path / 'whisper'}")
    with pytest.raises(ValueError, match=r"must have at least 2 classes, got one output"):
        build_pretrained(make(classes=1))


def test_a_decoder_must_say_what_fills_up_shorter_texts(make):
    words = r"must say which token fills up shorter texts, got no `pad_token_id` \(it is a gpt2\)\. Save it to a folder, and"
    with pytest.raises(ValueError, match=words):
        build_model(make("gpt2", pad_token_id=None), 3)


@pytest.mark.parametrize("record", [{"model_type": "mystery"}, {"hidden_size": 3}, {"model_type": "bert", "hidden_size": "x"}])
def test_a_configuration_that_says_nothing_known(tmp_path, record):
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(
        ValueError, match=r"^model `transformers:.*`: its configuration cannot be read \(.+\)\. It must be what `save_"
    ):
        build_model(f"transformers:{tmp_path}", 3)


def test_code_that_a_folder_brings_is_never_run(make, tmp_path):
    name = make()
    change(folder_of(name) / "config.json", model_type="mystery", auto_map={"AutoConfig": "own.Own"})
    (folder_of(name) / "own.py").write_text(f"open({str(tmp_path / 'run.txt')!r}, 'w')\n")
    words = r"must be one that transformers itself can build, got one with code of its own, which is never run\. Write a"
    for use in (lambda: build_model(name, 3), lambda: build_pretrained(name), lambda: load_tokenizer(name)):
        with pytest.raises(ValueError, match=words):
            use()
    assert not (tmp_path / "run.txt").exists()


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    begun = time.perf_counter()
    words = r"there is no folder some/network here, so it is taken as a hub id, which is not on this machine and could not be"
    for use in (build_pretrained, load_tokenizer, lambda name: build_model(name, 3)):
        with pytest.raises(ConnectionError, match=words):
            use("transformers:some/network")
    assert time.perf_counter() - begun < 10
