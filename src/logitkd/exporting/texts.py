"""An export of a run on text: a folder of transformers, network and tokenizer, and programs for token ids."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from logitkd.data.text_config import TextConfig
from logitkd.data.texts import TextData, load_texts
from logitkd.exporting.kind import CONFIG, Input, Kind, Trace, data_seed
from logitkd.exporting.parity import BATCHES, ParityError, compare
from logitkd.models.from_transformers import quiet
from logitkd.models.text_classifier import TextClassifier
from logitkd.models.tokenizers import Tokenizer, load_tokenizer
from logitkd.reach.inputs import call
from logitkd.runs.values import validate
from logitkd.tokens import Tokens

__all__ = ["Texts"]

TRACED = (2, 7)  # texts, tokens
SHORT, MIDDLE = 5, 16  # tokens of other batches; the last has as many as the run's texts may have
READ = ["a text", "another text, which is longer"]  # what an exported tokenizer is tried on where there are no data


class Texts(Kind):
    """See :class:`~logitkd.exporting.kind.Kind`.

    ``Input.facts`` holds the run's ``tokenizer``, ``texts`` that it has read, up to ``max_length``, and their ``tokens``.
    """

    units, classifier, pipeline = "texts", "A text classifier", "text-classification"

    def read_input(self, record: dict[str, Any], folder: Path) -> Input:
        """Return the first evaluation texts, at several lengths, or random tokens."""
        config: TextConfig = validate(TextConfig, record["run"]["data"], "data.")
        tokenizer = load_tokenizer(record["run"]["student"]["name"], folder)
        longest, largest = config.max_length, max(BATCHES)
        data = _data(record, config)
        if data is None:
            read: tuple[list[str], ...] = tuple(READ for _ in record["data"]["text_columns"])
            read_so = tokenizer.encode(read, longest)
            tokens = _random(read_so, len(tokenizer.inner.get_vocab()), longest, len(read))
            words = f"{largest} texts of random tokens (seed 0), as the run's data could not be read here"
        else:
            read = _some(data, tokenizer, longest)
            tokens = read_so = tokenizer.encode(read, longest)
            words = f"the first {min(largest, len(data.eval))} evaluation texts of the run (`{config.eval_name}`)"
            words += f", some repeated to {longest} tokens"
        lengths = (min(SHORT, longest), min(MIDDLE, longest), longest)
        sizes = zip(BATCHES, lengths, strict=True)
        batches = {f"{count} ({length} tokens)": _sized(tokens, count, length) for count, length in sizes}
        example = _sized(tokens, *TRACED)
        facts = {"tokenizer": tokenizer, "texts": read, "tokens": read_so, "max_length": longest}
        return Input(Trace(example, tuple(example), {0: "batch", 1: "length"}), batches, words, facts)

    def plain(self, student: nn.Module) -> nn.Module:
        """Return the network of transformers."""
        model: nn.Module = student.model  # type: ignore[assignment]
        return model

    def rebuild(self, student: nn.Module, name: str, weights: Path, classes: Sequence[str]) -> nn.Module:
        """Return a new network of the same configuration."""
        from transformers import AutoModelForSequenceClassification

        with quiet():
            model = AutoModelForSequenceClassification.from_config(copy.deepcopy(student.model.config))  # type: ignore[union-attr]
        model.load_state_dict(load_file(weights))
        return TextClassifier(model)

    def files(self, given: Input) -> dict[str, bytes]:
        """Return the tokenizer's files; it gives what the network takes and nothing else."""
        files: dict[str, bytes] = given.facts["tokenizer"].files()
        name = "tokenizer_config.json"
        config = {**json.loads(files.get(name, b"{}")), "model_input_names": list(given.trace.names)}
        return {**files, name: json.dumps(config, indent=2, ensure_ascii=False).encode()}

    def check(self, folder: Path, student: nn.Module, name: str, given: Input, formats: Sequence[str]) -> None:
        """Load network and tokenizer by transformers, with nothing but the folder."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        here = {"local_files_only": True, "trust_remote_code": False}
        tokenizer: Tokenizer = given.facts["tokenizer"]
        with quiet():
            try:
                inner = AutoTokenizer.from_pretrained(folder, **here)
                if "safetensors" in formats:
                    model, info = AutoModelForSequenceClassification.from_pretrained(
                        folder, use_safetensors=True, output_loading_info=True, **here
                    )
            except Exception as error:
                raise ParityError(f"transformers must load what is exported, got {type(error).__name__}: {error}") from error
        again = replace(tokenizer, inner=inner).encode(given.facts["texts"], given.facts["max_length"])
        if not again.same(given.facts["tokens"]):
            raise ParityError("the exported tokenizer must read texts as the run's did, but it gives other tokens.")
        if "safetensors" in formats:
            if lacking := sorted({*info["missing_keys"], *info["unexpected_keys"]}):
                raise ParityError(f"transformers must find every weight by its name, but not {', '.join(lacking[:5])}.")
            compare(student, partial(call, TextClassifier(model).eval()), given.batches, CONFIG)

    def facts(self, student: nn.Module, run: dict[str, Any], given: Input) -> dict[str, Any]:
        """Return transformers' keys, the classes among them: the configuration in the run folder has them."""
        config: Any = copy.deepcopy(student.model.config)  # type: ignore[union-attr]
        record: dict[str, Any] = json.loads(config.to_json_string())
        for key in ("_name_or_path", "auto_map"):  # a folder of this machine, code that is not here
            record.pop(key, None)
        return {**record, "architectures": [type(student.model).__name__], "dtype": "float32"}

    def ours(self, run: dict[str, Any]) -> dict[str, Any]:
        """Return which columns were read, and how much of a text."""
        return {"text_columns": run["data"]["text_columns"], "max_length": run["run"]["data"]["max_length"]}

    def library(self, record: dict[str, Any]) -> str:
        """Return transformers."""
        return "transformers"

    def labels(self, record: dict[str, Any]) -> list[str]:
        """Return the names of the classes."""
        return [record["id2label"][str(number)] for number in range(len(record["id2label"]))]

    def input_section(self, record: dict[str, Any]) -> str:
        """Return what a text is."""
        ours = record["logitkd"]
        columns = ours["text_columns"]
        what = "Texts" if len(columns) == 1 else f"Pairs of texts (`{columns[0]}`, `{columns[1]}`)"
        return (
            f"{what}, read by the tokenizer in this folder and cut to {ours['max_length']} tokens, special ones included.\n"
            "`config.json` has the class names in order (`id2label`)."
        )

    def loading(self, record: dict[str, Any]) -> list[str]:
        """Return blocks for the tokenizer, for transformers, torch.export and ONNX."""
        ours = record["logitkd"]
        files, pair = ours["files"], len(ours["text_columns"]) > 1
        texts = '["a text", "another"]' + (', ["what goes with it", "and with that"]' if pair else "")
        blocks = [
            "from transformers import AutoTokenizer\n\n"
            'tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")\n'
            f"texts = {texts}\n"
            f"inputs = tokenizer({'*' if pair else ''}texts, truncation=True, max_length={ours['max_length']}, padding=True,"
            ' return_tensors="pt")'
        ]
        if "model.safetensors" in files:
            blocks.append(
                "from transformers import AutoModelForSequenceClassification\n\n"
                'model = AutoModelForSequenceClassification.from_pretrained("THIS_FOLDER").eval()\n'
                "logits = model(**inputs).logits"
            )
        if "model.pt2" in files:
            blocks.append(
                'import torch\n\nmodel = torch.export.load("THIS_FOLDER/model.pt2").module()  # needs torch alone\n'
                "logits = model(**inputs)"
            )
        if "model.onnx" in files:
            blocks.append(
                'import onnxruntime\n\nsession = onnxruntime.InferenceSession("THIS_FOLDER/model.onnx")\n'
                "arrays = {name: tensor.numpy() for name, tensor in inputs.items()}  # int64, any number of texts and tokens\n"
                '(logits,) = session.run(["logits"], arrays)'
            )
        return blocks


def _data(record: dict[str, Any], config: TextConfig) -> TextData | None:
    """Return the run's data, ``None`` where they are gone or others lie there."""
    run = record["run"]
    try:
        data = load_texts(config, seed=data_seed(run), labels=run.get("labels", "given"))
    except (OSError, ValueError):
        return None
    return data if data.fingerprint == record["data"]["fingerprint"] else None


def _some(data: TextData, tokenizer: Tokenizer, longest: int) -> tuple[list[str], ...]:
    """Return the first evaluation texts, every second repeated until it is cut."""
    rows = [row % len(data.eval) for row in range(max(BATCHES))]
    columns = [[column[row] for row in rows] for column in data.eval.texts]
    short = tokenizer.encode(tuple(columns), longest).lengths.tolist()
    times = [1 if number % 2 else -(-longest // length) + 1 for number, length in enumerate(short)]
    return tuple([" ".join([text] * count) for text, count in zip(column, times, strict=True)] for column in columns)


def _random(like: Tokens, vocabulary: int, longest: int, columns: int) -> Tokens:
    """Return random tokens padded as ``like``, half of the texts as long as they may be, and the rest of any length."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(SHORT, longest + 1, (max(BATCHES),), generator=draw)
    lengths[::2] = longest
    total = int(lengths.sum())
    ids = torch.randint(vocabulary, (total,), generator=draw, dtype=torch.int32)
    types = None if like.types is None else torch.randint(columns, (total,), generator=draw, dtype=torch.int32)
    return replace(like, ids=ids, ends=lengths.cumsum(0), types=types, cut=0)


def _sized(tokens: Tokens, count: int, length: int) -> Mapping[str, Tensor]:
    """Return the first ``count`` texts, cut or filled up to ``length`` tokens."""
    rows = tokens.rows(torch.arange(count))
    missing = length - rows["input_ids"].shape[1]  # below 0 they are cut
    side = (missing, 0) if tokens.left else (0, missing)
    fill = {"input_ids": tokens.pad, "attention_mask": 0, "token_type_ids": tokens.pad_type}
    return {name: functional.pad(tensor, side, value=fill[name]) for name, tensor in rows.items()}
