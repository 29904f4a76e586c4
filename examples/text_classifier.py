"""A text classifier of one's own, distilled: which module of Python's standard library are five lines of?

    python examples/text_classifier.py

Both networks start from random weights and the tokenizer is made here, so that nothing is downloaded; with
`student="transformers:google-bert/bert-base-uncased"` and no checkpoint the rest is the same. On the command line it is
`logitkd train --task text --data.source FOLDER --student ... --teacher runs/teacher --method kd`.
"""

import csv
import importlib
import inspect
import tempfile
from dataclasses import replace
from pathlib import Path

from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from logitkd import ModelConfig, TextConfig, TrainConfig, export, predict, train

MODULES = ["argparse", "calendar", "configparser", "difflib", "doctest", "pathlib", "pickle", "statistics", "tarfile", "turtle"]


def write_texts(folder):
    """Write `train.csv` and `test.csv`: five lines of a module's source, and the module's name; return the texts."""
    rows = []
    for name in MODULES:
        lines = [line for line in inspect.getsource(importlib.import_module(name)).split("\n") if line.strip()]
        rows += [(" ".join(" ".join(lines[at : at + 5]).split()), name) for at in range(0, min(len(lines), 800) - 4, 5)]
    for split, kept in (("train", [row for at, row in enumerate(rows) if at % 4]), ("test", rows[::4])):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *kept])
    return [text for text, _ in rows]


def write_network(folder, texts):
    """Write what `save_pretrained` of a small BERT of random weights and of its tokenizer writes."""
    words = BertWordPieceTokenizer()
    words.train_from_iterator(texts, vocab_size=2000, show_progress=False)
    words.save_model(str(folder))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    config = BertConfig(vocab_size=2000, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
    BertForSequenceClassification(config).save_pretrained(folder)


def main():
    """Train a teacher, distil it into a student of its first layer, and use that."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "data").mkdir()
        write_network(home, write_texts(home / "data"))
        data = TextConfig(source=str(home / "data"), max_length=32)
        network = ModelConfig(f"transformers:{home}")
        config = TrainConfig(network, method="ce", task="text", data=data, epochs=4, output=str(home / "teacher"), quiet=True)
        config = replace(config, optim=replace(config.optim, lr=2e-3))
        train(config)
        smaller, teacher = replace(network, layers=(0,)), ModelConfig(str(home / "teacher"))
        result = train(replace(config, student=smaller, teacher=teacher, method="kd", output=str(home / "student")))
        for said in predict(result.folder, texts=["def median(data): return the middle value of numeric data"], top=3):
            print(dict(zip(said.classes, said.probabilities, strict=True)))
        print(f"for transformers: {export(result.folder, formats=['safetensors']).folder.name}/")
    print(f"student accuracy: {result.top1 / 100:.3f}")


if __name__ == "__main__":
    main()
