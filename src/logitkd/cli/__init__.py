"""The command line's front: finds the command, prints pages and errors; exit codes 0, 1 (run), 2 (usage), 130, 143."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from logitkd import __version__

__all__ = ["main"]

COMMANDS = ("demo", "train", "eval", "predict", "show", "export", "list")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the words after ``logitkd``; by default the process's own.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    before = sys.path[:]
    if sys.path[:1] in ([""], [os.getcwd()]):  # as `python -m` puts it; a command does where one's own code may lie there
        del sys.path[0]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            return _run(words)
    except BrokenPipeError:  # `logitkd list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        if os.environ.get("LOGITKD_TRACEBACK"):
            raise
        return _report(words[0], error)
    finally:
        sys.path[:] = before


def _run(words: list[str]) -> int:
    from logitkd.cli import pages

    if not words or words[0] in ("-h", "--help", "--help-all", "help"):
        print(pages.render(pages.MAIN, {}), end="")
        return 0
    if words[0] in ("-V", "--version"):
        print(f"logitkd {__version__}")
        return 0
    from logitkd.checks import suggest
    from logitkd.cli import commands

    name, *rest = words
    if name not in COMMANDS:
        print(f"unknown command `{name}`.{suggest(name, COMMANDS)} `logitkd --help` explains them.", file=sys.stderr)
        return 2
    if {"-h", "--help", "--help-all"} & set(rest):
        print(commands.page(name, rest), end="")
    else:
        commands.run(name, rest)
    return 0


def _report(command: str, error: Exception) -> int:
    from logitkd.runs.settings import SettingsError

    if not isinstance(error, SettingsError):
        print(f"logitkd {command}: {error}\n(LOGITKD_TRACEBACK=1 shows where.)", file=sys.stderr)
        return 1
    count = len(error.problems)
    print(f"logitkd {command}: {count} problem{'s' if count > 1 else ''}, nothing was run:", file=sys.stderr)
    for problem in error.problems:
        print("- " + problem.replace("\n", "\n  "), file=sys.stderr)
    print(f"`logitkd {command} --help` shows what there is.", file=sys.stderr)
    return 2


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)
