"""A real Azurite for tests: Microsoft's emulator of Azure Storage, a process of its own on a free loopback port."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from loom.testing.servers import free_port, npm_folder

__all__ = ["AzuriteServer", "azurite_program"]

_FILES = ("package.json", "package-lock.json")


def azurite_program(node: Path) -> Path:
    """The script of Azurite's blob service, installed once into the user's cache from the lock file in ``node``.

    Raises RuntimeError saying what to install when there is no Node.js, or npm cannot fetch it.
    """
    folder = npm_folder(node, "azurite")
    return folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


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
