"""A change of a network's own code is seen, wherever among its files it is."""

import importlib
import importlib.metadata
import sys

import pytest
from torch import nn

from logitkd.models import build_model
from logitkd.training.provenance import network_source

FILES = {
    "users_net.py": """
from torch import nn
import safetensors
from users_base import Base
from users_package.functions import scale
class Net(Base):
    def forward(self, images):
        return scale(self.fc(images.flatten(1)))
def build(num_classes):
    return Net(num_classes)
""",
    "users_base.py": """
from torch import nn
class Base(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(192, num_classes)
""",
    "users_package/__init__.py": "",
    "users_package/functions.py": "def scale(x):\n    return x\n",
    "users_plain.py": "from torch import nn\ndef build(num_classes):\n    return nn.Linear(2, num_classes)\n",
    "users_other.py": "",
}


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Return a function that imports a network of one's own anew and tells its source."""
    (tmp_path / "users_package").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def now(name="users_net:build"):
        importlib.invalidate_caches()
        for module in [module for module in sys.modules if module.startswith("users_")]:
            del sys.modules[module]
        return network_source(build_model(name, 10), name)

    return now


def test_every_file_of_ones_own_counts_and_a_library_by_its_version(look):
    found = look()
    assert list(found) == ["safetensors", "users_base", "users_net", "users_package.functions"]
    assert found["safetensors"] == importlib.metadata.version("safetensors")
    assert look() == found


@pytest.mark.parametrize("name", ["users_net", "users_base", "users_package.functions"])
def test_a_change_is_seen_in_its_file(look, tmp_path, name):
    before = look()
    with (tmp_path / (name.replace(".", "/") + ".py")).open("a") as file:
        file.write("# another\n")
    (tmp_path / "users_other.py").write_text("x = 1\n")
    after = look()
    assert [key for key in before if before[key] != after[key]] == [name]


def test_a_builder_counts_where_all_classes_are_torchs(look):
    assert list(look("users_plain:build")) == ["users_plain"]


def test_networks_of_recorded_packages_have_nothing_more_to_tell():
    assert network_source(build_model("cifar_resnet8", 10), "cifar_resnet8") == {}
    assert network_source(build_model("resnet10t", 10), "resnet10t") == {}


def test_code_without_a_file_is_left_out():
    scope = {"nn": nn, "__name__": "typed_in"}
    exec("class Typed(nn.Linear):\n    pass", scope)
    assert network_source(scope["Typed"](2, 2), "cifar_resnet8") == {}
