"""Lua scripts: loaded from the package, called by their hash, sent again when the server has forgotten them."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources

__all__ = ["Script", "load_script"]


class Script:
    """One script. ``writes`` says that a reported effect must be as durable as the URL asks (``wait_replicas``).

    Every key that the script touches is declared in ``KEYS`` and lies in one slot. A script checks everything first
    and writes afterwards: Redis does not undo what a failing script has written.
    """

    __slots__ = ("name", "sha", "text", "writes")

    def __init__(self, name: str, text: str, *, writes: bool) -> None:
        self.name = name
        self.text = text.encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()
        self.writes = writes


@functools.cache
def _prelude() -> str:
    return _read("prelude.lua")


def _read(file: str) -> str:
    return resources.files("loom_redis").joinpath("lua", file).read_text(encoding="utf-8")


def load_script(name: str, *, writes: bool = True) -> Script:
    """The script in ``lua/{name}.lua``, after the functions of ``lua/prelude.lua`` that all may use."""
    return Script(name, _prelude() + _read(f"{name}.lua"), writes=writes)
