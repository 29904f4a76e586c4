"""Settings by key: sections, shorthands and misspelt keys."""

import pickle

import pytest

from logitkd.runs.config import TrainConfig
from logitkd.runs.settings import SettingsError, flatten, settings_of, unknown_key

KNOWN = settings_of(TrainConfig)


def test_help_types_and_sections_come_from_the_dataclass():
    rate = KNOWN["optim.lr"]
    assert (rate.type, rate.default, rate.required) == (float, 0.05, False)
    assert rate.help == "learning rate at the start of the schedule."
    assert rate.section == "the optimizer."
    assert KNOWN["student.name"].required
    assert KNOWN["data.mean"].type == tuple[float, ...] | None


@pytest.mark.parametrize(
    ("record", "flat"),
    [
        ({"optim": "adamw", "schedule.decay": 0.5}, {"optim.name": "adamw", "schedule.decay": 0.5}),
        (
            {"optim": {"lr": 1}, "teacher": {"name": "a", "others": []}},
            {"optim.lr": 1, "teacher.name": "a", "teacher.others": []},
        ),
    ],
)
def test_sections_may_be_written_in_several_ways(record, flat):
    problems = []
    assert flatten(record, KNOWN, problems) == flat
    assert problems == []


def test_a_key_that_is_misplaced_misspelt_or_given_twice():
    problems = []
    record = {"lr": 1, "optim": {"momentun": 1, "lr": 2}, "optim.lr": 3, "data": 3}
    assert flatten(record, KNOWN, problems) == {"optim.lr": 3}
    assert problems[:3] == [
        "unknown key `lr`. Did you mean `optim.lr`?",
        "unknown key `optim.momentun`. Did you mean `optim.momentum`?",
        "`optim.lr` is given twice, as 2 and 3. Leave one out.",
    ]
    assert problems[3].startswith("`data` must be a section with some of source, train_split, ")
    assert unknown_key("zzz", KNOWN) == "unknown key `zzz`."


def test_an_error_comes_whole_from_another_process():
    error = pickle.loads(pickle.dumps(SettingsError(["one", "two"])))
    assert (error.problems, str(error)) == (["one", "two"], "one\ntwo")
