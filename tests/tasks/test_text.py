"""The task of texts: what each network is shown, what is recorded, and what no network may do."""

import json

import pytest
import torch
from safetensors.torch import save_file

from logitkd import ModelConfig, TeacherConfig, TrainConfig
from logitkd.data.text_config import TextConfig
from logitkd.models import build_model
from logitkd.reach.inputs import ByNetwork, call
from logitkd.tasks.text import TextTask
from text_folders import CLASSES, WORDS, network_folder, write_lines

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    write_lines(folder / "data")
    network_folder(folder / "bert")
    network_folder(folder / "distilbert", "distilbert")  # the same words, no token types
    network_folder(folder / "other", words=WORDS[::-1])
    return folder


def task_of(home, *networks, **data):
    """A loaded task of a student and, where two are named, a teacher."""
    student, *teachers = (f"transformers:{home / name}" for name in networks)
    teacher = TeacherConfig(*teachers) if teachers else None
    settings = TextConfig(source=str(home / "data"), **{"max_length": 16, **data})
    task = TextTask(TrainConfig(ModelConfig(student), teacher=teacher, task="text", data=settings, batch_size=8))
    task.load()
    return task


def first(task, **options):
    return next(task.loader(train=True, device=CPU, **options).epoch(1))


def test_networks_that_read_alike_are_shown_one_mapping(home):
    inputs = first(task_of(home, "bert", "bert")).inputs
    assert inputs.keys() == {"input_ids", "attention_mask", "token_type_ids"}


def test_networks_that_read_differently_are_shown_their_own(home):
    inputs = first(task_of(home, "bert", "other")).inputs
    assert isinstance(inputs, ByNetwork)
    assert inputs.shared == set()
    assert not torch.equal(inputs["student"]["input_ids"], inputs["teacher"]["input_ids"])
    typeless = first(task_of(home, "distilbert", "bert")).inputs
    assert typeless.shared == {"input_ids", "attention_mask"}
    assert typeless["student"].keys() == {"input_ids", "attention_mask"}
    assert torch.equal(typeless["student"]["input_ids"], typeless["teacher"]["input_ids"])


def test_batches_are_of_the_texts_filled_up_to_their_longest(home):
    task = task_of(home, "bert")
    rows = json.loads("[" + ",".join((home / "data" / "train.jsonl").read_text().splitlines()) + "]")
    seen = []
    for batch in task.loader(train=True, device=CPU).epoch(1):
        lengths = batch.inputs["attention_mask"].sum(1)
        assert batch.inputs["input_ids"].shape[1] == lengths.max()
        for index, ids, length, label in zip(
            batch.index.tolist(), batch.inputs["input_ids"], lengths.tolist(), batch.labels, strict=True
        ):
            words = [(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])[number] for number in ids[1 : length - 1].tolist()]
            assert " ".join(words) == rows[index]["text"]
            assert CLASSES[label] == rows[index]["label"]
        seen += batch.index.tolist()
    assert sorted(seen) == list(range(60))


def test_how_many_texts_are_cut_is_said_and_recorded(home):
    task = task_of(home, "bert", max_length=8)
    long = sum(len(column.split()) > 6 for column in task.data.train.texts[0])
    assert 0 < long < 60
    assert task.record()["cut"]["train"] == long
    assert f"; {100 * long / 60:.3g} % of the training texts are cut to 8 tokens" in task.summary()
    assert first(task).inputs["input_ids"].shape[1] <= 8


def test_another_tokenizer_is_another_record(home):
    assert task_of(home, "bert").record()["tokens"] != task_of(home, "other").record()["tokens"]
    assert task_of(home, "bert").record()["fingerprint"] == task_of(home, "other").record()["fingerprint"]


class Careless(torch.nn.Module):
    """Takes the mean over all places, the filling's too."""

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(40, 3)

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.words(input_ids).mean(1)


def test_a_network_that_reads_the_filling_is_refused(home):
    task = task_of(home, "bert")
    network = build_model(f"transformers:{home / 'bert'}", 3).eval()
    task.check_network(lambda inputs: call(network, inputs), "student", "it", CPU)
    careless = Careless()
    with pytest.raises(
        ValueError, match=r"the student must give a text the same logits whatever it is filled up to, but those"
    ):
        task.check_network(lambda inputs: call(careless, inputs), "student", "it", CPU)


def test_blank_texts_are_as_long_as_any_will_be(home):
    assert task_of(home, "bert").blank(2, CPU)["attention_mask"].sum(1).tolist() == [16, 16]
    assert task_of(home, "bert", "other").blank(3, CPU)["teacher"]["input_ids"].shape == (3, 16)


def test_what_lies_beside_the_weights_builds_the_student_again(home, tmp_path):
    task = task_of(home, "bert")
    student = build_model(f"transformers:{home / 'bert'}", 3, layers=1)
    for name, content in task.assets(student).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert json.loads((tmp_path / "network" / "config.json").read_text())["num_hidden_layers"] == 1
    save_file(student.state_dict(), tmp_path / "student.safetensors")
    again = build_model(f"transformers:{tmp_path / 'gone'}", 3, checkpoint=tmp_path)
    assert all(map(torch.equal, again.parameters(), student.parameters()))
    assert task.assets(student) == task.assets(again)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_batches_are_the_same_on_a_gpu(home):
    task = task_of(home, "bert", "other")
    for here, there in zip(
        *(task.loader(train=True, device=torch.device(name)).epoch(1) for name in ("cpu", "cuda")), strict=True
    ):
        assert torch.equal(here.index, there.index.cpu())
        for role, inputs in here.inputs.items():
            assert all(torch.equal(tensor, there.inputs[role][name].cpu()) for name, tensor in inputs.items())
            assert all(tensor.is_cuda for tensor in there.inputs[role].values())
