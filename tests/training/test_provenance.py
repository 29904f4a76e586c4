import platform
import subprocess

import torch
from torch import nn

from logitkd.training.provenance import commit, versions, weights_fingerprint


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
