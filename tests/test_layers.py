"""A file imports only from lower layers and in no circle: the whole import graph is walked, imports inside functions too."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import logitkd

ROOT = Path(logitkd.__file__).parent
LAYERS = {
    "checks": 0,
    "lazy": 0,
    "strict_yaml": 0,
    "hashes": 0,
    "tensor_checks": 1,
    "files": 1,
    "fields": 1,
    "tokens": 1,
    "logits": 2,
    "reach": 2,
    "models": 2,
    "data": 2,
    "losses": 3,
    "objective": 4,
    "methods": 5,
    "tasks": 5,
    "recipes": 5,
    "runs": 6,
    "cost": 6,
    "training": 7,
    "evaluation": 8,
    "exporting": 8,
    "prediction": 8,
    "showing": 9,
    "cli": 10,
    "__main__": 11,
}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
    if path != ROOT / "__init__.py"
}


def imported(path: Path, files: dict[str, Path] = FILES) -> set[str]:
    """Return the modules of the package that a file imports, those for type checking only left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from logitkd.reach import trace` imports a module, `from logitkd.reach.trace import Call` a name of one.
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    found = set()
    for name in names:
        parts = name.split(".")
        modules = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
        if parts[0] == "logitkd":
            found |= {next((module for module in modules if module in files), "")} - {""}
    return found


GRAPH = {module: imported(path) for module, path in FILES.items()}


def part(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("module", GRAPH)
def test_imports_only_from_lower_layers(module: str) -> None:
    here = part(module)
    assert here in LAYERS, f"{here} has no layer yet: give it one"
    for other in sorted(GRAPH[module]):
        if part(other) != here:
            assert LAYERS[part(other)] < LAYERS[here], f"{module} (layer {LAYERS[here]}) imports {other}"


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the circles of a graph that a walk from each module in turn comes upon."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> None:
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in done:
            for other in sorted(graph.get(module, ())):
                walk(other, [*way, module])
            done.add(module)

    for module in sorted(graph):
        walk(module, [])
    return found


def test_no_files_import_each_other_in_a_circle() -> None:
    # A package's own __init__ gathers names of the files in it, which do not ask it for them.
    assert not circles(GRAPH), circles(GRAPH)


def test_no_file_is_long() -> None:
    long = {module: length for module, path in FILES.items() if (length := len(path.read_text().splitlines())) > 320}
    assert not long


def test_nobody_but_reach_and_the_table_asks_what_a_loss_reads() -> None:
    """A new way of reaching into models is one pair: elsewhere nothing branches on its name."""
    allowed = ("reach", "losses", "methods")
    asking = {module for module, path in FILES.items() if '"stones"' in path.read_text() or '"regions"' in path.read_text()}
    assert {module for module in asking if part(module) not in allowed} <= {"cli.listing", "cli.outcome"}


def test_training_speaks_of_no_task() -> None:
    """What it trains on, and how that is scored, is the task's to say."""
    words = re.compile(r"image|top-?1|accurac|pixel|\bstones?\b|stepping|region", re.IGNORECASE)
    said = []
    for path in sorted((ROOT / "training").glob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if words.search(line):
                said.append(f"{path.name}:{number}: {line.strip()}")
    assert not said, "\n".join(said)


def test_a_forbidden_import_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from logitkd.training import run\n    import logitkd.cli\n    from logitkd import methods\n")
    assert imported(file) == {"training.run", "cli", "methods"}
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]
