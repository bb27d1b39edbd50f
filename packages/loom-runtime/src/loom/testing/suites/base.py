"""What the conformance suites share: the harness around an adapter, the runner, and how declarations select tests.

An adapter's author writes one class a port::

    class TestMyJournal(JournalStoreSuite):
        spec = MY_JOURNAL_SPEC                      # or: features, durability and reach

        def harness(self, tmp_path):
            clock = ManualClock()
            return Harness(lambda: MyJournalStore(tmp_path / "data", clock=clock), clock=clock)

The factory is called once for each client of the same data. Tests are plain functions: pytest is all they need.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import msgspec
import pytest

from ...plugins.spec import AdapterSpec, Durability, Feature, Reach
from ...plugins.urls import AdapterContext, LoomURL
from ...ports.port import Port
from ..clock import ManualClock

__all__ = ["MOST_TESTED", "Harness", "Needs", "Suite", "eventually", "limit", "scenario"]

P = TypeVar("P", bound=Port)
S = TypeVar("S", bound="Suite[Any]")

_TEST_SECONDS = 120.0
"""After this much real time a scenario is taken to hang. Generous: it is never what a test measures."""


class Harness(Generic[P]):
    """An adapter under test: opened, shared, reopened and closed by the suite.

    ``connect()`` builds, without I/O, one more client of the *same* data; the suite starts and closes what it builds.
    ``clock`` is the ManualClock handed to the clients, or None when the backend's own time counts; then tests about
    expiry let real time pass. ``url`` is a URL by which another *process* can open the same data through the adapter
    class's ``from_url``; without it tests of crashes and of several processes are skipped. ``unit`` is how many seconds
    a lease, a delay or a TTL lasts in the tests, 30 by a clock of ours and half a second where real time must pass;
    half a second has to hold several round trips, so a store far away wants more. ``cleanup`` runs at the end, after
    every client was closed.
    """

    def __init__(
        self,
        connect: Callable[[], P],
        *,
        clock: ManualClock | None = None,
        url: str | None = None,
        unit: float | None = None,
        cleanup: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._connect = connect
        self._cleanup = cleanup
        self._clients: list[P] = []
        self.clock = clock
        self.url = url
        self.unit = unit or (0.5 if clock is None else 30.0)

    @classmethod
    def of_url(
        cls,
        adapter: type[P],
        url: str,
        *,
        clock: ManualClock | None = None,
        unit: float | None = None,
        cleanup: Callable[[], Awaitable[None]] | None = None,
    ) -> Self:
        """A harness over the data at ``url``, opened by the class's ``from_url``: each client has its own connection.

        The data must be the test's own and empty: put a name that no other test has into the URL.
        """
        build: Callable[[LoomURL, AdapterContext], P] = adapter.from_url  # type: ignore[attr-defined]
        return cls(
            lambda: build(LoomURL.parse(url), AdapterContext(clock)), clock=clock, url=url, unit=unit, cleanup=cleanup
        )

    @property
    def adapter(self) -> P:
        """The first client, started."""
        return self._clients[0]

    async def second(self) -> P:
        """Another started client of the same data."""
        client = self._connect()
        self._clients.append(client)
        await client.start()
        return client

    async def leave(self) -> P:
        """Close every client, so that nobody here has the data open; what was the first client."""
        first = self.adapter
        await self._close_clients()
        return first

    async def reopen(self) -> P:
        """Close every client, and open the data again with a new one."""
        await self._close_clients()
        return await self.second()

    def now(self) -> float:
        """Unix time as the adapter sees it."""
        return time.time() if self.clock is None else self.clock.now()

    async def pass_time(self, seconds: float) -> None:
        """Let ``seconds`` pass for the adapter."""
        if self.clock is None:
            await asyncio.sleep(seconds)
        else:
            self.clock.advance(seconds)
            await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.second()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._close_clients()
        finally:
            if self._cleanup is not None:
                await self._cleanup()

    async def _close_clients(self) -> None:
        clients, self._clients = self._clients, []
        for client in reversed(clients):
            await client.close()


MOST_TESTED = 16 * 2**20
"""Bytes up to which the suites store values as large as an adapter takes."""


def limit(adapter: Any) -> int:
    """The adapter's ``max_bytes``; skips the test of an adapter without a limit."""
    if adapter.max_bytes is None:
        pytest.skip("the adapter names no max_bytes: it takes whatever memory holds")
    return int(adapter.max_bytes)


class Needs(msgspec.Struct, frozen=True):
    """What a test asks of an adapter's declarations, beyond what every adapter of the port must do."""

    features: frozenset[Feature] = frozenset()
    durability: Durability = Durability.NONE
    reach: Reach = Reach.PROCESS


class Suite(Generic[P]):
    """The base of the suites. What is declared is proven; what is not declared is skipped, saying so."""

    spec: ClassVar[AdapterSpec | None] = None
    features: ClassVar[frozenset[Feature]] = frozenset()
    durability: ClassVar[Durability] = Durability.NONE
    reach: ClassVar[Reach] = Reach.PROCESS

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        spec = cls.__dict__.get("spec")
        if spec is not None:
            for name in ("features", "durability", "reach"):
                if name not in cls.__dict__:
                    setattr(cls, name, getattr(spec, name))

    def harness(self, tmp_path: Path) -> Harness[P]:
        """Override: a harness over fresh, empty data. ``tmp_path`` is a folder of this test's own."""
        pytest.fail(f"{type(self).__name__} must override harness(tmp_path) and return a Harness")

    def _run(self, tmp_path: Path, body: Callable[[Harness[P]], Coroutine[Any, Any, None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(_TEST_SECONDS), self.harness(tmp_path) as harness:
                await body(harness)

        with asyncio.Runner() as runner:
            runner.run(bounded())


def scenario(
    *features: Feature,
    durability: Durability = Durability.NONE,
    reach: Reach = Reach.PROCESS,
    url: bool = False,
) -> Callable[[Callable[[S, Harness[Any]], Coroutine[Any, Any, None]]], Callable[[S, Path], None]]:
    """Make ``async def test_…(self, h: Harness)`` a plain test, skipped unless the adapter declares what it needs.

    ``url=True`` says that it opens the data from another process. The test's attribute ``needs`` tells the rest, for
    reports.
    """

    def decorate(body: Callable[[S, Harness[Any]], Coroutine[Any, Any, None]]) -> Callable[[S, Path], None]:
        def test(self: S, tmp_path: Path) -> None:
            _skip_undeclared(self, features, durability, reach)

            async def within(harness: Harness[Any]) -> None:
                if url and harness.url is None:
                    pytest.skip("the harness gives no url by which another process could open the data")
                await body(self, harness)

            self._run(tmp_path, within)

        # Not functools.wraps: pytest would follow __wrapped__ and ask for a fixture "h".
        test.__name__, test.__qualname__ = body.__name__, body.__qualname__
        test.__doc__, test.__module__ = body.__doc__, body.__module__
        vars(test)["needs"] = Needs(frozenset(features), durability, reach)
        return test

    return decorate


def _skip_undeclared(suite: Suite[Any], features: Sequence[Feature], durability: Durability, reach: Reach) -> None:
    missing = [feature.value for feature in features if feature not in suite.features]
    if missing:
        pytest.skip(f"not declared: feature {', '.join(missing)}")
    if suite.durability < durability:
        pytest.skip(f"not declared: durability {durability.name} (it is {suite.durability.name})")
    if suite.reach < reach:
        pytest.skip(f"not declared: reach {reach.name} (it is {suite.reach.name})")


async def eventually(condition: Callable[[], Awaitable[Any] | Any], what: str, timeout: float = 60.0) -> Any:
    """Return the first true value of ``condition()``, or fail after ``timeout`` seconds saying ``what`` never came."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"still not true after {timeout:.0f} s: {what}")
        await asyncio.sleep(0.002)
