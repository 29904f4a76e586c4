"""Exports of runs on text: what transformers loads, and programs that take texts of any length."""

import json
import re
import shutil
import socket
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from logitkd import ModelConfig, TrainConfig, evaluate, export, predict, train
from logitkd.data.text_config import TextConfig
from logitkd.exporting import texts
from logitkd.exporting.parity import ParityError
from logitkd.exporting.texts import Texts
from logitkd.models.text_classifier import TextClassifier
from logitkd.models.tokenizers import load_tokenizer
from text_folders import CLASSES, network_folder

FILES = {"README.md", "config.json", "model.onnx", "model.pt2", "model.safetensors"}
MANY = ["card", "the new loan is high today", "what is my rate of the card please", "help " * 50]


@pytest.fixture(scope="module")
def exported(text_run, tmp_path_factory):
    """The export of a run in every format, made without a network connection."""
    folder = tmp_path_factory.mktemp("exports") / "bert"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))
        result = export(text_run, folder)
    assert result.checked_on == "the first 8 evaluation texts of the run (`test`), some repeated to 24 tokens"
    return folder


def loaded(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer, AutoModelForSequenceClassification.from_pretrained(folder).eval()


def answers(folder, lines):
    """Probabilities by transformers alone, one text at a time."""
    tokenizer, model = loaded(folder)
    with torch.no_grad():
        shares = [
            model(**tokenizer(line, truncation=True, max_length=24, return_tensors="pt")).logits.softmax(1) for line in lines
        ]
    return torch.cat(shares)


def test_transformers_loads_network_and_tokenizer(exported, text_run):
    assert {path.name for path in exported.iterdir()} == FILES | {"tokenizer.json", "tokenizer_config.json"}
    _, model = loaded(exported)
    assert type(model).__name__ == "BertForSequenceClassification"
    assert model.config.id2label == dict(enumerate(CLASSES))
    assert model.config.label2id == {name: number for number, name in enumerate(CLASSES)}
    assert load_file(exported / "model.safetensors").keys() == model.state_dict().keys()
    shares = answers(exported, MANY)
    for one, row in zip(predict(text_run, texts=MANY, top=3), shares, strict=True):
        assert one.probabilities == pytest.approx(sorted(row.tolist(), reverse=True), abs=1e-5)
        assert one.classes[0] == CLASSES[int(row.argmax())]


def test_onnx_takes_any_number_of_texts_and_tokens(exported):
    names = ["input_ids", "attention_mask", "token_type_ids"]
    graph = onnx.load(exported / "model.onnx").graph
    assert [entry.name for entry in graph.input] == names
    for entry in graph.input:
        assert [size.dim_param for size in entry.type.tensor_type.shape.dim] == ["batch", "length"]
        assert entry.type.tensor_type.elem_type == onnx.TensorProto.INT64
    tokenizer, model = loaded(exported)
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    program = torch.export.load(exported / "model.pt2").module()
    for lines in (MANY, MANY[:1], MANY[1:3]):
        inputs = tokenizer(lines, truncation=True, max_length=64, padding=True, return_tensors="pt")  # beyond the run's 24
        wanted = model(**inputs).logits.detach().numpy()
        (found,) = session.run(["logits"], {name: inputs[name].numpy() for name in names})
        assert np.allclose(found, wanted, atol=1e-5)
        assert np.allclose(program(**inputs).detach().numpy(), wanted, atol=1e-5)


def test_config_has_transformers_keys_and_ours(exported, text_run):
    record = json.loads((exported / "config.json").read_text())
    assert record["architectures"] == ["BertForSequenceClassification"]
    assert record["model_type"] == "bert"
    ours = record["logitkd"]
    assert (ours["text_columns"], ours["max_length"]) == (["text"], 24)
    assert ours["beside"] == ["tokenizer.json", "tokenizer_config.json"]
    assert ours["student"]["name"] == "transformers:small"
    assert ours["accuracy"]["top1"] == json.loads((text_run / "result.json").read_text())["top1"]
    for path in exported.iterdir():
        assert str(text_run.parent).encode() not in path.read_bytes(), path


def test_the_card_speaks_of_texts_and_its_code_runs(exported):
    card = (exported / "README.md").read_text()
    for fact in (
        "library_name: transformers\npipeline_tag: text-classification\n",
        "A text classifier of 3 classes",
        "split `train`: 60 texts |",
        "on `test` (30 texts), after the last epoch",
        "Texts, read by the tokenizer in this folder and cut to 24 tokens",
        "in batches of 1 (5 tokens), 3 (16 tokens), 8 (24 tokens).",
    ):
        assert fact in card, fact
    assert "image" not in card
    names, found = {}, []
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    for block in blocks:
        exec(block.replace("THIS_FOLDER", str(exported)), names)
        found.append(names.pop("logits", None))
    assert len(blocks) == 4
    assert found[0] is None
    logits = [torch.as_tensor(one).detach() for one in found[1:]]
    assert all(torch.allclose(one, logits[0], atol=1e-5) for one in logits)
    assert logits[0].shape == (2, 3)


def test_an_export_takes_an_earlier_ones_place_and_no_other_folders(text_run, tmp_path):
    out = tmp_path / "out"
    export(text_run, out, formats=["safetensors"])
    export(text_run, out, formats=["safetensors"])
    (out / "vocab.txt").touch()  # a tokenizer's, but no export wrote it
    with pytest.raises(FileExistsError, match=r"holds vocab\.txt, which no export wrote"):
        export(text_run, out, formats=["safetensors"])


@pytest.mark.parametrize("kind", ["distilbert", "roberta", "gpt2"])
def test_other_families(kind, text_run, tmp_path):
    name = f"transformers:{network_folder(tmp_path / 'net', kind)}"
    data = TextConfig(str(text_run.parent / "data"), max_length=24)
    run = tmp_path / "run"
    result = train(
        TrainConfig(ModelConfig(name), method="ce", task="text", data=data, epochs=1, output=str(run), device="cpu", quiet=True)
    )
    assert evaluate(run, latency=False)["loss"] == pytest.approx(result.metrics["loss"], rel=1e-4)
    shutil.rmtree(tmp_path / "net")  # the run folder has all it takes
    export(run, formats=["safetensors", "torch_export"])
    shares = answers(run / "export", MANY)
    for one, row in zip(predict(run, texts=MANY, top=3), shares, strict=True):
        assert one.probabilities == pytest.approx(sorted(row.tolist(), reverse=True), abs=1e-5)
    program = torch.export.load(run / "export/model.pt2").module()
    inputs = loaded(run / "export")[0](MANY, truncation=True, max_length=40, padding=True, return_tensors="pt")
    assert list(inputs) == ["input_ids", "attention_mask"]
    assert torch.allclose(program(**inputs).softmax(1)[:3], shares[:3], atol=1e-5)


@pytest.fixture
def checked(exported, text_run, tmp_path):
    """A copy of an export that a test may spoil, and a function that checks it as export() does."""
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    student = TextClassifier(AutoModelForSequenceClassification.from_pretrained(exported)).eval()
    tokenizer = load_tokenizer("transformers:gone", text_run)
    tokens = tokenizer.encode((MANY,), 24)
    some = tokens.rows(torch.arange(4))
    facts = {"tokenizer": tokenizer, "texts": (MANY,), "tokens": tokens, "max_length": 24}
    given = texts.Input(texts.Trace(some, tuple(some), {}), {"4": some}, "", facts)

    def check():
        Texts().check(folder, student, "transformers:small", given, ["safetensors"])

    check()
    return folder, check


def test_a_weight_that_is_another_is_found(checked):
    folder, check = checked
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] += 0.1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ParityError, match=r"config\.json must give the student's logits within .* Nothing was exported"):
        check()
    weights["classifier.byas"] = weights.pop("classifier.bias")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ParityError, match=r"must find every weight by its name, but not classifier\.bias, classifier\.byas"):
        check()


def test_a_tokenizer_that_reads_otherwise_is_found(checked):
    folder, check = checked
    path = folder / "tokenizer.json"
    record = json.loads(path.read_text())
    vocabulary = record["model"]["vocab"]
    vocabulary["my"], vocabulary["of"] = vocabulary["of"], vocabulary["my"]
    path.write_text(json.dumps(record))
    with pytest.raises(ParityError, match="the exported tokenizer must read texts as the run's did"):
        check()
    path.write_text("{")
    with pytest.raises(ParityError, match="transformers must load what is exported, got"):
        check()


def test_what_does_not_agree_leaves_nothing(text_run, tmp_path, monkeypatch):
    rebuild = Texts.rebuild

    def spoiled(*arguments):
        network = rebuild(*arguments)
        torch.nn.init.zeros_(network.model.classifier.weight)
        return network

    monkeypatch.setattr(Texts, "rebuild", spoiled)
    with pytest.raises(ParityError, match=r"model\.safetensors must give .* on a batch of 1 \(5 tokens\)"):
        export(text_run, tmp_path / "out", formats=["safetensors"])
    assert not list(tmp_path.iterdir())


def test_without_the_data_random_tokens_serve(text_run, tmp_path):
    data = text_run.parent / "data"
    data.rename(tmp_path / "away")
    try:
        result = export(text_run, tmp_path / "out", formats=["safetensors"])
    finally:
        (tmp_path / "away").rename(data)
    assert result.checked_on == "8 texts of random tokens (seed 0), as the run's data could not be read here"
    assert result.checked_on in (tmp_path / "out/README.md").read_text()


def test_batches_are_of_the_lengths_that_they_say(text_run):
    record = {"run": {"student": {"name": "transformers:gone"}, "data": {"source": "gone", "max_length": 24}, "seed": 0}}
    given = Texts().read_input({**record, "data": {"text_columns": ["a", "b"], "fingerprint": ""}}, text_run)
    shapes = {size: batch["input_ids"].shape for size, batch in given.batches.items()}
    assert shapes == {"1 (5 tokens)": (1, 5), "3 (16 tokens)": (3, 16), "8 (24 tokens)": (8, 24)}
    assert given.trace.example["input_ids"].shape == (2, 7)
    lengths = given.batches["8 (24 tokens)"]["attention_mask"].sum(1)
    assert lengths[::2].tolist() == [24] * 4
    assert len(set(lengths.tolist())) > 2
    assert given.batches["8 (24 tokens)"]["token_type_ids"].unique().tolist() == [0, 1]
    left = replace(load_tokenizer("transformers:gone", text_run).encode((MANY,), 24), left=True)
    row = texts._sized(left, 2, 6)
    assert row["attention_mask"].tolist() == [[0, 0, 0, 1, 1, 1], [1] * 6]
