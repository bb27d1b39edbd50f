"""What tests need that start servers of their own."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from loom.testing.servers import free_port, npm_folder

MANY = "from loom.testing.servers import free_port; print(*(free_port() for _ in range(50))); input()"


def test_no_port_is_given_twice_in_any_process() -> None:
    others = [
        subprocess.Popen([sys.executable, "-c", MANY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ports = [free_port() for _ in range(50)]
    for other in others:
        assert other.stdout is not None
        ports += map(int, other.stdout.readline().split())
    for other in others:
        other.communicate("")
    assert len(set(ports)) == 200


def test_a_port_that_is_taken_is_not_given() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        assert taken.getsockname()[1] not in [free_port() for _ in range(20)]


def test_without_node_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"that needs them: install Node\.js"):
        npm_folder(tmp_path, "that")
