"""Text sets and transformers folders of a few kilobytes, written on the spot: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import torch

__all__ = ["CLASSES", "WORDS", "network_folder", "sentences", "write_csv", "write_lines"]

CLASSES = ("card", "loan", "rate")
WORDS = [*CLASSES, "my", "the", "is", "was", "lost", "high", "new", "what", "of", "a", "please", "help", "today"]


def sentences(count: int, seed: int = 0, longest: int = 9) -> tuple[list[str], list[int]]:
    """Return texts of 2 to ``longest`` words, each with the name of its class among them, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    texts, labels = [], []
    for row in range(count):
        label = row % len(CLASSES)
        length = int(torch.randint(1, longest, (), generator=generator))
        words = [WORDS[3 + int(n)] for n in torch.randint(0, len(WORDS) - 3, (length,), generator=generator)]
        words.insert(int(torch.randint(0, length + 1, (), generator=generator)), CLASSES[label])
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


def write_lines(folder: Path, train: int = 60, test: int = 30, **more: object) -> Path:
    """Write ``train.jsonl`` and ``test.jsonl``, lines of ``text`` and ``label`` (a class name); return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("test", test)):
        texts, labels = sentences(count, seed=len(split))
        rows = ({"text": text, "label": CLASSES[label], **more} for text, label in zip(texts, labels, strict=True))
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_csv(folder: Path, train: int = 60, test: int = 30) -> Path:
    """Write ``train.csv`` and ``test.csv``, columns ``text`` and ``label`` (a class name); return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("test", test)):
        texts, labels = sentences(count, seed=len(split))
        rows = (f'"{text}",{CLASSES[label]}\n' for text, label in zip(texts, labels, strict=True))
        (folder / f"{split}.csv").write_text("text,label\n" + "".join(rows))
    return folder


def network_folder(
    folder: Path,
    kind: str = "bert",
    *,
    layers: int = 2,
    width: int = 16,
    classes: int = len(CLASSES),
    words: list[str] | None = None,
    padding: bool = True,
    weights: bool = True,
    seed: int = 0,
    **changes: object,
) -> Path:
    """Write what ``save_pretrained`` of a tiny random text classifier and of its tokenizer writes; return the folder.

    Args:
        folder: to write.
        kind: a model type of transformers: ``bert``, ``distilbert``, ``roberta``, ``gpt2``, ``xlnet`` and those like BERT.
        layers: of the encoder.
        width: of a token.
        classes: of its head.
        words: that its tokenizer knows, by default all in ``WORDS``; others give other token ids.
        padding: whether the tokenizer has a padding token.
        weights: whether to write weights, not the configuration alone.
        seed: of the weights.
        changes: further keys of its configuration.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(WORDS if words is None else words)]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if kind in ("bert", "electra", "albert", "xlnet") else [])
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"} | ({"pad_token": "[PAD]"} if padding else {})
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=names, model_max_length=64, **special)
    sizes = {
        "bert": {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 2 * width},
        "distilbert": {"dim": width, "n_layers": layers, "n_heads": 2, "hidden_dim": 2 * width},
        "gpt2": {"n_embd": width, "n_layer": layers, "n_head": 2, "n_positions": 64, "bos_token_id": 2, "eos_token_id": 3},
        "xlnet": {"d_model": width, "n_layer": layers, "n_head": 2, "d_inner": 2 * width},
    }
    size = sizes.get(kind, sizes["bert"])
    if kind in ("electra", "albert"):
        size = {**size, "embedding_size": width}
    if kind not in ("gpt2", "xlnet"):
        size = {**size, "max_position_embeddings": 66 if kind == "roberta" else 64}
    config = AutoConfig.for_model(
        kind, **{**size, "vocab_size": len(known), "pad_token_id": 0, "num_labels": classes, **changes}
    )
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    fast.save_pretrained(folder)
    if weights:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder
