"""What tests need that start real servers: ports of their own, and npm packages; safe for tests side by side."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

__all__ = ["free_port", "npm_folder"]

_FIRST, _LAST = 21000, 32000
_reserved: list[int] = []  # descriptors: their locks end with this process


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, below the range from which the system takes its own.

    No other call of this function gets it while this process lives, in whatever process of the user. Raises
    RuntimeError when there is none.
    """
    folder = Path(tempfile.gettempdir()) / f"loom-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    start = (time.monotonic_ns() // 1000 + os.getpid() * 97) % (_LAST - _FIRST)
    for offset in range(_LAST - _FIRST):
        port = _FIRST + (start + offset) % (_LAST - _FIRST)
        descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            os.close(descriptor)
            continue
        _reserved.append(descriptor)
        return port
    raise RuntimeError("no free port on 127.0.0.1")


def npm_folder(source: Path, name: str) -> Path:
    """A folder with the ``node_modules`` that ``package-lock.json`` in ``source`` asks for, in the user's cache.

    Installed once for each content of the lock file; tests side by side wait for one another. Raises RuntimeError
    saying what to install when there is no Node.js, or what npm said when it could not fetch the packages.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise RuntimeError(
            f"node and npm are not installed, and {name} needs them: install Node.js 20 or newer (Debian and Ubuntu: "
            "sudo apt-get install nodejs npm; macOS: brew install node)"
        )
    files = ("package.json", "package-lock.json")
    digest = hashlib.sha256((source / files[1]).read_bytes()).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loom-tests"
    folder = root / f"{name}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with (root / f"{name}-{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            for file in files:
                shutil.copyfile(source / file, folder / file)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
            if done.returncode != 0:
                raise RuntimeError(f"npm ci in {folder} failed, and {name} needs it: {done.stderr.strip()[-400:]}")
            (folder / "done").touch()
    return folder
