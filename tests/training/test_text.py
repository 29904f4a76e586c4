"""Runs on texts, of tiny networks of random weights: what one run on images has, one on texts has."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from interrupted_runs import StopAfter, outcome
from logitkd import ModelConfig, TeacherConfig, TrainConfig, evaluate, methods, train
from logitkd.data.text_config import TextConfig
from logitkd.runs.config import OptimConfig
from logitkd.runs.folder import read_run
from logitkd.runs.networks import TeacherSource
from logitkd.runs.settings import SettingsError
from logitkd.training.display import Lines
from text_folders import CLASSES, WORDS, network_folder, write_lines

QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ON_LOGITS = [name for name in methods.names() if methods.get(name).wants.reads == "logits"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A text set, two networks that read alike and one that does not, and a finished run of the bigger one."""
    folder = tmp_path_factory.mktemp("texts")
    write_lines(folder / "data")
    network_folder(folder / "big", layers=3, width=32)
    network_folder(folder / "small", layers=2, seed=1)
    network_folder(folder / "other", "distilbert", words=WORDS[::-1], seed=2)
    train(settings(folder, "big", method="ce", epochs=12, output=str(folder / "teacher")))
    return folder


def settings(home, student="small", **changes):
    """A run of a second on the texts of ``home``."""
    base = TrainConfig(
        ModelConfig(f"transformers:{home / student}"),
        task="text",
        data=TextConfig(source=str(home / "data"), max_length=16),
        optim=OptimConfig("adamw", lr=3e-3, weight_decay=0.01),
        epochs=2,
        batch_size=8,
        quiet=True,
    )
    return replace(base, **changes)


@pytest.fixture
def run(home, tmp_path):
    """Return a function that trains a student on the finished run's logits: ``run("other", method="kd")``."""

    def run(student="small", *, display=None, **changes):
        given = {"teacher": TeacherConfig(str(home / "teacher")), "method": "kd", "output": str(tmp_path / "run")}
        return train(settings(home, student, **{**given, **changes}), display=display)

    return run


def fitting(method):
    """The options of a method that three classes do not allow at their defaults."""
    known = methods.get(method).options
    return {name: value for name, value in {"top_k": 2 if "gdkd3" in method else 1, "depth": 2}.items() if name in known}


def lines_of(result):
    return [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]


def test_a_teacher_is_asked_in_its_own_tokens(home, run):
    """A student that reads other token ids, and no token types, learns from the same answers."""
    own = json.loads((home / "teacher" / "result.json").read_text())["top1"]
    assert own > 60
    assert run("other").teacher_score == run("small", output=str(home / "run-small")).teacher_score == own


@pytest.mark.parametrize(("student", "method"), [("other", "kd"), ("small", "block-kd")])
def test_a_run_that_breaks_off_comes_to_what_the_whole_run_does(run, tmp_path, student, method):
    options = {"method": method, "checkpoint_every": 3}
    whole = run(student, output=str(tmp_path / "whole"), **options)
    for steps in (5, 8, 13):  # inside an epoch, at its end, in the next
        with pytest.raises(RuntimeError, match="crash"):
            run(student, display=StopAfter(steps), **options)
    again = run(student, **options)
    assert outcome(again.folder) == outcome(whole.folder)
    assert run(student, **options).resumed_finished


@pytest.mark.parametrize("method", ON_LOGITS)
def test_every_method_on_logits_trains(run, method):
    result = run(method=method, method_options=fitting(method), epochs=1)
    assert all(torch.isfinite(torch.tensor(list(line["terms"].values()))).all() for line in lines_of(result))


def test_methods_that_read_regions_are_refused(run):
    with pytest.raises(ValueError, match=r"has no regions for `sdd-kd`: region logits need images"):
        run(method="sdd-kd")


@pytest.mark.parametrize("method", ["block-kd", "block-dkd", "block-gdkd", "block-ldrld"])
def test_stones_go_through_encoder_layers_with_any_distance(run, method):
    said = Notes()
    result = run(method=method, method_options=fitting(method), epochs=1, display=said)
    assert "layer.0" in said.text
    assert "layer.1" in said.text
    assert lines_of(result)[-1]["loss"] > 0


def test_stones_of_other_tokens_are_refused(run):
    with pytest.raises(ValueError, match=r"both must be shown the same tokens, got attention_mask, input_ids of their own"):
        run("other", method="block-kd")


class Notes(Lines):
    """Keeps what a run says."""

    text = ""

    def note(self, text):
        self.text += text + "\n"


def test_layers_of_the_teacher_start_a_student(home, run):
    """All layers and no dropout: the student is the teacher, and there is nothing to distil."""
    network_folder(home / "still", layers=3, width=32, **QUIET)
    student = ModelConfig(f"transformers:{home / 'still'}", layers=(0, 1, 2))
    optim = OptimConfig("sgd", lr=1e-12, momentum=0.0, weight_decay=0.0)
    for method in ("kd", "gdkd", "block-kd"):
        output = str(home / f"same-{method}")
        result = train(
            replace(
                settings(home), student=student, teacher=TeacherConfig(str(home / "teacher")), method=method,
                method_options=fitting(method), optim=optim, epochs=1, output=output,
            )
        )  # fmt: skip
        terms = lines_of(result)[0]["terms"]
        assert all(abs(value) < 1e-5 for name, value in terms.items() if name in ("kd", "group", "top", "rest")), terms
        assert result.top1 == result.teacher_score


def test_some_layers_make_a_smaller_student_that_its_folder_can_build_again(home, run):
    student = ModelConfig(f"transformers:{home / 'big'}", layers=(0, 2))
    config = replace(
        settings(home), student=student, teacher=TeacherConfig(str(home / "teacher")), method="ce", epochs=1,
        output=str(home / "two"),
    )  # fmt: skip
    result = train(config)
    assert evaluate(result.folder, latency=False)["top1"] == result.top1
    taught = replace(settings(home), teacher=TeacherConfig(str(home / "two")), epochs=1, output=str(home / "third"))
    assert train(taught).teacher_score == result.top1


def test_a_run_folder_needs_no_other(home, run, tmp_path):
    """Its network's configuration and tokenizer lie in it."""
    shutil.copytree(home / "small", tmp_path / "gone")
    student = f"transformers:{tmp_path / 'gone'}"
    result = train(replace(settings(home, method="ce", epochs=1, output=str(tmp_path / "run")), student=ModelConfig(student)))
    assert (result.folder / "network" / "tokenizer.json").is_file()
    assert {"transformers", "tokenizers"} <= read_run(result.folder)["versions"].keys()
    shutil.rmtree(tmp_path / "gone")
    moved = shutil.move(result.folder, tmp_path / "moved")
    assert evaluate(moved, latency=False)["top1"] == result.top1
    assert run(teacher=TeacherConfig(str(moved)), epochs=1, output=str(tmp_path / "taught")).teacher_score == result.top1


def test_several_teachers_label_maps_and_missing_labels(home, run, tmp_path):
    (tmp_path / "map.yaml").write_text("".join(f"{name}: {name}\n" for name in CLASSES))
    other = train(settings(home, "other", method="ce", epochs=4, output=str(tmp_path / "second")))
    second = TeacherSource(str(other.folder), label_map=str(tmp_path / "map.yaml"))
    several = TeacherConfig(str(home / "teacher"), others=(second,))
    assert run(teacher=several, epochs=1).teacher_score > 50
    alone = run(labels="none", epochs=1, output=str(tmp_path / "none"))
    assert lines_of(alone)[-1]["terms"].keys() == {"kd"}
    weighed = run(class_weights="balanced", epochs=1, output=str(tmp_path / "weighed"))
    assert "class_weights" in (weighed.folder / "config.yaml").read_text()
    write_lines(tmp_path / "few")
    rows = (tmp_path / "few" / "train.jsonl").read_text().replace('"label": "loan"', '"label": null', 5)
    (tmp_path / "few" / "train.jsonl").write_text(rows)
    said = Notes()
    few = TextConfig(source=str(tmp_path / "few"), max_length=16)
    run(data=few, epochs=1, output=str(tmp_path / "fewer"), display=said)
    assert "5 of 60 training labels are missing" in said.text


def test_data_that_changed_are_noticed(home, tmp_path):
    shutil.copytree(home / "data", tmp_path / "data")
    config = settings(home, method="ce", epochs=1, output=str(tmp_path / "run"))
    config = replace(config, data=TextConfig(source=str(tmp_path / "data"), max_length=16))
    train(config)
    assert train(config).resumed_finished
    file = tmp_path / "data" / "train.jsonl"
    file.write_text(file.read_text().replace("lost", "found", 1))
    with pytest.raises(ValueError, match=r"belongs to another run; under `data`:\n  fingerprint"):
        train(config)


def test_what_texts_do_not_have_is_refused(home):
    teacher = TeacherConfig(str(home / "teacher"), mean=(0.5,) * 3, std=(0.5,) * 3, pool="model")
    with pytest.raises(SettingsError) as refused:
        train(settings(home, teacher=teacher, mixup=0.2, channels_last=True))
    for key in ("mixup", "channels_last", "teacher.mean", "teacher.std", "teacher.pool"):
        assert f"`{key}` must be left out, got " in str(refused.value)
    assert str(refused.value).count("the task `text` does not read it") == 5


def pairs(home, folder):
    """Write the texts of ``home`` as pairs of a question and themselves."""
    folder.mkdir()
    for split in ("train", "test"):
        rows = map(json.loads, (home / "data" / f"{split}.jsonl").read_text().splitlines())
        pairs = ({"sentence1": "what is it", "sentence2": row["text"], "label": row["label"]} for row in rows)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return TextConfig(source=str(folder), max_length=16)


def test_a_network_of_single_texts_is_not_shown_pairs(home, run, tmp_path):
    """It would answer, and the answer be of another question."""
    data = pairs(home, tmp_path / "pairs")
    with pytest.raises(ValueError, match=r"`data\.text_columns` names `text`, which .*pairs, split `train` does not have"):
        evaluate(home / "teacher", data, latency=False)
    named = replace(data, text_columns=("sentence1", "sentence2"))
    with pytest.raises(
        ValueError, match=r"`data\.text_columns` must be single texts, as the network was trained on \(text\), got "
    ):
        evaluate(home / "teacher", named, latency=False)
    one = evaluate(home / "teacher", replace(data, text_columns=("sentence2",)), latency=False)
    assert one["top1"] == json.loads((home / "teacher" / "result.json").read_text())["top1"]
    with pytest.raises(ValueError, match=r"texts must be single texts, as the teacher .* was trained on \(text\), got pairs"):
        run(data=data)


def test_the_columns_of_a_run_are_read_again_in_other_data(home, tmp_path):
    """Not those that are usual: of two columns of texts the other one would be read."""
    for split in ("train", "test"):
        rows = map(json.loads, (home / "data" / f"{split}.jsonl").read_text().splitlines())
        lines = [json.dumps({"query": row["text"], "label": row["label"]}) for row in rows]
        for folder, more in ((tmp_path / "data", ""), (tmp_path / "other", '"text": "help", ')):
            folder.mkdir(exist_ok=True)
            (folder / f"{split}.jsonl").write_text("".join("{" + more + line[1:] + "\n" for line in lines))
    data = TextConfig(source=str(tmp_path / "data"), max_length=16)
    result = train(settings(home, "big", method="ce", epochs=12, data=data, output=str(tmp_path / "run")))
    found = evaluate(result.folder, TextConfig(source=str(tmp_path / "other"), max_length=16), latency=False)
    assert found["top1"] == result.top1 > 50


def test_the_share_of_cut_texts_is_written_out(home, tmp_path):
    said = Notes()
    data = TextConfig(source=str(home / "data"), max_length=8)
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "test"):
        text = (home / "data" / f"{split}.jsonl").read_text().replace('"text": "', '"text": "' + "is " * 9)
        (folder / f"{split}.jsonl").write_text(text)
    train(
        settings(home, method="ce", epochs=1, data=replace(data, source=str(folder)), output=str(tmp_path / "run")),
        display=said,
    )
    assert "; 100 % of the training texts are cut to 8 tokens" in said.text


def test_a_run_folder_says_that_a_text_has_one_label(home, tmp_path):
    """Transformers' pipelines give each class a probability of its own for a network that was of several labels."""
    network_folder(home / "several", problem_type="multi_label_classification")
    result = train(settings(home, "several", method="ce", epochs=1, output=str(tmp_path / "run")))
    assert json.loads((result.folder / "network" / "config.json").read_text())["problem_type"] == "single_label_classification"


def test_a_teacher_whose_classes_stand_elsewhere_is_refused(home, run):
    """However they are written, and if only some are the data's."""
    for number, names in enumerate((["Loan", "CARD", "rate"], ["card", "money", "loan"])):
        changes = {"id2label": dict(enumerate(names)), "label2id": {name: at for at, name in enumerate(names)}}
        network_folder(home / f"named-{number}", **changes)
        with pytest.raises(ValueError, match=r"has the data's classes in another order \(.*Give `teacher\.label_map`"):
            run(teacher=TeacherConfig(f"transformers:{home / f'named-{number}'}"))


def test_a_run_folder_as_a_folder_of_transformers_is_pointed_out(home):
    with pytest.raises(ValueError, match=r"is a run folder, not what `save_pretrained` writes\. Give `.*teacher` alone"):
        train(settings(home, "teacher", method="ce"))
