import subprocess
import sys
from dataclasses import replace

import pytest

from logitkd.data import DataConfig, TextConfig
from logitkd.data.splits import check_source
from logitkd.runs.config import TrainConfig
from logitkd.runs.networks import ModelConfig
from logitkd.runs.values import read
from text_folders import write_csv

HUB = TextConfig(source="nyu-mll/glue", subset="sst2")
RUN = TrainConfig(ModelConfig("cifar_resnet8"))


def check(config, run=RUN):
    """Return what the types of the settings say, and what the settings say of each other."""
    config, wrong = read(TextConfig, config, "data.")
    return [line for lines in wrong.values() for line in lines] + config.problems(run)


def test_good_ones_pass(tmp_path):
    assert check(HUB) == check(HUB, None) == check(TextConfig(source=str(write_csv(tmp_path)))) == []
    given = {"text_columns": ("a", "b"), "label_column": "c", "train_per_class": 3, "max_length": 8, "eval_fraction": 0.1}
    assert check(replace(HUB, **given)) == check(replace(HUB, text_columns=["a"])) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "", "subset": None}, "`data.source` must be given: a folder of texts or a hub id `owner/name`."),
        ({"max_length": 7}, "`data.max_length` must be at least 8, got 7."),
        ({"max_length": 64.0}, "`data.max_length` must be a whole number, got 64.0."),
        ({"text_columns": ()}, "`data.text_columns` must have one name or two different ones, got []."),
        ({"text_columns": ("a", "b", "c")}, "must have one name or two different ones, got ['a', 'b', 'c']."),
        ({"text_columns": ("a", "a")}, "must have one name or two different ones, got ['a', 'a']."),
        ({"text_columns": ("",)}, "must have one name or two different ones, got ['']."),
        ({"text_columns": "text"}, "`data.text_columns` must be a list such as [a, b] or null, got 'text'."),
        ({"eval_fraction": 1.0}, "`data.eval_fraction` must be below 1, got 1.0: nothing would be left to train on."),
        ({"train_per_class": 0}, "`data.train_per_class` must be at least 1, got 0."),
        ({"subset": ""}, "`data.subset` must be a name, got ''."),
        ({"source": "gone"}, "`data.source` must be an existing folder, or a hub id `owner/name`, got 'gone'"),
        ({"source": "digits"}, "`data.source` must be an existing folder, or a hub id `owner/name`, got 'digits'"),
    ],
)
def test_what_is_refused(changes, words):
    (problem,) = check(replace(HUB, **changes))
    assert words in problem


def test_a_folder_has_no_subsets_and_must_have_the_splits(tmp_path):
    folder = str(write_csv(tmp_path))
    (problem,) = check(TextConfig(source=folder, subset="sst2"), None)
    assert problem == (
        "`data.subset` must be left out where `data.source` is a folder, got 'sst2'. Give the subset's own folder."
    )
    (problem,) = check(TextConfig(source=folder, eval_split="dev"))
    assert problem.startswith(f"there is no split `dev` in {folder}. Splits there: test, train. Name them with")
    (problem,) = check(TextConfig(source=folder, eval_fraction=0.1))
    assert problem.startswith("`data.eval_fraction` must be left out where there is an evaluation split")
    assert "hold out training texts all the same" in problem
    (tmp_path / "test-0.jsonl").write_text("{}")
    (problem,) = check(TextConfig(source=folder))
    assert problem.startswith("split `test` must be in files of one format, got test-0.jsonl, test.csv in ")
    for name in ("train.csv", "test.csv", "test-0.jsonl"):
        (tmp_path / name).unlink()
    (tmp_path / "train.xlsx").write_text("")
    (problem,) = check(TextConfig(source=folder))
    assert problem.startswith(
        f"there is no split `train` in {folder} (which has no parquet, csv, tsv, jsonl, json files, so each sub-folder is a"
    )


def test_counting_classes_needs_labels():
    (problem,) = check(replace(HUB, train_per_class=5), replace(RUN, labels="none"))
    assert problem.startswith("`data.train_per_class` must be left out with `labels: none`")


def test_it_loads_neither_torch_nor_datasets():
    code = (
        "import sys; from logitkd.data import TextConfig; from logitkd.data.text_config import TextConfig;"
        "TextConfig(source='.').problems(); assert not {'torch', 'datasets', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_of_texts_given_as_images_is_told_the_task(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,b\n")
    with pytest.raises(
        ValueError, match=r"there is no split `train` .* Is train\.csv a table of texts\? Then give `task: text`\."
    ):
        check_source(DataConfig(source=str(tmp_path)))
