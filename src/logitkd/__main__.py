"""``python -m logitkd`` is ``logitkd``."""

import sys

from logitkd.cli import main

sys.exit(main())
