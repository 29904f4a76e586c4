from dataclasses import replace

import pytest

from logitkd import ModelConfig, OptimConfig, ScheduleConfig, TrainConfig
from logitkd.data.config import DataConfig
from logitkd.runs.config import check_config, default_folder
from logitkd.runs.networks import TeacherConfig, TeacherSource

GOOD = TrainConfig(ModelConfig("cifar_resnet8"))


def test_a_good_one_passes():
    check_config(GOOD)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "`epochs` must be"),
        ({"epochs": 1.5}, "`epochs` must be an integer, got 1.5"),
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"output": "runs/out\udce9"}, "`output` must be UTF-8 text without null bytes, got 'runs/out\\udce9'. Rename"),
        ({"class_weights": "a\0b"}, "`class_weights` must be UTF-8 text without null bytes"),
        ({"data": DataConfig(source="a" * 300)}, "`data.source` must have at most 255 bytes between two slashes, got 300 in"),
        ({"student": ModelConfig("resnet18", "é" * 128)}, "`student.checkpoint` must have at most 255 bytes"),
        (
            {"teacher": TeacherConfig("resnet18", others=(TeacherSource("a", label_map="a" * 256),))},
            "`teacher.others[0].label_map` must have at most 255 bytes",
        ),
        ({"seed": -1}, "`seed` must be"),
        ({"seed": 2**63}, "`seed` must be in [0, 9223372036854775807], got 9223372036854775808."),
        ({"data": DataConfig(source="")}, "`data.source` must be a name, got ''."),
        ({"data": DataConfig(eval_split="")}, "`data.eval_split` must be a name, got ''."),
        ({"data": DataConfig(train_per_class=0)}, "`data.train_per_class` must be at least 1, got 0."),
        ({"data": DataConfig(crop_padding=-1)}, "`data.crop_padding` must be at least 0, got -1."),
        ({"trackers": ["tensorbord"]}, "`trackers` must be one of 'aim', 'tensorboard', "),
        ({"trackers": ["tensorboard", "tensorbord"]}, "got 'tensorbord'. Did you mean `tensorboard`?"),
        ({"trackers": ["all"]}, "got 'all'."),
        ({"precision": "float16"}, "`precision` must be one of 'float32', 'bfloat16'"),
        ({"checkpoint_every": 0}, "`checkpoint_every` must be"),
        ({"optim": OptimConfig(name="sdg")}, "Did you mean `sgd`"),
        ({"optim": OptimConfig(lr=0)}, "`optim.lr` must be above 0, got 0"),
        ({"optim": OptimConfig(lr=float("nan"))}, "`optim.lr` must be"),
        ({"optim": OptimConfig(momentum=1.1)}, "`optim.momentum` must be"),
        ({"optim": OptimConfig(weight_decay=-1)}, "`optim.weight_decay` must be"),
        ({"optim": OptimConfig(clip_grad=0)}, "`optim.clip_grad` must be"),
        ({"schedule": ScheduleConfig(name="step")}, "`schedule.name` must be"),
        ({"schedule": ScheduleConfig(decay=2)}, "`schedule.decay` must be"),
        ({"schedule": ScheduleConfig(milestones=(150, 180))}, "fractions of `epochs`"),
        ({"schedule": ScheduleConfig(warmup=20)}, "`schedule.warmup` must be in [0, 1] (a fraction of `epochs`), got 20."),
        ({"schedule": ScheduleConfig("cosine", warmup=-0.1)}, "`schedule.warmup` must be in [0, 1]"),
        ({"schedule": ScheduleConfig(warmup=0.7)}, "at most the first of `schedule.milestones`, 0.625, got 0.7: the rate"),
        ({"student": ModelConfig("a", "nowhere")}, "`student.checkpoint` must be a file or a run folder"),
        ({"teacher": ModelConfig("a", "nowhere")}, "`teacher.checkpoint` must be a file or a run folder"),
    ],
)
def test_what_is_refused(change, words):
    with pytest.raises(ValueError, match="must") as error:
        check_config(replace(GOOD, **change))
    assert words in str(error.value)


def test_the_largest_seed_and_known_trackers_pass():
    check_config(replace(GOOD, seed=2**63 - 1, trackers=["tensorboard", "wandb"]))


def test_a_warmup_too_short_to_do_anything_is_pointed_out(recwarn):
    check_config(replace(GOOD, schedule=ScheduleConfig("cosine", warmup=0.9)))
    check_config(replace(GOOD, schedule=ScheduleConfig(warmup=0.125), epochs=12))
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"`schedule\.warmup` 0\.0833 of 12 epochs is less than two: .* full from the first"):
        check_config(replace(GOOD, schedule=ScheduleConfig(warmup=0.0833), epochs=12))


def test_an_sgd_rate_is_pointed_out_for_adamw(recwarn):
    check_config(replace(GOOD, optim=OptimConfig(name="adamw", lr=1e-3)))
    check_config(GOOD)
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"got 0\.05: that is an SGD rate; 0\.001 is usual for adamw"):
        check_config(replace(GOOD, optim=OptimConfig(name="adamw")))


def test_all_problems_at_once():
    with pytest.raises(ValueError, match="epochs") as error:
        check_config(replace(GOOD, epochs=0, batch_size=0, optim=OptimConfig(lr=-1)))
    assert len(str(error.value).splitlines()) == 3


def test_default_folders_are_usable_paths():
    config = replace(GOOD, student=ModelConfig("my.nets:small"), teacher=ModelConfig("resnet50"), method="dkd", seed=3)
    assert default_folder(config).parts == ("runs", "resnet50-my.nets_small", "dkd-seed3")
