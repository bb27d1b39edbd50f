"""The module on this machine: where it lies, whether it is the pinned one, and its compiled form."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import wasmtime

from loom.errors import ConfigurationError

from .places import cache_folder, installed_path
from .releases import Release

__all__ = ["load_module", "make_engine", "read_module"]

_SETTINGS = 1
"""Raised when the engine's configuration changes: what was compiled with another cannot be loaded."""


def make_engine() -> wasmtime.Engine:
    """An engine for the module, which counts fuel and can be interrupted."""
    config = wasmtime.Config()
    config.wasm_threads = True  # its memory is shared; it starts no threads here
    config.shared_memory = True
    config.wasm_reference_types = True
    config.wasm_bulk_memory = True
    config.wasm_multi_value = True
    config.consume_fuel = True
    config.epoch_interruption = True
    return wasmtime.Engine(config)


def read_module(release: Release, path: Path | None) -> bytes:
    """The module at ``path``, or where ``loom tlsnotary install`` puts it.

    Raises ConfigurationError where there is none, or another than the pinned one.
    """
    place = path or installed_path(release)
    try:
        wasm = place.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"tlsn-wasm {release.version} is not at {place} ({error.strerror}); 'loom tlsnotary install' fetches it "
            "once, or name your copy: tlsn:///path/to/tlsn_wasm_bg.wasm",
            path=str(place),
        ) from None
    digest = hashlib.sha256(wasm).hexdigest()
    if digest != release.wasm_sha256:
        raise ConfigurationError(
            f"{place} is not tlsn-wasm {release.version}: its SHA-256 is {digest}, not {release.wasm_sha256}",
            path=str(place),
        )
    return wasm


def load_module(engine: wasmtime.Engine, wasm: bytes, digest: str, folder: Path | None = None) -> wasmtime.Module:
    """Compile the module, or load what an earlier start has compiled with this wasmtime on this kind of machine.

    Of several starts at once one compiles and the others wait for it; a file is moved into place whole. A cache that
    others could write is not used, as its content runs as machine code.
    """
    folder = folder or cache_folder()
    name = f"{digest[:32]}-wasmtime-{version('wasmtime')}-{platform.system()}-{platform.machine()}-{_SETTINGS}.cwasm"
    place = folder / name
    if not _is_ours(folder):
        return wasmtime.Module(engine, wasm)
    if (found := _loaded(engine, place)) is not None:
        return found
    with _alone(place.with_suffix(".lock")):
        if (found := _loaded(engine, place)) is not None:
            return found
        module = wasmtime.Module(engine, wasm)
        _write(place, bytes(module.serialize()))
        return module


def _loaded(engine: wasmtime.Engine, place: Path) -> wasmtime.Module | None:
    """What lies there, or None where nothing does that can be used: it is damaged, or of another build of wasmtime."""
    if not place.exists():
        return None
    try:
        return wasmtime.Module.deserialize_file(engine, str(place))
    except wasmtime.WasmtimeError:
        return None


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep other processes of this machine out; where a system has no such locks, each does the work for itself."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        file = lock.open("w")
    except OSError:
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_ours(folder: Path) -> bool:
    """Whether only this user can write in the folder, which is made where it is missing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)


def _write(place: Path, data: bytes) -> None:
    try:
        descriptor, name = tempfile.mkstemp(dir=place.parent, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(name, place)
        except BaseException:
            os.unlink(name)
            raise
    except OSError:
        pass  # a full disk costs the next start the time to compile, nothing else
