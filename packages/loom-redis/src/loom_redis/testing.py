"""Real redis-servers for tests and benchmarks: processes of their own on free loopback ports, over a folder."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

__all__ = ["RedisServer", "free_port", "need_redis_server"]

_INSTALL = (
    "redis-server is not installed. Debian and Ubuntu: sudo apt-get install redis-server; macOS: brew install redis"
)


def need_redis_server() -> str:
    """The path of the redis-server program. Raises RuntimeError saying what to install."""
    path = shutil.which("redis-server")
    if path is None:
        raise RuntimeError(_INSTALL)
    return path


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


class RedisServer:
    """One redis-server on 127.0.0.1, with its data in ``folder``, durable by its append-only file.

    ``appendfsync`` is ``always`` (what is acknowledged survives the machine), ``everysec`` or ``no``. ``settings`` are
    further ``(name, value…)`` lines of redis.conf. Used as ``with RedisServer(folder) as server: server.url``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        appendonly: bool = True,
        appendfsync: str = "everysec",
        port: int | None = None,
        settings: tuple[tuple[str, ...], ...] = (),
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = (
            ("bind", "127.0.0.1"),
            ("save", ""),
            ("appendonly", "yes" if appendonly else "no"),
            ("appendfsync", appendfsync),
            ("enable-debug-command", "yes"),
            *settings,
        )

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:PORT/0``."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    def start(self) -> None:
        """Start it, and return when it accepts connections and has loaded its data."""
        program = need_redis_server()
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [" ".join(f'"{part}"' for part in setting) for setting in self._settings]
        config = self.folder / "redis.conf"
        config.write_text("\n".join([f"port {self.port}", f'dir "{self.folder}"', *lines, ""]))
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_ready()

    def stop(self) -> None:
        """End it in order: the append-only file is synced."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash of the process does."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it in the middle of whatever it does (SIGSTOP)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after ``pause``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *arguments: str) -> bytes:
        """Send one command over a new connection and return the raw reply: for setting a scene, not for speed."""
        text = f"*{len(arguments)}\r\n" + "".join(f"${len(part.encode())}\r\n{part}\r\n" for part in arguments)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(text.encode())
            return connection.recv(65536)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            process.wait()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                log = (self.folder / "redis.log").read_text(errors="replace")
                raise RuntimeError(f"redis-server ended with {self._process.returncode}: {log[-1000:]}")
            try:
                if self.command("PING").startswith((b"+PONG", b"-NOAUTH")):
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise RuntimeError("redis-server did not answer in 30 s")
