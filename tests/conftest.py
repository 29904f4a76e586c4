"""What all tests share: helpers beside them are importable, each process keeps to one thread, and SIGINT interrupts."""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
# Tests run in several processes; threads of each would only wait for each other. Inherited by the processes tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell that starts pytest in the background has it ignore SIGINT, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
