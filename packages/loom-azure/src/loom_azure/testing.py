"""A real Azurite for tests: Microsoft's emulator of Azure Storage, a process of its own on a free loopback port."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

__all__ = ["AzuriteServer", "azurite_program", "free_port"]

_FILES = ("package.json", "package-lock.json")


def azurite_program(node: Path) -> Path:
    """The script of Azurite's blob service, installed once into the user's cache from the lock file in ``node``.

    Raises RuntimeError saying what to install when there is no Node.js, or npm cannot fetch it.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise RuntimeError(
            "node and npm are not installed, and the tests of Azure blobs run on Azurite: install Node.js 20 or newer "
            "(Debian and Ubuntu: sudo apt-get install nodejs npm; macOS: brew install node)"
        )
    lock = hashlib.sha256((node / _FILES[1]).read_bytes()).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loom-tests"
    folder = root / f"azurite-{lock}"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            shutil.copyfile(node / name, folder / name)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode != 0:
            raise RuntimeError(f"npm ci in {folder} failed, and Azurite is needed: {done.stderr.strip()[-400:]}")
        (folder / "done").touch()
    return folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now, below the range from which the system takes its own."""
    for port in range(21000 + (time.monotonic_ns() // 1000) % 9000, 32000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port on 127.0.0.1")


class AzuriteServer:
    """One Azurite on 127.0.0.1, with its data in ``folder``. Used as ``with AzuriteServer(program, folder) as server``.

    ``certificate`` and ``key`` are PEM files: then it speaks https, and takes the tokens of identities without looking
    who signed them.
    """

    account = "devstoreaccount1"

    def __init__(
        self, program: Path, folder: Path, *, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        self._program = program
        self.folder = folder
        self._tls = (certificate, key) if certificate is not None and key is not None else None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def endpoint(self) -> str:
        """The URL of the account's blob service."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/{self.account}"

    def url(self, container: str, **options: str) -> str:
        """The URL of a container for Loom, which is made where it is missing."""
        given = {"endpoint": self.endpoint, "create": "1", **options}
        return f"azblob://{self.account}/{container}?{'&'.join(f'{k}={v}' for k, v in given.items())}"

    def start(self) -> None:
        """Start it, and return when it accepts connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["node", str(self._program), "--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location"]
        command += [str(self.folder), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        if self._tls:
            command += ["--cert", str(self._tls[0]), "--key", str(self._tls[1]), "--oauth", "basic"]
        with (self.folder / "azurite.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                said = (self.folder / "azurite.log").read_text(errors="replace")
                raise RuntimeError(f"Azurite ended with {self._process.returncode}: {said[-1000:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("Azurite did not answer in 60 s")

    def stop(self) -> None:
        """End it, and forget it."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
