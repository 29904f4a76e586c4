"""What all tests share: helpers beside them are importable, and each test process keeps to one thread."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
# Tests run in several processes; threads of each would only wait for each other. Inherited by the processes tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
