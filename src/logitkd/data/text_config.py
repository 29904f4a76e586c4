"""What texts a run uses: one typed record, read by the recipes and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from logitkd.checks import collector
from logitkd.data.config import Name, Share
from logitkd.data.splits import TEXTS, check_subset, eval_name, source_problems
from logitkd.fields import Record, Text, Whole, at_least, rule

if TYPE_CHECKING:
    from logitkd.runs.config import TrainConfig

__all__ = ["SHORTEST", "TextConfig"]

SHORTEST = 8  # tokens: two texts of a pair and three special ones need this to say anything


def _check_columns(name: str, columns: tuple[str, ...]) -> None:
    if len(columns) not in (1, 2) or len(set(columns)) < len(columns) or "" in columns:
        raise ValueError(f"`{name}` must have one name or two different ones, got {list(columns)}.")


@dataclass(frozen=True)
class TextConfig(Record):
    """Where labelled texts come from and how much of each a network sees.

    Args:
        source: a local folder of parquet, csv, tsv or json lines files (``train.csv``, ``test.csv``), a local folder of class
            folders (``train/CLASS/*.txt``, ``test/CLASS/*.txt``; with ``eval_fraction`` also ``CLASS/*.txt``), or a hub id such
            as ``nyu-mll/glue``.
        subset: of a hub id that has several, such as ``sst2`` of ``nyu-mll/glue``.
        train_split: name of the split to train on.
        eval_split: name of the split every reported accuracy is measured on.
        eval_fraction: the share of each class's training texts to evaluate on instead, where there is no ``eval_split``; the
            same texts whatever the run's ``seed``.
        text_columns: the column that holds the texts, or the two that hold pairs of them; by default ``text``, ``sentence``,
            ``text`` and ``text_pair``, ``sentence1`` and ``sentence2``, ``question1`` and ``question2``, ``premise`` and
            ``hypothesis``, ``question`` and ``sentence``, or the only column of text beside the label.
        label_column: column that holds the class, as a number (0, 1, ...) or a name; by default the only class column, else
            ``label`` or ``labels``.
        train_per_class: keep only this many training texts of each class, chosen by the run's ``data_seed``; a larger number
            keeps those that a smaller one keeps.
        max_length: tokens of a text, or of both texts of a pair, special ones included; what is longer is cut.
    """

    source: Text = ""
    subset: Name | None = None
    train_split: Name = "train"
    eval_split: Name = "test"
    eval_fraction: Share | None = None
    text_columns: Annotated[tuple[Text, ...], rule(_check_columns)] | None = None
    label_column: Text | None = None
    train_per_class: Annotated[Whole, at_least(1)] | None = None
    max_length: Annotated[Whole, at_least(SHORTEST)] = 128

    @property
    def eval_name(self) -> str:
        """What the evaluation texts are called in results.

        >>> TextConfig().eval_name, TextConfig(eval_fraction=0.1).eval_name
        ('test', '0.1 of train')
        """
        return eval_name(self)

    output: ClassVar[str] = "classes"  # what networks return: a row of logits an example
    # What its task reads of the run's settings beside these.
    run_settings: ClassVar[tuple[str, ...]] = ("labels", "class_weights")
    # How networks that come pretrained are usually tuned; see ``runs.config.run_defaults``.
    run_defaults: ClassVar[Mapping[str, Any]] = {
        "optim.name": "adamw",
        "optim.lr": 5e-5,
        "optim.weight_decay": 0.01,
        "optim.clip_grad": 1.0,
        "schedule.name": "linear",
        "schedule.warmup": 0.1,
        "epochs": 3,
        "batch_size": 32,
    }
    method_defaults: ClassVar[Mapping[str, Any]] = {"warmup_epochs": 0}  # a short run has no time for it

    def problems(self, run: TrainConfig | None = None) -> list[str]:
        """Return what is wrong with values that are each good alone, or name no source, a message each; no data is read.

        Args:
            run: the settings of the run that trains on the data; in an evaluation none.
        """
        if self.source == "":
            return ["`data.source` must be given: a folder of texts or a hub id `owner/name`."]
        problems = [] if run is None else source_problems(self, run.labels, TEXTS)
        collector(problems)(check_subset, self.source, self.subset)
        return problems
