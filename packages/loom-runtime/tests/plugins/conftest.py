"""Real distributions, generated: a folder on sys.path with modules and a dist-info beside them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install("loom-x", {"x": "x_plugin"}, {"x_plugin.py": "…"})`` puts a distribution where Python finds it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def put(
        name: str, entry_points: dict[str, str] | str, files: dict[str, str] | None = None, version: str = "1.0"
    ) -> None:
        for file, text in (files or {}).items():
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        if isinstance(entry_points, dict):
            lines = "".join(f"{key} = {value}\n" for key, value in entry_points.items())
            entry_points = f"[loom.plugins]\n{lines}"
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        importlib.invalidate_caches()

    yield put
    for module in set(sys.modules) - before:
        if getattr(sys.modules[module], "__file__", None) and str(tmp_path) in str(sys.modules[module].__file__):
            del sys.modules[module]


@pytest.fixture
def plugin_source() -> Callable[..., str]:
    """The text of a plugin module with one adapter."""

    def source(scheme: str, target: str = "nowhere.driver:Adapter", port: str = "journal", extra: str = "") -> str:
        return (
            "from loom.plugins import AdapterSpec, Durability, Reach, hookimpl\n"
            "@hookimpl\n"
            "def loom_register_adapters():\n"
            f"    yield AdapterSpec(port={port!r}, scheme={scheme!r}, target={target!r},\n"
            f"        durability=Durability.MACHINE, reach=Reach.NETWORK{extra})\n"
        )

    return source
