"""Classification of texts, or of pairs: each network reads them by its own tokenizer, in batches of similar length."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from logitkd.checks import listed
from logitkd.data import Loader
from logitkd.data.batch import Request
from logitkd.data.text_config import TextConfig
from logitkd.data.texts import TextData, load_texts, text_fingerprint
from logitkd.data.unseen import Unseen
from logitkd.data.unseen_texts import read_unseen
from logitkd.models.names import NETWORK
from logitkd.models.tokenizers import Tokenizer, load_tokenizer
from logitkd.reach.inputs import ByNetwork, Given, apply
from logitkd.reach.signals import gap
from logitkd.tasks.classification import ClassificationTask
from logitkd.tokens import Tokens

__all__ = ["TextTask", "TokenFetcher"]

EVAL_BATCH = 64  # texts; nothing is kept for a gradient, so there is room for more than in training
FILLING = 1e-4  # how far filling may move a logit, as a share of the largest: rounding moves it by 1e-6
COST_LENGTHS = (16, 128)  # tokens


class TextTask(ClassificationTask):
    """Texts of one label each, see :class:`ClassificationTask`.

    Its settings: ``data`` (a ``TextConfig``), the networks (for their tokenizers), ``labels``, ``class_weights``,
    ``batch_size`` and the seeds.
    """

    units, one, named = "texts", "a text", True
    packages = ("transformers", "tokenizers")
    data: TextData

    def read(self, *, train: bool) -> TextData:
        """Return the texts and labels."""
        settings = self.settings
        if train:
            return load_texts(settings.data, seed=settings.view_seed, labels=settings.labels)
        return load_texts(replace(settings.data, train_per_class=None), labels="none")

    def known_fingerprint(self) -> str | None:
        """Return the fingerprint, where the files are known."""
        settings = self.settings
        return text_fingerprint(settings.data, seed=settings.view_seed, labels=settings.labels)

    def load(self, *, train: bool = True) -> None:
        """Read texts, labels and class weights, and turn the texts into each network's tokens."""
        super().load(train=train)
        self.columns = self.data.columns
        self._learn_to_read()
        self._eval = self._encode(self.data.eval.texts)
        self._train = self._encode(self.data.train.texts) if train else self._eval

    def _learn_to_read(self) -> None:
        """Take each network's tokenizer."""
        self.tokenizers: dict[str, Tokenizer] = {}
        found: dict[tuple[str, str | None], Tokenizer] = {}
        for role, network in self.settings.networks().items():
            key = network.name, network.checkpoint
            if key not in found:
                found[key] = load_tokenizer(*key)
                found[key].check(self.settings.data.max_length)
            self.tokenizers[role] = found[key]
        self._blank = self._filled(self.settings.data.max_length)

    def _filled(self, length: int) -> dict[str, Tokens]:
        """Return a text of ``length`` tokens, or a pair that comes to as many, for each network."""
        return self._encode(tuple([" ".join(["a"] * length)] for _ in self.columns), length)

    def _encode(self, texts: tuple[Sequence[str], ...], max_length: int | None = None) -> dict[str, Tokens]:
        """Return the tokens of each network by its role; networks that read alike hold the same object."""
        max_length = max_length or self.settings.data.max_length
        found: dict[Tokenizer, Tokens] = {}
        for tokenizer in self.tokenizers.values():
            if tokenizer not in found:
                found[tokenizer] = tokenizer.encode(texts, max_length)
        return {role: found[tokenizer] for role, tokenizer in self.tokenizers.items()}

    def record(self) -> dict[str, Any]:
        """Return also the columns, how many texts were cut, and a hash of what each network reads."""
        record = super().record()
        record["text_columns"] = list(self.columns)
        record["cut"] = {"train": self._train["student"].cut, "eval": self._eval["student"].cut}
        record["tokens"] = {role: _hash(self._train[role], self._eval[role]) for role in self.tokenizers}
        return record

    def summary(self) -> str:
        """Say how many texts there are, of which classes, and how many of them are cut."""
        cut, total = self._train["student"].cut, len(self._train["student"])
        length = self.settings.data.max_length
        return f"{self.data.summary()}; {100 * cut / total:.3g} % of the training texts are cut to {length} tokens"

    def assets(self, student: Any) -> dict[str, bytes]:
        """Return the student's tokenizer and configuration, by which it is built again and others load it."""
        files = self.tokenizers["student"].files()
        config = copy.deepcopy(student.model.config)  # of other layers or classes than the one that it was built from
        config.id2label, config.label2id = dict(enumerate(self.classes)), {name: i for i, name in enumerate(self.classes)}
        config.problem_type = "single_label_classification"  # what was learnt; a pipeline of transformers goes by it
        files["config.json"] = config.to_json_string().encode()
        return {f"{NETWORK}/{name}": content for name, content in files.items()}

    @classmethod
    def as_learnt(cls, data: TextConfig, learnt: Mapping[str, Any]) -> TextConfig:
        """Return the data read from the columns that the run read, unless they name others, as many.

        Raises:
            ValueError: one column for a network that learnt pairs, or two for one that learnt single texts.
        """
        columns = tuple(learnt.get("text_columns", ()))
        if not columns or data.text_columns is None:
            return replace(data, text_columns=columns or None)
        _check_alike("`data.text_columns`", data.text_columns, columns, "the network")
        return data

    def teacher_inputs(self, source: Any, own: Mapping[str, Any]) -> nn.Module | None:
        """Refuse a teacher of single texts where pairs are read, and the reverse; nothing else can be seen of its texts."""
        _check_alike("texts", self.columns, tuple(own.get("text_columns", self.columns)), f"the teacher {source.checkpoint}")
        return None

    def loader(self, *, train: bool, device: torch.device, batch_size: int | None = None) -> Loader:
        """Return the batches of a split, of texts of similar length."""
        tokens = self._train if train else self._eval
        split = self.data.train if train else self.data.eval
        return Loader(
            TokenFetcher(tokens, device),
            split.labels,
            batch_size=batch_size or (self.settings.batch_size if train else EVAL_BATCH),
            device=device,
            seed=self.settings.view_seed,
            shuffle=train,
            lengths=tokens["student"].lengths,
        )

    def blank(self, count: int, device: torch.device) -> Given:
        """Return ``count`` texts as long as any will be."""
        return _repeated(self._blank, count, device)

    def cost_inputs(self, device: torch.device) -> dict[str, Callable[[int], Given]]:
        """Return texts of 16 and of 128 tokens, or as many as all networks can take."""
        longest = [tokenizer.longest for tokenizer in self.tokenizers.values() if tokenizer.longest is not None]
        lengths = sorted({min([length, *longest]) for length in COST_LENGTHS})
        return {f"{length} tokens": partial(_repeated, self._filled(length), device=device) for length in lengths}

    def check_network(self, see: Callable[[Given], Any], role: str, name: str, device: torch.device) -> None:
        """Refuse a network whose logits of a text depend on what it is filled up with: on which texts are in its batch.

        Raises:
            ValueError: they do.
        """
        tokens = {key: _two(blank) for key, blank in self._blank.items()}
        numbers = torch.arange(2)
        alone, beside = TokenFetcher(tokens, device).fetch([Request(numbers[:1], numbers[:1]), Request(numbers, numbers)])
        wanted, found = see(alone)[:1], see(beside)[:1]
        if not (found - wanted).abs().max() <= FILLING * wanted.abs().max():  # NaN is no agreement
            raise ValueError(
                f"the {role} must give a text the same logits whatever it is filled up to, but those of {name} change by"
                f" {gap(found, wanted)} beside a longer text: it does not heed `attention_mask`. Let it."
            )

    def must_take(self, network: nn.Module, failed: str) -> str:
        """Say what a network has to take."""
        names = ", ".join(self._blank["student"].rows(torch.zeros(1, dtype=torch.long)))
        return (
            f"take texts of {self.settings.data.max_length} tokens ({names}) and nothing else, but {failed}. Give a"
            " `transformers:` classifier of texts, or a shorter `data.max_length`."
        )

    def recall(self, folder: Path, recorded: Mapping[str, Any]) -> None:
        """Take over classes and columns; the tokenizer is in the run folder."""
        self.classes, self.columns = tuple(recorded["classes"]), tuple(recorded["text_columns"])
        self._learn_to_read()

    def unseen(
        self, files: Sequence[str | Path], texts: Sequence[Any] | None, *, batch_size: int, device: torch.device
    ) -> Unseen:
        """Return texts from files, or those at hand, as the student reads them; those of similar length come together."""
        places, columns = read_unseen(files, texts, self.columns)
        tokens = self._encode(columns)
        labels = torch.zeros(len(places), dtype=torch.int64)  # nobody reads them
        fetcher, lengths = TokenFetcher(tokens, device), tokens["student"].lengths
        return Unseen(places, Loader(fetcher, labels, batch_size=batch_size, device=device, lengths=lengths))


class TokenFetcher:
    """Fetches texts as each network takes them, filled up to the longest of a batch.

    They are kept and filled up in the host's memory: how long the longest of a batch is would else be waited for on a GPU.

    Args:
        tokens: of each network, by its role; the student's is there.
        device: where batches are.
    """

    device = torch.device("cpu")

    def __init__(self, tokens: Mapping[str, Tokens], device: torch.device | str) -> None:
        self._there = torch.device(device)
        self._tokens = dict(tokens)
        mine, others = self._tokens["student"], self._tokens.values()
        self._alike = all(mine.same(one) for one in others)
        self._shared = {"input_ids", "attention_mask"} if all(mine.same_ids(one) for one in others) else set()

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of the longest text, in the student's tokens."""
        return (int(self._tokens["student"].lengths.max()),)

    def __len__(self) -> int:
        """Texts there are."""
        return len(self._tokens["student"])

    def fetch(self, requests: Iterable[Request]) -> Generator[Given, None, None]:
        """Yield the texts of each request: by name, or where networks read differently by network and name."""
        for rows, _ in requests:
            if self._alike:
                yield apply(self._moved, self._tokens["student"].rows(rows))
            else:
                inputs = {role: tokens.rows(rows) for role, tokens in self._tokens.items()}
                yield apply(self._moved, ByNetwork(inputs, self._shared))

    def _moved(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the batches' device, without waiting for a GPU to get it."""
        return tensor if self._there.type == "cpu" else tensor.pin_memory().to(self._there, non_blocking=True)


def _check_alike(what: str, columns: Sequence[str], learnt: Sequence[str], network: str) -> None:
    if len(columns) != len(learnt):
        kinds = ["pairs" if len(names) == 2 else "single texts" for names in (learnt, columns)]
        raise ValueError(
            f"{what} must be {kinds[0]}, as {network} was trained on ({listed(learnt)}), got {kinds[1]} ({listed(columns)})."
        )


def _repeated(tokens: Mapping[str, Tokens], count: int, device: torch.device) -> Given:
    """Return the first text ``count`` times."""
    rows = torch.zeros(count, dtype=torch.long)
    return next(TokenFetcher(tokens, device).fetch([Request(rows, rows)]))


def _two(tokens: Tokens) -> Tokens:
    """Return half of the first text, and the whole of it."""
    length = int(tokens.ends[0])
    cut = max(1, length // 2)
    ids, types = (None if some is None else torch.cat([some[:cut], some[:length]]) for some in (tokens.ids, tokens.types))
    assert ids is not None
    return replace(tokens, ids=ids, ends=torch.tensor([cut, cut + length]), types=types)


def _hash(*splits: Tokens) -> str:
    digest = hashlib.sha256()
    for tokens in splits:
        for tensor in (tokens.ids, tokens.ends, *([] if tokens.types is None else [tokens.types])):
            digest.update(tensor.numpy().data)
    return digest.hexdigest()[:32]
