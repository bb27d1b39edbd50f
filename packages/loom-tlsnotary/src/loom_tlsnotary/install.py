"""Fetch the module once, from the npm package, and never run anything of it but what the hash names."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from loom.errors import ConfigurationError

from .places import installed_path
from .releases import Release

__all__ = ["fetch_tarball", "install", "unpack"]

_MEMBER = "package/tlsn_wasm_bg.wasm"
_LARGEST = 64 * 2**20


def install(release: Release, tarball: Path | None = None, target: Path | None = None) -> Path:
    """Put the module into place, from ``tarball`` or by npm; returns where it lies. Whole or not at all.

    Raises ConfigurationError where it cannot be had, or is not the pinned one.
    """
    data = fetch_tarball(release) if tarball is None else _read(tarball)
    wasm = unpack(release, data)
    place = target or installed_path(release)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=place.parent, suffix=".part")
        with os.fdopen(descriptor, "wb") as file:
            file.write(wasm)
        os.replace(name, place)
    except OSError as error:
        raise ConfigurationError(f"{place} cannot be written: {error.strerror}", path=str(place)) from None
    return place


def fetch_tarball(release: Release) -> bytes:
    """The npm package, by npm with its own settings and mirrors; none of its scripts is run."""
    npm = shutil.which("npm")
    name = f"tlsn-wasm@{release.version}"
    if npm is None:
        raise ConfigurationError(
            f"npm is not installed, by which {name} is fetched: install Node.js, or run 'npm pack {name}' elsewhere "
            "and give its file: loom tlsnotary install --tarball FILE"
        )
    with tempfile.TemporaryDirectory(prefix="loom-tlsnotary-") as folder:
        command = [npm, "pack", name, "--ignore-scripts", "--silent", "--pack-destination", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=600)
        found = sorted(Path(folder).glob("*.tgz"))
        if done.returncode != 0 or len(found) != 1:
            raise ConfigurationError(f"npm pack {name} failed: {done.stderr.strip()[-400:] or 'it wrote no file'}")
        return found[0].read_bytes()


def unpack(release: Release, tarball: bytes) -> bytes:
    """The module out of the tarball, both checked against what is pinned. Raises ConfigurationError."""
    algorithm, _, expected = release.integrity.partition("-")
    digest = base64.b64encode(hashlib.new(algorithm, tarball).digest()).decode()
    if digest != expected:
        raise ConfigurationError(
            f"the tarball is not that of tlsn-wasm {release.version}: its {algorithm} is {digest}, not {expected}"
        )
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
        file = archive.extractfile(_MEMBER)
        wasm = b"" if file is None else file.read(_LARGEST)
    if hashlib.sha256(wasm).hexdigest() != release.wasm_sha256:
        raise ConfigurationError(f"the module in the tarball is not that of tlsn-wasm {release.version}")
    return wasm


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", path=str(path)) from None
