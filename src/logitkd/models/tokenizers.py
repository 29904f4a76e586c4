"""Tokenizers of transformers: texts as the token ids that one network takes."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from logitkd.checks import check_int
from logitkd.models.from_transformers import choose, locate, quiet, read_config, readable
from logitkd.models.names import Source, read_source
from logitkd.models.pretrained import loading
from logitkd.models.text_classifier import TextClassifier, pads_left
from logitkd.tokens import Tokens

__all__ = ["Tokenizer", "load_tokenizer"]

_Read = tuple[list[list[int]], list[list[int]], int]  # token ids, their types, how many texts were cut
_AT_ONCE = 1000  # texts that are read at a time: their encodings hold much more than their token ids
_NO_LIMIT = 1_000_000  # transformers writes 1e30 for a tokenizer that names none
_SHORTEST = 8  # tokens of a text that something can be learnt from, with the two or three that stand around it


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Turns texts into what one network takes.

    Args:
        name: of the network.
        inner: of transformers.
        longest: most tokens of a text that both can take, special ones included; ``None`` where there is no limit.
        typed: whether the network takes which of two texts a token is of.
        left: whether shorter texts are filled up in front.
    """

    name: str
    inner: Any
    longest: int | None
    typed: bool
    left: bool

    def check(self, max_length: int) -> None:
        """Raise ``ValueError`` unless texts of ``max_length`` tokens can be read."""
        check_int("data.max_length", max_length, _SHORTEST, self.longest, f"tokens that `{self.name}` takes")

    def encode(self, texts: tuple[Sequence[str], ...], max_length: int) -> Tokens:
        """Return the tokens of texts.

        Args:
            texts: one or two columns of N texts. Of two that are too long together, the longer loses tokens first.
            max_length: tokens that are kept of a text, or of both, special ones included.

        Raises:
            ValueError: ``max_length`` is more than can be taken, or a text has no tokens.
        """
        self.check(max_length)
        ids: list[np.ndarray] = []
        types: list[np.ndarray] = []
        lengths: list[int] = []
        cut = 0
        for columns in _pieces(texts):
            rows, their_types, longer = (self._fast if self.inner.is_fast else self._slow)(columns, max_length)
            cut += longer
            self._check_read(columns, rows, len(lengths))
            lengths += map(len, rows)
            ids += [np.concatenate([np.asarray(row, np.int32) for row in rows])]
            if self.typed:
                types += [np.concatenate([np.asarray(row, np.int32) for row in their_types])]
        return Tokens(
            ids=_joined(ids),
            ends=torch.tensor(lengths, dtype=torch.int64).cumsum(0),
            types=_joined(types) if self.typed else None,
            pad=self.inner.pad_token_id,
            pad_type=self.inner.pad_token_type_id,
            left=self.left,
            cut=cut,
        )

    def _check_read(self, columns: Sequence[list[str]], rows: Sequence[Sequence[int]], before: int) -> None:
        """Refuse texts of which nothing is left, such as characters without width: a network would see special tokens alone."""
        special = self.inner.num_special_tokens_to_add(pair=len(columns) == 2)
        row = next((number for number, ids in enumerate(rows) if len(ids) <= special), None)
        if row is not None:
            text = ", ".join(f"{column[row]!a:.80}" for column in columns)
            raise ValueError(
                f"texts must have tokens, got none of the tokenizer of `{self.name}` for {text} (text {before + row:,} of its"
                " split, counted from 0). Remove it."
            )

    def _fast(self, columns: Sequence[list[str]], max_length: int) -> _Read:
        """Return the token ids and types of texts, and how many were cut."""
        with quiet():
            read = self.inner(
                *columns,
                truncation=True,
                max_length=max_length,
                return_attention_mask=False,
                return_token_type_ids=self.typed,
            )
        return read["input_ids"], read.get("token_type_ids", []), sum(bool(encoding.overflowing) for encoding in read.encodings)

    def _slow(self, columns: Sequence[list[str]], max_length: int) -> _Read:
        """Do the same with a tokenizer that is written in Python: it does not tell of two texts whether they were cut."""
        ids, types, cut = [], [], 0
        special = self.inner.num_special_tokens_to_add(pair=len(columns) == 2)
        with quiet():
            for texts in zip(*columns, strict=True):
                whole = [self.inner.convert_tokens_to_ids(self.inner.tokenize(text)) for text in texts]
                read = self.inner.prepare_for_model(
                    *whole, truncation=True, max_length=max_length, return_token_type_ids=self.typed
                )
                ids.append(read["input_ids"])
                types.append(read.get("token_type_ids", []))
                cut += sum(map(len, whole)) + special > max_length
        return ids, types, cut

    def files(self) -> dict[str, bytes]:
        """Return by name what ``save_pretrained`` writes of the tokenizer."""
        if self.inner.is_fast:  # it keeps how it was used last, and would write it
            self.inner.backend_tokenizer.no_truncation()
            self.inner.backend_tokenizer.no_padding()
        with quiet(), tempfile.TemporaryDirectory() as folder:
            self.inner.save_pretrained(folder)
            return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def load_tokenizer(name: str, checkpoint: str | Path | None = None) -> Tokenizer:
    """Return the tokenizer of a network.

    Args:
        name: of the network, ``transformers:ID_OR_FOLDER``.
        checkpoint: where the network's weights are: a run folder, or a file in one, has its tokenizer too.

    Raises:
        ImportError: transformers is not installed.
        ConnectionError: it is not here and cannot be fetched.
        ValueError: there is none, it has no padding token, or it gives ids that the network does not have.
    """
    source = read_source(name, checkpoint)
    if source.kind != "transformers":
        raise ValueError(
            f"model `{name}` must come with a tokenizer to read texts, got one that has none. Give `transformers:ID_OR_FOLDER`."
        )
    with quiet(), loading(source):
        from transformers import AutoTokenizer

        place = locate(source)
        config = read_config(source, place)
        wrap, auto = choose(source, config)
        if wrap is not TextClassifier:
            raise ValueError(
                f"model `{name}` must read texts, got one of images ({config.model_type}). Give a text classifier."
            )
        with readable(source, "tokenizer"):
            inner = AutoTokenizer.from_pretrained(**place)
        with torch.device("meta"):  # no memory and no weights: only what it takes is asked
            network = auto.from_config(config)
    _check(source, inner, config)
    left = pads_left(config)
    inner.padding_side = "left" if left else "right"  # so that whoever loads what is written pads as we do
    for key in ("is_local", "local_files_only"):  # what `save_pretrained` would say of how it was found
        inner.init_kwargs.pop(key, None)
    typed = "token_type_ids" in inner.model_input_names and _takes_types(network, config)
    return Tokenizer(name, inner, _longest(inner, config, network), typed, left)


def _check(source: Source, inner: Any, config: Any) -> None:
    """Raise ``ValueError`` unless the network can read what the tokenizer gives."""
    own = config.get_text_config()
    if set(inner.get_vocab()) <= set(inner.all_special_tokens):  # what transformers makes up where it finds no files
        raise ValueError(
            f"model `{source.name}` must come with a tokenizer, got none: without what"
            " `tokenizer.save_pretrained` writes no text can be read. Put those of the network that its weights are from in."
        )
    if inner.pad_token_id is None:
        raise ValueError(
            f"model `{source.name}`: its tokenizer must have a padding token, which fills up shorter texts, got none."
            " Save it to a folder with one: `tokenizer.pad_token = tokenizer.eos_token` (and its id as `pad_token_id` in"
            " `config.json`)."
        )
    if inner.pad_token_id != own.pad_token_id:
        raise ValueError(
            f"model `{source.name}`: `pad_token_id` in its `config.json` must be what its tokenizer pads with,"
            f" {inner.pad_token_id}, got {own.pad_token_id}."
        )
    token, largest = max(inner.get_vocab().items(), key=lambda item: item[1])
    known = getattr(own, "vocab_size", None)
    if known is not None and largest >= known:
        raise ValueError(
            f"model `{source.name}`: its network must have every token of its tokenizer, got the id {largest} ({token!r}) for a"
            f" `vocab_size` of {known}. Is it the tokenizer of another network?"
        )


def _takes_types(network: Any, config: Any) -> bool:
    takes = inspect.signature(network.forward).parameters
    return "token_type_ids" in takes and getattr(config, "type_vocab_size", 2) > 1


def _longest(inner: Any, config: Any, network: nn.Module) -> int | None:
    """Return the most tokens that tokenizer and network can take.

    Some families (RoBERTa's) count positions from behind the padding's id: so many of their positions are never taken.
    """
    limits = [inner.model_max_length]
    places = getattr(config.get_text_config(), "max_position_embeddings", None) or _NO_LIMIT
    limits.append(places if places > 0 else _NO_LIMIT)
    for path, part in network.named_modules():
        if isinstance(part, nn.Embedding) and "position" in path and part.padding_idx is not None:
            limits.append(part.num_embeddings - part.padding_idx - 1)
    least = int(min(limits))
    return least if least < _NO_LIMIT else None


def _pieces(texts: tuple[Sequence[str], ...]) -> Iterator[list[list[str]]]:
    for start in range(0, len(texts[0]), _AT_ONCE):
        yield [list(column[start : start + _AT_ONCE]) for column in texts]


def _joined(pieces: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(pieces)) if pieces else torch.empty(0, dtype=torch.int32)
