"""What a run folder names is imported from anywhere but that folder, unless it is trusted."""

import importlib
import sys

import pytest

from logitkd.models import import_recorded, opening

CODE = """
import pathlib
from torch import nn
pathlib.Path(__file__).with_name("ran").touch()
def build(num_classes):
    return nn.Linear(2, num_classes)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run folder with code in it; what a test imports is forgotten."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "evilnet.py").write_text(CODE)
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield tmp_path / "run"
    for name in set(sys.modules) - before:
        del sys.modules[name]
    importlib.invalidate_caches()


def refused(name, folder):
    before = sys.path[:]
    with pytest.raises(
        ValueError, match=r"must be importable from elsewhere, .* add `--trust_code` \(in Python `trust_code=True`"
    ):
        import_recorded(name, folder)
    assert sys.path == before
    assert not list(folder.rglob("ran"))


@pytest.mark.parametrize("entry", ["", ".", "{folder}", "{folder}/../run"])
def test_code_in_the_folder_does_not_run_whatever_the_path_says(folder, monkeypatch, entry):
    monkeypatch.chdir(folder)
    sys.path.insert(0, entry.format(folder=folder))
    importlib.import_module("evilnet")  # this is what keeping out is about
    del sys.modules["evilnet"]
    (folder / "ran").unlink()
    refused("evilnet:build", folder)


def test_code_inside_the_folder_is_not_reached_through_the_folder_above(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    sys.path.insert(0, "")
    refused("run.evilnet:build", folder)


def test_a_folder_that_lies_inside_counts_as_well(folder, monkeypatch):
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "deepnet.py").write_text(CODE)
    monkeypatch.chdir(folder / "checkpoint")
    sys.path.insert(0, "")
    refused("deepnet:build", folder)


def test_a_link_into_the_folder_is_the_folder(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    sys.path.insert(0, str(tmp_path / "link"))
    refused("evilnet:build", folder)


def test_the_users_own_module_of_that_name_is_taken(folder, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "evilnet.py").write_text(CODE)
    sys.path[:0] = [str(folder), str(tmp_path / "own")]
    before = sys.path[:]
    import_recorded("evilnet:build", folder)
    assert (tmp_path / "own" / "ran").exists()
    assert not (folder / "ran").exists()
    assert sys.path == before


def test_trusted_code_is_found_from_anywhere_and_trusted_once(folder):
    before = sys.path[:]
    import_recorded("evilnet:build", folder, trust_code=True)
    assert (folder / "ran").exists()
    assert sys.path == before
    (folder / "ran").unlink()
    refused("evilnet:build", folder)  # though the process has it by now


def test_code_of_one_folder_never_answers_for_another(folder, tmp_path):
    """Python keeps one module of a name, and one of each that it imports."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "evilnet.py").write_text(CODE)
    (tmp_path / "other" / "secondnet.py").write_text(CODE)
    import_recorded("evilnet:build", folder, trust_code=True)
    (folder / "ran").unlink()
    for name in ("evilnet:build", "secondnet:build"):
        with pytest.raises(
            ValueError, match=rf"must not be mixed up with the code of {folder}, which this process has imported"
        ):
            import_recorded(name, tmp_path / "other", trust_code=True)
    refused("evilnet:build", tmp_path / "other")  # the code of a trusted folder is not "elsewhere"
    import_recorded("evilnet:build", folder, trust_code=True)


def test_names_that_are_no_code_pass(folder):
    import_recorded("cifar_resnet8", folder)
    import_recorded("torchvision:resnet18", folder)


def test_no_library_comes_from_an_open_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    sys.path.insert(0, "")
    with opening([folder]), pytest.raises(ModuleNotFoundError):
        importlib.import_module("evilnet")


def test_a_path_added_meanwhile_stays(folder):
    before = sys.path[:]
    with opening([folder]):
        sys.path.append("/somewhere")
    assert sys.path == ["/somewhere", *before]


def test_an_import_that_fails_inside_is_told(folder, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "halfnet.py").write_text("import a_package_that_is_not_there\n")
    sys.path.insert(0, str(tmp_path / "own"))
    with pytest.raises(ValueError, match=r"`halfnet:build` cannot be imported: No module named 'a_package_that_is_not_there'"):
        import_recorded("halfnet:build", folder)
