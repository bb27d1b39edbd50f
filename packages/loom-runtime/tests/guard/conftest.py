"""A configuration by a few words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from loom.guard import GuardConfig, guard_config
from loom.plugins import AdapterRegistry, PluginLoader
from loom.settings import load_settings

Configure = Callable[..., GuardConfig]

LOCAL_DISK = "/dev/sda1 / ext4 rw 0 0\n"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def configure() -> Configure:
    def make(
        url: str | None = None,
        urls: Mapping[str, str] | None = None,
        *,
        plugins: tuple[object, ...] = (),
        mounts: str | None = LOCAL_DISK,
        environ: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> GuardConfig:
        loader = PluginLoader(find=list)
        for number, plugin in enumerate(plugins):
            loader.register(plugin, name=f"p{number}", distribution=f"loom-p{number}")
        settings = load_settings(url, urls, environ=environ or {})
        return guard_config(
            settings, AdapterRegistry(loader), mounts=lambda: mounts, environ=environ or {}, **arguments
        )

    return make
