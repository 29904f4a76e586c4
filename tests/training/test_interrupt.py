import os
import signal
import threading

import pytest

from logitkd.training.interrupt import StopSignals


@pytest.fixture
def _python_handles_sigint():
    """Also where the tests were started with SIGINT ignored, as in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_python_handles_sigint")
def test_first_is_noted_second_acts():
    with StopSignals() as stops:
        assert stops.received is None
        os.kill(os.getpid(), signal.SIGINT)
        assert stops.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_given_back():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as stops:
            os.kill(os.getpid(), signal.SIGINT)
            assert stops.received is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_nothing_happens():
    seen = []

    def run():
        with StopSignals() as stops:
            seen.append(stops.received)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [None]
