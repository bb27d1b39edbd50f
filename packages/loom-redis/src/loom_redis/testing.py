"""Real redis-servers for tests and benchmarks: processes of their own on free loopback ports, over a folder."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from loom.testing.servers import free_port

__all__ = ["RedisCluster", "RedisServer", "SentinelGroup", "need_redis_server"]

_INSTALL = (
    "redis-server is not installed. Debian and Ubuntu: sudo apt-get install redis-server; macOS: brew install redis"
)


def need_redis_server() -> str:
    """The path of the redis-server program. Raises RuntimeError saying what to install."""
    path = shutil.which("redis-server")
    if path is None:
        raise RuntimeError(_INSTALL)
    return path


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
        sentinel: bool = False,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        durable = (
            ("appendonly", "yes" if appendonly else "no"),
            ("appendfsync", appendfsync),
            ("enable-debug-command", "yes"),
        )
        self._sentinel = sentinel
        self._settings = (
            ("bind", "127.0.0.1"),
            *(() if sentinel else (("save", ""), ("repl-diskless-sync-delay", "0"), *durable)),
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
                [program, str(config), *(["--sentinel"] if self._sentinel else [])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
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

    def cli(self, *arguments: str) -> str:
        """Run redis-cli against it, and return what it prints."""
        found = subprocess.run(
            ["redis-cli", "-p", str(self.port), *arguments], capture_output=True, text=True, check=True, timeout=60
        )
        return found.stdout.strip()

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


class SentinelGroup:
    """A master, its replicas and three sentinels, on 127.0.0.1. Used as ``with SentinelGroup(folder) as group``.

    ``master`` and ``replicas`` are the servers as they were at first; a failover takes about ``down_after`` seconds.
    """

    def __init__(self, folder: Path, *, replicas: int = 2, down_after: float = 0.7) -> None:
        self._down_after = int(down_after * 1000)
        self._folder = folder
        self.master = RedisServer(folder / "master")
        self.replicas = [
            RedisServer(folder / f"replica-{n}", settings=(("replicaof", "127.0.0.1", str(self.master.port)),))
            for n in range(replicas)
        ]
        self.sentinels: list[RedisServer] = []

    @property
    def url(self) -> str:
        """``redis+sentinel://…/mymaster/0``, naming all sentinels."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/mymaster/0"

    def __enter__(self) -> Self:
        try:
            for server in (self.master, *self.replicas):
                server.start()
            self._wait(lambda: self.master.cli("INFO", "replication").count("state=online") == len(self.replicas))
            for n in range(3):
                settings = (
                    ("sentinel", "monitor", "mymaster", "127.0.0.1", str(self.master.port), "2"),
                    ("sentinel", "down-after-milliseconds", "mymaster", str(self._down_after)),
                    ("sentinel", "failover-timeout", "mymaster", "3000"),
                )
                self.sentinels.append(RedisServer(self._folder / f"sentinel-{n}", settings=settings, sentinel=True))
                self.sentinels[-1].start()
            self._wait(lambda: all(self._knows_all(one) for one in self.sentinels))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in (*self.sentinels, self.master, *self.replicas):
            server.kill()

    def _knows_all(self, sentinel: RedisServer) -> bool:
        lines = sentinel.cli("SENTINEL", "MASTER", "mymaster").split()
        about = dict(zip(lines[::2], lines[1::2], strict=False))
        return about.get("num-other-sentinels") == "2" and about.get("num-slaves") == str(len(self.replicas))

    @staticmethod
    def _wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            if time.monotonic() > deadline:
                raise RuntimeError("the sentinels did not find each other and the servers in 60 s")
            time.sleep(0.05)


class RedisCluster:
    """A cluster of three masters, and replicas if wanted, on 127.0.0.1. Used as ``with RedisCluster(folder)``."""

    def __init__(self, folder: Path, *, replicas: int = 0) -> None:
        settings = (("cluster-enabled", "yes"), ("cluster-node-timeout", "1000"))
        self._replicas = replicas
        self.servers = [
            # Left to itself the bus takes the port + 10000, and nobody has looked whether that is free.
            RedisServer(folder / f"node-{n}", settings=(*settings, ("cluster-port", str(free_port()))))
            for n in range(3 * (1 + replicas))
        ]

    @property
    def url(self) -> str:
        """``redis+cluster://…``, naming two nodes: the others are found."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{one.port}' for one in self.servers[:2])}"

    def __enter__(self) -> Self:
        try:
            for server in self.servers:
                server.start()
            nodes = [f"127.0.0.1:{server.port}" for server in self.servers]
            self.servers[0].cli(
                "--cluster", "create", *nodes, "--cluster-replicas", str(self._replicas), "--cluster-yes"
            )
            deadline = time.monotonic() + 60
            while not all(self._settled(server) for server in self.servers):
                if time.monotonic() > deadline:
                    raise RuntimeError("the cluster was not ready in 60 s")
                time.sleep(0.05)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.kill()

    @staticmethod
    def _settled(server: RedisServer) -> bool:
        # A replica that has never been in step takes nothing over.
        linked = "master_link_status:down" not in server.cli("INFO", "replication")
        return linked and "cluster_state:ok" in server.cli("CLUSTER", "INFO")
