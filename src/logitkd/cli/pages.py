"""The pages that ``--help`` prints: written by hand what a newcomer needs, a line or two on each flag from its docstring."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from logitkd.runs.settings import Setting, kinds_in

__all__ = ["DEMO", "EVAL", "EXPORT", "FIRST", "LIST", "MAIN", "PREDICT", "SHOW", "TRAIN", "render", "width"]

# The flags of `logitkd train` that people use, in the order in which they are thought of; the others follow `--help-all`.
# Each task has those of its own data.
FIRST = (
    "student.name",
    "teacher.name",
    "teacher.checkpoint",
    "method",
    "role",
    "data.source",
    "data.subset",
    "data.text_columns",
    "data.max_length",
    "data.image_size",
    "data.classes",
    "data.ignore_index",
    "data.crop_size",
    "data.eval_fraction",
    "epochs",
    "batch_size",
    "optim.lr",
    "seed",
    "output",
    "device",
    "quiet",
)
IN_A_PIPE = 100  # columns

MAIN = """\
logitkd distils a big network for images, texts or segmentation into a small one through its logits.

usage: logitkd COMMAND [ARGUMENTS] [--FLAGS]

commands:
  demo     train a teacher and seven students on scans of digits; about a minute, offline
  train    train a student with any method, or a teacher, from a recipe or from flags
  eval     accuracy, calibration and agreement with the teacher of one or more run folders
  predict  what a run's student says of images or texts: classes and probabilities, or masks
  show     one page of a segmentation run: images, truth, student, teacher, where they differ
  export   the plain student of a run for others: safetensors, ONNX, torch.export, a model card
  list     methods (and one METHOD in detail), recipes, models

start here:
  logitkd demo
  logitkd list                                               the methods and what they need
  logitkd list recipes                                       the papers' CIFAR-100 pairs
  logitkd train cifar100/resnet56-resnet20 --role teacher    its teacher; fetches data, wants a GPU
  logitkd train cifar100/resnet56-resnet20 --method dkd      its student, from that teacher
  logitkd eval runs/cifar100/resnet56-resnet20/dkd-seed0
  logitkd predict runs/cifar100/resnet56-resnet20/dkd-seed0 photo.png more/
  logitkd export runs/cifar100/resnet56-resnet20/dkd-seed0

your own data and networks (timm, torchvision:NAME, transformers:ID, hf-hub:ID, package.module:callable):
  logitkd train --student resnet50 --method ce --data.source photos/ --data.image_size 224
  logitkd train --student resnet18 --teacher resnet50 --method gdkd \\
      --data.source photos/ --data.image_size 224

your own texts, each network with its own tokenizer (csv, json lines, parquet, text files, a hub id):
  logitkd train --task text --student transformers:FOLDER --teacher runs/teacher --method gdkd \\
      --data.source questions/

a class for each pixel (folders images/ and masks/, parquet, a hub id):
  logitkd train --task segmentation --student torchvision:lraspp_mobilenet_v3_large \\
      --teacher runs/teacher --method gdkd --data.source camvid/

`logitkd COMMAND --help` explains a command. --version prints the version. A run that was stopped goes on where it stood when
the same command is given again.
"""

TRAIN = """\
usage: logitkd train [RECIPE] [--FLAGS]

Trains a student and leaves it in a run folder: student.safetensors, config.yaml, metrics.jsonl, result.json. RECIPE is a
name from `logitkd list recipes` or a YAML file of one's own; its keys are the flags below (`optim: {lr: 0.1}` is
`--optim.lr 0.1`), and every flag overrides it. Without a recipe, --student says what to train.

  logitkd train cifar100/resnet32x4-resnet8x4 --role teacher --data.source ../cifar100
  logitkd train cifar100/resnet32x4-resnet8x4 --method gdkd --method.top_k 3 --seed 1
  logitkd train --student resnet18 --teacher resnet50 --teacher.checkpoint t.pt \\
      --data.source photos --data.image_size 224
  logitkd train --student resnet18 --teacher resnet50.a1_in1k \\
      --teacher.label_map imagenet-to-mine.yaml --data.source photos

A teacher of other classes needs the label map, lines `teacher class: student class` by name or index. More teachers:
`--teacher.others '[{name: resnet34, checkpoint: b.pt}]'`; the mean of their probabilities is learnt from.

--labels none trains on the teacher alone, with images that may have no labels:
  logitkd train --student resnet18 --teacher resnet50 --teacher.checkpoint t.pt --labels none \\
      --data.source photos

--teacher runs/teacher is the student of that run, with its weights. Texts have flags and defaults of their own:
`logitkd train --task text --help`. --student.layers starts a student from some of its teacher's layers:
  logitkd train --task text --student transformers:bert --method ce --data.source questions
  logitkd train --task text --student transformers:bert --student.layers [1,3,5] \\
      --teacher runs/transformers_bert/ce-seed0 --data.source questions

A flag of `true | false` may stand alone: `--quiet` is `--quiet true`, and `--data.flip false` turns flipping off.
--method.OPTION VALUE sets a hyper-parameter of the method; `logitkd list METHOD` shows which it has. In a recipe:
`method: {name: gdkd, top_k: 3}`.
"""

EVAL = """\
usage:
  logitkd eval RUN... [--FLAGS]
  logitkd eval CHECKPOINT --model NAME --data.source SOURCE [--task text] [--FLAGS]

Prints a line for each run folder or checkpoint: accuracies and agreement with the teacher in percent, expected calibration
error (15 bins, in percent), the teacher's own top-1; of segmentation mean IoU, pixel accuracy,
agreement, and the IoU of each class. A run folder brings its network, data and teacher; flags override data
and teacher. A package.module:callable that it names is not imported from that folder unless --trust_code is given.

Then what each network costs: parameters, multiply-adds for one image, or for one text of 16 and of 128 tokens (half its
floating-point operations), and the median milliseconds for batches of 1 and 64, in float32 on the device and threads named.
--latency false leaves the times out.
"""

PREDICT = """\
usage: logitkd predict RUN FILES... [--FLAGS]

Prints the classes that the student of a run gives images or texts, with their probabilities, in the order given; of a run of
segmentation it writes masks. If a file cannot be read, nothing is predicted and every such file is named.

Of a run on images, FILES are images and folders of them (all images in one, sorted). They are shown as in the run's evaluation:
resized and cropped where it has `data.image_size`, else they must have the size of its images.

  logitkd predict runs/photos photo.jpg more/ > predictions.csv
  logitkd predict runs/photos photo.jpg --format json --top 3

Of a run on text, FILES are texts (.txt, and folders of them), tables with the run's columns of text (.csv, .tsv, .jsonl, .json,
.parquet), and - for standard input, a text a line. Each prediction then names file and row, counted from 0. Of a run on pairs
they are tables, or lines with a tab between the two texts.

  logitkd predict runs/banking mails.csv note.txt > predictions.csv
  echo "my card was declined" | logitkd predict runs/banking -

Of a run of segmentation, FILES are images and folders of them, of any size. --output is the folder for their masks: a PNG an
image, of the same size and named like it, its pixels the numbers of their classes, shown in the run's colors. The masks
appear together when all are done, and none takes the place of a file. A line an image is printed: the share of each class.

  logitkd predict runs/camvid photo.jpg more/ --output masks > shares.csv
"""

SHOW = """\
usage: logitkd show RUN [--FLAGS]

Writes one HTML page of evaluation images of a run of segmentation: each image, the truth, what student and teacher say, where
the student is wrong, where the two differ; and a legend with the IoU of each class. Pixels without a class are hatched. Of the
images some are taken evenly, from that of which the student gets least right to that of which it gets most right. The page
holds all its pictures and needs no network.

  logitkd show runs/camvid/gdkd-seed0
  logitkd show runs/camvid/gdkd-seed0 --count 40 --output gdkd.html

The teacher is the run's, where its weights are there. Flags name another, or other data.
"""

EXPORT = """\
usage: logitkd export RUN [--FLAGS]

Writes the student of a finished run as others load it, with nothing of the teacher in it: model.safetensors with a config.json,
model.onnx (needs `pip install 'logitkd[export]'`), model.pt2 of torch.export, and README.md, the model card. Each file is read
back and must give the student's logits, on evaluation examples of the run where its data is there, in batches of several sizes.
If one does not, nothing is exported. An earlier export in the same folder is replaced.

A student of images is loaded by timm where timm knows the network, one of segmentation by torchvision or transformers where it
is theirs; it has no auxiliary head, and takes images of any size. A student of texts is loaded, with its tokenizer, by
AutoModelForSequenceClassification and AutoTokenizer of transformers, and takes texts of any length in every format.

  logitkd export runs/digits/dkd-seed0
  logitkd export runs/digits/dkd-seed0 --output digits-net --format safetensors,torch_export
"""

LIST = """\
usage:
  logitkd list                  the methods: name, what each needs, weights
  logitkd list METHOD           one method: its paper, its hyper-parameters and their defaults
  logitkd list recipes          the shipped teacher-student pairs and the command that runs each
  logitkd list models [PART]    networks by name: the papers' CIFAR networks, or with PART in their
                                names those of timm and torchvision's for segmentation
"""

DEMO = """\
usage: logitkd demo [--FLAGS]

On 1797 scanned digits that ship with the installation: trains a teacher on all training scans, then seven students on five
scans of each digit, one without the teacher and six with different methods, and prints the table. The settings are the
recipe `digits`; train them one by one with `logitkd train digits`. --output must be a new folder or an earlier demo's.
"""


def width() -> int:
    """Return how many columns a page may have: the terminal's, or 100 in a pipe or file."""
    return shutil.get_terminal_size((IN_A_PIPE, 24)).columns if sys.stdout.isatty() else IN_A_PIPE


def render(text: str, settings: Mapping[str, Setting], first: Sequence[str] = (), columns: int | None = None) -> str:
    """Return a page: its text, then its flags.

    Args:
        text: written by hand. Paragraphs are wrapped; lines that begin with a space, commands and tables, are left as they are.
        settings: the flags, by key.
        first: keys of those to show, in this order; the page then says how to see all. None shows every one, by section.
        columns: how wide the page may be; by default as :func:`width`.

    Raises:
        KeyError: there is no flag of a key in ``first``.
    """
    columns = columns or width()
    paragraphs = [_wrapped(paragraph, columns) for paragraph in text.rstrip().split("\n\n")]
    chosen = [settings[key] for key in first] or sorted(settings.values(), key=lambda setting: "." in setting.key)
    left = max((len(_flag(setting)) for setting in chosen), default=0) + 4
    groups: dict[str, list[str]] = {}
    for setting in chosen:
        section = "" if first else setting.key.rpartition(".")[0]
        title = f"{section}: {setting.section.rstrip('.')}" if section else "flags"
        groups.setdefault(title, []).append(_described(setting, left, columns))
    paragraphs += ["\n".join([*_fill(f"{title}:", columns), *lines]) for title, lines in groups.items()]
    if first:
        paragraphs.append(_wrapped(f"`--help-all` shows all {len(settings)} flags.", columns))
    return "\n\n".join(paragraphs) + "\n"


def _wrapped(paragraph: str, columns: int) -> str:
    """Join and wrap the lines of a paragraph, except those that begin with a space."""
    done: list[str] = []
    flowing: list[str] = []
    for line in [*paragraph.splitlines(), " "]:
        if not line.startswith(" "):
            flowing.append(line)
            continue
        done += _fill(" ".join(flowing), columns)
        flowing = []
        done.append(line)
    return "\n".join(done[:-1])


def _fill(text: str, columns: int, indent: str = "") -> list[str]:
    """Wrap text; what stands in backquotes and is short stays on one line, as it may be copied."""
    glued = re.sub(r"`[^`]{1,40}`", lambda match: match[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(glued, columns, initial_indent=indent, subsequent_indent=indent, break_long_words=False,
                          break_on_hyphens=False)  # fmt: skip
    return [line.replace("\0", " ") for line in lines]


def _flag(setting: Setting) -> str:
    return "--" + setting.key.removesuffix(".name")


def _described(setting: Setting, left: int, columns: int) -> str:
    """Return a flag and, right of it, what it does, of what kind its value is and its default."""
    meaning = setting.help.strip().rstrip(".")
    kinds = [kind for kind in kinds_in(setting.type) if kind is not type(None)]  # that it may be left out goes without saying
    untold = [kind for kind in kinds if not _tells(meaning, _choices(kind))]
    facts = [_kind(untold)] if untold else []
    if setting.default not in (None, (), ""):
        facts.append(f"default {_value(setting.default)}")
    lines = _fill(f"{meaning} ({'; '.join(facts)})" if facts else meaning, columns, " " * left)
    return f"  {_flag(setting)}".ljust(left) + lines[0][left:] + "".join(f"\n{line}" for line in lines[1:])


def _choices(kind: Any) -> list[str]:
    """Return the words that a value may be, where it may be nothing else."""
    return list(map(str, get_args(kind))) if get_origin(kind) is Literal else []


def _tells(meaning: str, choices: Sequence[str]) -> bool:
    """Whether a flag's meaning names its choices as such: they are then not shown a second time.

    >>> _tells("float32 or bfloat16 (autocast)", ["float32", "bfloat16"])
    True
    >>> _tells("what to train: the student, or its teacher", ["student", "teacher"])
    False
    """
    named = all(re.search(rf"\b{re.escape(choice)}\b", meaning) for choice in choices)
    return bool(choices) and named and (meaning.startswith(choices[0]) or " or ".join(choices) in meaning)


def _kind(parts: Sequence[Any]) -> str:
    """Say what a value may be as a person writes it.

    >>> _kind([int]), _kind([tuple[float, ...]]), _kind([Literal["all", "last"], tuple[int, ...]])
    ('a whole number', '[a number, ...]', 'all | last | [a whole number, ...]')
    """
    return " | ".join(map(_one_kind, parts))


def _one_kind(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return f"[{_one_kind(get_args(kind)[0])}, ...]"
    words = {int: "a whole number", float: "a number", bool: "true | false", str: "text"}
    return " | ".join(_choices(kind)) or words.get(kind, "{key: value, ...}")


def _value(value: Any) -> str:
    """Spell a default as a flag takes it.

    >>> _value(True), _value(0.0005), _value(("flip", "resize"))
    ('true', '0.0005', '[flip, resize]')
    """
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_value, value))}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
