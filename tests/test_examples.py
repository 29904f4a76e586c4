"""Each example is run as a reader would run it, from the repository's root, without a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_student_learns(name):
    """Ten classes: a guess is right one time in ten."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, f"examples/{name}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"^student accuracy: (0\.\d+)$", done.stdout, re.MULTILINE)
    assert accuracy, done.stdout
    assert float(accuracy[1]) > 0.5


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_named_in_the_readme(name):
    assert len((ROOT / "examples" / name).read_text().splitlines()) <= 80
    assert f"`{name}`" in (ROOT / "README.md").read_text()
