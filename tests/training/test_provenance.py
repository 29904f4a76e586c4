import platform
import subprocess

import torch
from torch import nn

from logitkd import ModelConfig
from logitkd.training.provenance import commit, files_record, versions, weights_fingerprint


def test_versions():
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__


def test_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() is None
    (tmp_path / "a").write_text("1")
    for command in (["init", "-q"], ["add", "a"]):
        subprocess.run(["git", *command], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, "commit", "-qm", "one"], check=True)
    clean = commit()
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert commit() == clean + "+changes"


def test_commit_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_fingerprint_sees_every_value():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    first = weights_fingerprint(model)
    assert weights_fingerprint(model.to(memory_format=torch.channels_last)) == first
    model[1].running_mean[0] += 1e-6
    assert weights_fingerprint(model) != first


def test_the_files_of_a_network_are_those_that_its_name_and_its_checkpoint_lead_to(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "model.safetensors").write_bytes(b"weights")
    assert files_record(ModelConfig("resnet18")) == files_record(ModelConfig("deeplabv3:resnet18.a1_in1k")) == {}
    found = files_record(ModelConfig(f"local-dir:{tmp_path / 'net'}"))
    assert found == files_record(ModelConfig(f"deeplabv3:local-dir:{tmp_path / 'net'}")) != {}
