"""A local server that speaks Cosmos DB's protocol, for tests of this package and of applications on it."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from loom.testing.servers import free_port

from .options import EMULATOR_KEY

__all__ = ["CosmosServer"]

_START_SECONDS = 60.0


class CosmosServer:
    """One process that serves at ``url``: ``command`` with a free port for ``{port}`` and the key for ``{key}``.

    What it holds is gone when it ends. ``with CosmosServer(["node", "server.js", "{port}"]) as server: …``.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.port = free_port()
        self._command = [part.format(port=self.port, key=EMULATOR_KEY) for part in command]
        self._process: subprocess.Popen[bytes] | None = None
        self._tls = ssl.create_default_context()
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    def url(self, database: str = "loom", **options: object) -> str:
        """The URL of a database on it, with the emulators' key, which need not be written."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"cosmos+emulator://127.0.0.1:{self.port}/{database}{'?' if query else ''}{query}"

    def control(self, **settings: Any) -> None:
        """Make the server misbehave, and end what an earlier call had asked for; see the server's own README."""
        self._ask("/__control", json.dumps(settings).encode())

    def left(self) -> dict[str, Any]:
        """What is left of what ``control`` has asked for, by the names of its settings."""
        left: dict[str, Any] = json.loads(self._ask("/__control", None))
        return left

    def start(self) -> None:
        """Run it and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._ask("/__control", None)
                return
            except urllib.error.HTTPError:
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ask(self, path: str, data: bytes | None) -> bytes:
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", data=data)
        with urllib.request.urlopen(request, context=self._tls, timeout=10) as answer:
            found: bytes = answer.read()
            return found
