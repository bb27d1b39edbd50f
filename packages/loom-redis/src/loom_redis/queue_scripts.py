"""The scripts of the queue, and which keys and queues one call of them serves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any, Protocol, TypeVar

import msgspec

from loom.clock import Clock, SystemClock
from loom.errors import StoreUnavailableError
from loom.ports.port import check_key

from .channel import Argument
from .client import Redis
from .queue_records import Names
from .scripts import Script, load_script

__all__ = [
    "BEGIN", "DEAD", "EXTEND", "FINISH", "LOOK", "MESSAGES", "RECEIVE", "RELEASE", "SEND", "QueueScripts", "Wanted",
]  # fmt: skip

MESSAGES = 1000
"""After how many messages a script is full: other clients of the server wait for it."""

_LUA = resources.files("loom_redis") / "lua"


def _script(name: str, *parts: str, writes: bool = True) -> Script:
    """``lua/queue_{name}.lua`` behind the parts that it needs: what a script defines, each call of it makes anew."""
    texts = [(_LUA / f"queue_{part}.lua").read_text(encoding="utf-8") for part in (*parts, name)]
    base = load_script("queue_base")
    return Script(f"queue_{name}", base.text.decode() + "".join(texts), writes=writes)


_ALL = ("lanes", "take", "waiters")
SEND, RECEIVE, BEGIN = _script("send", *_ALL), _script("receive", *_ALL), _script("begin")
FINISH, RELEASE, DEAD = _script("finish", *_ALL), _script("release", *_ALL), _script("dead", *_ALL)
EXTEND = _script("extend", *_ALL)
LOOK = _script("look", "lanes", writes=False)


class _Queued(Protocol):
    @property
    def queue(self) -> str: ...


Q = TypeVar("Q", bound=_Queued)


class Wanted(msgspec.Struct, frozen=True):
    """Queues as a script takes them."""

    text: bytes
    names: tuple[bytes, ...]
    digest: bytes
    field: bytes


class QueueScripts:
    """Runs scripts over a *unit*: what one of them may touch. Where one slot holds all, that is every queue, and its
    name is empty; else it is one queue.
    """

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self.one_slot = redis.options.mode != "cluster"
        self.names = Names()
        self.prefix = f"{redis.options.namespace}:q:wake:"
        self._redis = redis
        self._clock = None if isinstance(clock, SystemClock) else clock
        self._keys: dict[str, list[str]] = {}
        self._wanted: dict[tuple[str, ...], Wanted] = {}

    def unit(self, wanted: Wanted) -> str:
        """The unit of the queues, or of the first of them."""
        return "" if self.one_slot else self.names.unpack(wanted.names[0])

    def want(self, queues: Sequence[str]) -> Wanted:
        """The queues for a script. Raises InvalidKeyError."""
        key = tuple(queues)
        wanted = self._wanted.get(key)
        if wanted is None:
            for queue in key:
                check_key("queue", queue)
            names = tuple(sorted({self.names.pack(queue) for queue in key}))
            text = b"\0" + b"\0".join(names) + b"\0"
            single = len(names) == 1
            digest = bytes(6) if single else hashlib.blake2b(text, digest_size=6).digest()
            wanted = Wanted(text, names, digest, b"1" + names[0] if single else b"*")
            if len(self._wanted) >= 256:
                self._wanted.clear()
            self._wanted[key] = wanted
        return wanted

    async def run(
        self,
        script: Script,
        unit: str,
        arguments: list[Argument],
        again: Callable[[], list[Argument]] | None = None,
        *,
        repeated: bool = False,
    ) -> Any:
        """Run a script of one unit; after an unknown outcome once more, telling it so."""
        keys = self.keys(unit)
        now = b"" if self._clock is None else repr(self._clock.now())
        head: list[Argument] = [now, "1" if repeated else "0", self.prefix, "1" if self.one_slot else "0"]
        try:
            return await self._redis.run(script, keys, head + arguments)
        except StoreUnavailableError as error:
            if not error.unknown:
                raise
        head[1] = "1"
        if again is not None:
            arguments = again()
        return await self._redis.run(script, keys, head + arguments, repeatable=True)

    def keys(self, unit: str) -> list[str]:
        """What a script over the unit is given as KEYS."""
        unit = "" if self.one_slot else unit
        keys = self._keys.get(unit)
        if keys is None:
            if len(self._keys) >= 10_000:
                self._keys.clear()
            parts = ("messages", "order", "timers", "finished", "waiters")
            keys = self._keys[unit] = [self._redis.key("q", unit, part) for part in parts]
        return keys

    async def in_units(
        self, items: Sequence[Q], work: Callable[[str, Sequence[Q]], Awaitable[list[bool]]]
    ) -> list[bool]:
        """Do ``work(unit, items)`` for the items of each unit; an outcome for each item."""
        outcomes: list[bool] = []
        for start in range(0, len(items), MESSAGES):
            part = items[start : start + MESSAGES]
            outcomes += await work("", part) if self.one_slot else await self.by_queue(part, work)
        return outcomes

    async def by_queue(
        self, items: Sequence[Q], work: Callable[[str, Sequence[Q]], Awaitable[list[bool]]]
    ) -> list[bool]:
        """Do ``work`` for the items of each queue, which lie in a slot of their own, all at once."""
        positions: dict[str, list[int]] = {}
        for n, item in enumerate(items):
            positions.setdefault(item.queue, []).append(n)
        results = await asyncio.gather(*(work(queue, [items[n] for n in some]) for queue, some in positions.items()))
        outcomes = [False] * len(items)
        for some, result in zip(positions.values(), results, strict=True):
            for n, outcome in zip(some, result, strict=True):
                outcomes[n] = outcome
        return outcomes
