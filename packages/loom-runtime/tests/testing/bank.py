"""The example bank, as a module of the tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[4]


def load_bank() -> Any:
    """``examples/bank.py``, imported once for all tests."""
    if "bank" not in sys.modules:
        spec = importlib.util.spec_from_file_location("bank", ROOT / "examples" / "bank.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["bank"] = module
        spec.loader.exec_module(module)
    return sys.modules["bank"]
