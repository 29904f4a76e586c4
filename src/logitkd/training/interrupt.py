"""SIGINT and SIGTERM: stop at the next step, not in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "StopSignals"]


class Interrupted(SystemExit):
    """The run was asked to stop and wrote a checkpoint (at its very end, its result).

    Its code is 128 + the signal's number: 130, 143.
    """


class StopSignals:
    """While open, notes SIGINT and SIGTERM in :attr:`received`; a second one acts at once, as it did before.

    Signals that the process was told to ignore (``nohup``) stay ignored. Outside the main thread, where Python allows
    no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
