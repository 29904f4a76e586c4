"""The pages that ``--help`` prints: written by hand what a newcomer needs, the flags from their docstrings by jsonargparse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

if TYPE_CHECKING:
    from logitkd.cli.flags import Setting  # with torch, which the main page does not need

__all__ = ["DEMO", "EVAL", "EXPORT", "LIST", "MAIN", "TRAIN", "flags_page"]

MAIN = """\
logitkd distils a big image classifier into a small one through its logits.

usage: logitkd COMMAND [ARGUMENTS] [--FLAGS]

commands:
  demo     train a teacher and seven students on scans of digits; about a minute, offline
  train    train a student with any method, or a teacher, from a recipe or from flags
  eval     accuracy, calibration and agreement with the teacher of one or more run folders
  export   the plain student of a run for others: safetensors, ONNX, torch.export, a model card
  list     methods (and one METHOD in detail), recipes, models

start here:
  logitkd demo
  logitkd list                                                    the methods, their papers and what they need
  logitkd list recipes                                            the papers' CIFAR-100 pairs
  logitkd train cifar100/resnet56-resnet20 --role teacher         its teacher; fetches the data, a GPU helps
  logitkd train cifar100/resnet56-resnet20 --method dkd           its student, from that teacher
  logitkd eval runs/cifar100/resnet56-resnet20/dkd-seed0
  logitkd export runs/cifar100/resnet56-resnet20/dkd-seed0

your own data and networks (timm, torchvision:NAME, transformers:ID, hf-hub:ID, package.module:callable):
  logitkd train --student resnet50 --method ce --data.source photos/ --data.image_size 224
  logitkd train --student resnet18 --teacher resnet50 --method gdkd --data.source photos/ --data.image_size 224

`logitkd COMMAND --help` explains a command. --version prints the version.
A run that was stopped goes on where it stood when the same command is given again.
"""

TRAIN = """\
logitkd train [RECIPE] [--FLAGS]

Trains a student and leaves it in a run folder: student.safetensors, config.yaml, metrics.jsonl, result.json. RECIPE is a
name from `logitkd list recipes` or a YAML file of one's own; its keys are the flags below (`optim: {lr: 0.1}` is
`--optim.lr 0.1`), and every flag overrides it. Without a recipe, --student says what to train.

  logitkd train cifar100/resnet32x4-resnet8x4 --role teacher --data.source ../cifar100
  logitkd train cifar100/resnet32x4-resnet8x4 --method gdkd --method.top_k 3 --seed 1 --data.source ../cifar100
  logitkd train --student resnet18 --teacher resnet50 --teacher.checkpoint t.pt --data.source photos --data.image_size 224
  logitkd train --student resnet18 --teacher resnet50.a1_in1k --teacher.label_map imagenet-to-mine.yaml --data.source photos/

A teacher of other classes needs the label map, lines `teacher class: student class` by name or index. More teachers:
`--teacher.others '[{name: resnet34, checkpoint: b.pt}]'`; the mean of their probabilities is learnt from.

--labels none trains on the teacher alone, with images that may have no labels:
  logitkd train --student resnet18 --teacher resnet50 --teacher.checkpoint t.safetensors --labels none --data.source photos/

A flag with [{true,false}] may stand alone: `--quiet` is `--quiet true`, and `--data.flip false` turns flipping off.
--method.OPTION VALUE sets a hyper-parameter of the method; `logitkd list METHOD` shows which it has. In a recipe:
`method: {name: gdkd, top_k: 3}`.
"""

EVAL = """\
logitkd eval RUN... [--FLAGS]
logitkd eval CHECKPOINT --model NAME --data.source SOURCE [--FLAGS]

Prints a line for each run folder or checkpoint: accuracies and agreement with the teacher in percent, expected calibration
error (15 bins, in percent), the teacher's own top-1. A run folder brings its network, data and teacher; flags override data
and teacher. A package.module:callable that it names is not imported from that folder unless --trust_code is given.

Then what each network costs: parameters, multiply-adds for one image (half its floating-point operations), and the median
milliseconds for batches of 1 and 64, in float32 on the device and threads named. --latency false leaves the times out.
"""

EXPORT = """\
logitkd export RUN [--FLAGS]

Writes the student of a finished run as others load it, with nothing of the teacher in it: model.safetensors with a config.json
that timm reads, model.onnx for any number of images (needs `pip install 'logitkd[export]'`), model.pt2 of torch.export, and
README.md, the model card. Each file is read back and must give the student's logits, on evaluation images of the run where its
data is there. If one does not, nothing is exported. An earlier export in the same folder is replaced.

  logitkd export runs/digits/dkd-seed0
  logitkd export runs/digits/dkd-seed0 --output digits-net --format safetensors,torch_export
"""

LIST = """\
logitkd list                  the methods: name, paper, weights, what each needs
logitkd list METHOD           one method: its hyper-parameters and their defaults
logitkd list recipes          the shipped teacher-student pairs and the command that runs each
logitkd list models [PART]    networks by name: the papers' CIFAR networks, or those of timm with PART in their names

"labels optional": `--labels none` trains such a method on the teacher alone.
"""

DEMO = """\
logitkd demo [--FLAGS]

On 1797 scanned digits that ship with the installation: trains a teacher on all training scans, then seven students on five
scans of each digit, one without the teacher and six with different methods, and prints the table. The settings are the
recipe `digits`; train them one by one with `logitkd train digits`. --output must be a new folder or an earlier demo's.
"""


def flags_page(settings: Mapping[str, Setting]) -> str:
    """Return a line or two on each flag, by section: its type, default and meaning."""
    parser = ArgumentParser(usage="", add_help=False)
    groups = {"": parser.add_argument_group("flags")}
    for setting in sorted(settings.values(), key=lambda s: "." in s.key):
        title = setting.key.rpartition(".")[0]
        if title not in groups:
            groups[title] = parser.add_argument_group(f"{title}: {setting.section.rstrip('.')}")
        flag = "--" + setting.key.removesuffix(".name")
        alone: dict[str, Any] = {"nargs": "?"} if setting.type is bool else {}  # a switch's value may be left out
        groups[title].add_argument(flag, type=setting.type, default=setting.default, help=setting.help, **alone)
    page = parser.format_help()
    return page[page.index("flags:") :]
