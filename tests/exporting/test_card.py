import torch

from logitkd.exporting.card import card, describe
from logitkd.exporting.images import Images
from logitkd.exporting.kind import Input, Trace
from logitkd.exporting.parity import Parity
from logitkd.models import build_model

RUN = {
    "run": {
        "student": {"name": "cifar_resnet8"},
        "teacher": {"name": "resnet18", "checkpoint": "/home/me/secret"},
        "data": {
            "source": "/home/me/photos", "train_split": "train", "eval_split": "val", "train_per_class": 7,
        },
        "epochs": 5,
        "seed": 3,
        "precision": "float32",
    },
    "method": {"name": "dkd", "alpha": 1.0},
    "data": {"fingerprint": "abc", "train": 21, "eval": 1234, "classes": ["a|b", "c\nd", 7]},
    "teacher": {"parameters": 1_000_000, "weights": "def"},
    "versions": {"logitkd": "0.1.0", "torch": "2"},
    "commit": "123",
}  # fmt: skip
RESULT = {"top1": 50.0, "split": "val", "epoch": 5, "metrics": {"loss": 1.0, "top1": 50.0, "calibration_error": 0.125}}
KIND = Images()
GIVEN = Input(
    Trace(torch.zeros(2, 3, 8, 6), ("images",), {0: "batch"}),
    {size: torch.zeros(int(size), 3, 8, 6) for size in ("1", "3", "8")},
    "8 random images",
    {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)},
)


def described(*files):
    return describe(KIND, build_model("cifar_resnet8", 3), RUN, RESULT, GIVEN, [Parity(file, 2e-7, 1e-4) for file in files])


def test_a_reader_finds_every_fact():
    text = card(KIND, described("model.safetensors", "model.onnx", "model.pt2"))
    for fact in (
        "# cifar_resnet8, distilled from resnet18",
        "| pair | resnet18 (teacher) -> cifar_resnet8 (student) |",
        "| student | cifar_resnet8, 77,587 parameters |",
        "| teacher | resnet18 of 1,000,000 parameters; not in these files |",
        "2203.08679 |",
        "| its options | alpha 1.0 |",
        "| data | photos, split `train`: 21 images, 7 images a class |",
        "| data fingerprint | `abc` |",
        r"| classes | 3: a\|b, c d, 7 |",
        "| accuracy | top-1 50.00 % on `val` (1,234 images), after the last epoch |",
        "| other metrics | expected calibration error 12.50 % |",
        "| epochs, seed | 5, 3; one run |",
        "| licence | to be stated",
        "RGB images of 8 x 6 pixels (height x width), as float32",
        "- mean 0.1, 0.2, 0.3",
        "- std 0.4, 0.5, 0.6",
        "import logitkd.models",
        "on 8 random images, in batches of 1, 3, 8.",
        "| `model.onnx` | 2.0e-07 | 1.0e-04 |",
        "Trained with logitkd 0.1.0, torch 2, commit 123.",
    ):
        assert fact in text, fact
    assert "/home/me" not in text
    assert "None" not in text


def test_only_files_that_are_there_are_explained():
    text = card(KIND, described("model.onnx"))
    assert "onnxruntime" in text
    assert "local-dir" not in text
    assert "model.pt2" not in text


def test_several_teachers_are_all_named():
    others = {"others": [{"name": "local-dir:/home/me/secret/vit"}]}
    run = {**RUN, "run": {**RUN["run"], "teacher": {**RUN["run"]["teacher"], **others}}}
    run["teacher"] = {**RUN["teacher"], "others": {"0": {"parameters": 2000, "weights": "ghi"}}}
    record = describe(KIND, build_model("cifar_resnet8", 3), run, RESULT, GIVEN, [])
    assert [teacher["name"] for teacher in record["logitkd"]["teachers"]] == ["resnet18", "local-dir:vit"]
    text = card(KIND, record)
    assert "# cifar_resnet8, distilled from resnet18 and local-dir:vit" in text
    assert "| teacher | resnet18 of 1,000,000 parameters, local-dir:vit of 2,000 parameters; not in these files |" in text
    assert "/home/me" not in text


def test_the_record_holds_no_path_and_no_licence_of_others():
    record = described("model.safetensors")
    assert "/home/me" not in str(record)
    assert record["logitkd"]["teachers"] == [{"name": "resnet18", "parameters": 1_000_000, "weights": "def"}]
    assert record["label_names"] == ["a|b", "c\nd", "7"]
    assert not {"url", "license", "origin_url", "paper_ids"} & record["pretrained_cfg"].keys()
