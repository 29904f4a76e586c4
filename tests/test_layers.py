"""A file imports only from lower layers: the whole import graph is walked, imports inside functions too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import logitkd

ROOT = Path(logitkd.__file__).parent
LAYERS = {
    "checks": 0,
    "hashes": 0,
    "fields": 1,
    "strict_yaml": 0,
    "tensor_checks": 0,
    "files": 1,
    "logits": 1,
    "reach": 1,
    "models": 1,
    "data": 2,
    "losses": 2,
    "objective": 3,
    "methods": 4,
    "tasks": 4,
    "recipes": 4,
    "runs": 5,
    "training": 6,
    "evaluation": 6,
    "prediction": 6,
    "cost": 6,
    "exporting": 6,
    "cli": 7,
    "__main__": 8,
}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part(module: str) -> str:
    """Return the part of the package that a dotted module name belongs to."""
    return module.removeprefix("logitkd.").split(".")[0]


def imported(path: Path) -> list[str]:
    """Return the parts of logitkd that a file imports, those for type checking only left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    modules: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "logitkd":
            modules += [f"logitkd.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.append(node.module)
    return [part(module) for module in modules if module.startswith("logitkd.")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_from_lower_layers(path: Path) -> None:
    here = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert here in LAYERS, f"{here} has no layer yet: give it one"
    for other in imported(path):
        if other in LAYERS and other != here:
            assert LAYERS[other] < LAYERS[here], f"{here} (layer {LAYERS[here]}) imports {other} (layer {LAYERS[other]})"


def test_a_forbidden_import_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from logitkd.training import run\n    import logitkd.cli\n    from logitkd import methods\n")
    assert imported(file) == ["training", "cli", "methods"]
