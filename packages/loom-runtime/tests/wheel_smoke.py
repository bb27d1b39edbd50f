"""Run by `nox -s wheels` with the Python of an environment that holds nothing but the wheel and what it requires."""

from __future__ import annotations

import sys
import tempfile
from importlib import metadata
from pathlib import Path

import loom
import loom.ports
from loom.demo import run_demo
from loom.errors import LoomError

prefix = Path(sys.prefix).resolve()
assert prefix in Path(loom.__file__).resolve().parents, f"{loom.__file__} is not the installed wheel"
assert Path(loom.__file__).with_name("py.typed").is_file()
assert any(str(path).endswith("licenses/LICENSE") for path in metadata.files("loom-runtime") or [])
assert LoomError("hello", seq=1).context == {"seq": 1}
with tempfile.TemporaryDirectory() as folder:
    assert run_demo(None, Path(folder), files=8) == 0
print(f"loom-runtime {metadata.version('loom-runtime')} works from its wheel")
