"""The settings of a run: ordinary dataclasses that load no torch."""

import copy
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

from logitkd import ModelConfig, OptimConfig, ScheduleConfig, TrainConfig
from logitkd.data.config import DataConfig
from logitkd.runs.config import warmup_length

GOOD = TrainConfig(ModelConfig("cifar_resnet8"), ModelConfig("cifar_resnet20"), data=DataConfig(mean=[0.5] * 3))


def test_they_are_made_unchecked_copied_and_pickled_as_any_dataclass():
    assert replace(GOOD, epochs="abc").epochs == "abc"  # checked when a run is planned or begun
    assert copy.deepcopy(GOOD) == pickle.loads(pickle.dumps(GOOD)) == GOOD
    with pytest.raises(FrozenInstanceError):
        GOOD.epochs = 3


@pytest.mark.parametrize(
    "names",
    ["runs.config", "runs.networks", "runs.folder", "runs.settings", "runs.values", "data.config", "tasks", "cli.commands"],
)
def test_they_load_no_torch(names):
    code = f"import sys, logitkd.{names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_a_warmup_is_a_whole_number_of_epochs():
    assert warmup_length(ScheduleConfig(warmup=0.0833), 240) == 20
    assert OptimConfig().lr == 0.05
