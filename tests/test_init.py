"""The package's front door: every public name is there, loaded when asked for."""

import logitkd


def test_every_public_name_loads() -> None:
    for name in logitkd.__all__:
        assert getattr(logitkd, name).__name__.rpartition(".")[2] == name
    assert set(logitkd._HOME) == set(logitkd.__all__) - {"losses", "methods"}
    assert set(logitkd.__all__) <= set(dir(logitkd))


def test_unknown_name() -> None:
    assert not hasattr(logitkd, "no_such_name")
