"""The drawn table; the plain one is a doctest beside it."""

from logitkd.cli.tables import show


def test_a_terminal_gets_every_cell_as_it_is(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    monkeypatch.setenv("COLUMNS", "60")
    show(["network", "top-1"], [["a[b]", "9.50"], ["kd", "10.00"]], right=["top-1"])
    lines = capsys.readouterr().out.splitlines()
    assert "\x1b[" in lines[0]
    assert [line.split() for line in lines[1:]] == [["a[b]", "9.50"], ["kd", "10.00"]]
