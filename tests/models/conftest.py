"""What tests of trained networks share: no hub, and an empty place for torchvision's files."""

import pytest


@pytest.fixture
def offline(monkeypatch):
    """No hub, and no server that could be reached."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """An empty place for torchvision's files."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder
