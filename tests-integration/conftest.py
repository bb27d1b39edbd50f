"""Makes ``support`` importable by the tests here; the workers get the same path by ``PYTHONPATH``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
