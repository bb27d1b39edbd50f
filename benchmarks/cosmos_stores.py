"""The stores on Cosmos DB beside the bare SDK doing the same operations, by turns in the same run, on the same server.

The server is the one of loom-cosmos' tests, on this machine, or the account that ``LOOM_TEST_COSMOS_URL`` names.
Request units are told of an account only: those of the local server are made up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from .measure import Figure, drive

__all__ = ["measure"]

IN_FLIGHT = 32
STREAMS = 64
ROUNDS = 4
DATA = os.urandom(300)
BODY = {"name": "x" * 200, "n": 1}
SERVER = Path(__file__).parents[1] / "packages" / "loom-cosmos" / "tests" / "server"

Operation = Callable[[int], Awaitable[object]]


@contextlib.contextmanager
def _address() -> Iterator[str]:
    """The URL of a database."""
    if real := os.environ.get("LOOM_TEST_COSMOS_URL"):
        yield f"{real}{'&' if '?' in real else '?'}namespace=bench-{os.getpid()}"
        return
    from loom.testing.servers import npm_folder
    from loom_cosmos.testing import CosmosServer

    with CosmosServer(["node", str(SERVER / "corrected.js"), "{port}", str(npm_folder(SERVER, "cosmos"))]) as server:
        yield server.url("bench")


@contextlib.asynccontextmanager
async def _sdk(url: str) -> AsyncIterator[Any]:
    """The database by a client of the SDK, with its own settings."""
    from azure.cosmos.aio import CosmosClient

    from loom.plugins import LoomURL
    from loom_cosmos.options import CosmosOptions

    options = CosmosOptions.from_url(LoomURL.parse(url))
    settings: dict[str, Any] = {}
    if options.emulator:
        settings = {"connection_verify": False, "enable_endpoint_discovery": False}
    if options.key:
        async with CosmosClient(options.endpoint, options.key, **settings) as client:
            yield client.get_database_client(options.database)
        return
    from azure.identity.aio import DefaultAzureCredential

    async with DefaultAzureCredential() as credential, CosmosClient(options.endpoint, credential) as client:
        yield client.get_database_client(options.database)


def _ours_appends(journal: Any) -> Operation:
    from loom.ports import Append

    heads = [(0, "")] * STREAMS
    one_at_a_time = [asyncio.Lock() for _ in range(STREAMS)]

    async def append(number: int) -> None:
        n, entry_id = number % STREAMS, f"{number + 1:032x}"
        async with one_at_a_time[n]:
            seq, before = heads[n]
            await journal.append(Append(f"ours-{n}", seq, before, entry_id, DATA, 1))
            heads[n] = (seq + 1, entry_id)

    return append


def _bare_appends(container: Any, namespace: str) -> Operation:
    """The same batch, of the same items, written down by hand."""
    from loom.ports import Append, Head
    from loom_cosmos.journal_items import item_of_entry, item_of_head

    etags: dict[int, str] = {}
    seqs = [0] * STREAMS
    one_at_a_time = [asyncio.Lock() for _ in range(STREAMS)]

    async def append(number: int) -> None:
        n = number % STREAMS
        pk = f"bare-{os.getpid()}-{n}"
        async with one_at_a_time[n]:
            entry = Append(f"bare-{n}", seqs[n], "", f"{number + 1:032x}", DATA, 1)
            seqs[n] += 1
            head = item_of_head(pk, namespace, entry.stream, Head(seqs[n], entry.entry_id, 1, 0), 0)
            write: Any = ("create", (head,))
            if n in etags:
                write = ("replace", (head["id"], head), {"if_match_etag": etags[n]})
            done = await container.execute_item_batch([write, ("create", (item_of_entry(pk, entry),))], pk)
            etags[n] = done[0]["eTag"]

    return append


async def _by_turns(bare: Operation, ours: Operation, total: int) -> tuple[float, float, list[float]]:
    """Rounds of one and of the other: calls a second of each, and the sorted seconds of ours."""
    spent, latencies, each = [0.0, 0.0], [], total // ROUNDS
    for number in range(ROUNDS):
        for which, operation in enumerate((bare, ours)):
            rate, seconds = await drive(lambda n, o=operation, b=number * each: o(b + n), each, IN_FLIGHT)  # type: ignore[misc]
            spent[which] += each / rate
            latencies += seconds if which else []
    return total / spent[0], total / spent[1], sorted(latencies)


async def _measure(url: str, total: int) -> list[Figure]:
    from loom.plugins import AdapterContext, AdapterRegistry
    from loom.ports import Collection

    registry, context, figures = AdapterRegistry(), AdapterContext(), []

    def figure(name: str, bare: float, ours: float, times: list[float]) -> None:
        p50, p99 = times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3
        figures.append(
            Figure(
                name=f"Cosmos: {name}, {IN_FLIGHT} in flight", value=ours, unit="/s", raw=bare,
                raw_name="by the bare SDK", wanted=0.7, p50_ms=p50, p99_ms=p99,
            )
        )  # fmt: skip

    async with (
        registry.open("journal", url, context) as journal,
        registry.open("documents", url, context) as documents,
        _sdk(url) as database,
    ):
        await documents.ensure([Collection("bench")])
        cosmos = journal._cosmos
        requests, units = cosmos.usage.requests, cosmos.usage.units
        bare = _bare_appends(database.get_container_client("journal"), cosmos.options.namespace)
        figure("append", *await _by_turns(bare, _ours_appends(journal), total))
        turns = total // ROUNDS * ROUNDS
        figures.append(
            Figure(
                name="Cosmos: requests of an append, the first of a stream included", unit="requests",
                value=(cosmos.usage.requests - requests) / turns, wanted=1.0 + STREAMS / turns, higher_is_better=False,
            )
        )  # fmt: skip
        if not cosmos.options.emulator:
            figures.append(Figure(name="Cosmos: of an append", unit="RU", value=(cosmos.usage.units - units) / turns))
        container = database.get_container_client("documents")
        pk = f"bare-{os.getpid()}"
        figure(
            "put of a document",
            *await _by_turns(
                lambda n: container.upsert_item({"id": f"d{n % 500}", "pk": pk, "body": BODY}),
                lambda n: documents.put("bench", "ours", f"d{n % 500}", BODY),
                total,
            ),
        )
        figure(
            "get of a document",
            *await _by_turns(
                lambda n: container.read_item(f"d{n % 500}", pk),
                lambda n: documents.get("bench", "ours", f"d{n % 500}"),
                total,
            ),
        )
    return figures


def measure(*, quick: bool = False) -> list[Figure]:
    """Appends, puts and gets."""
    with _address() as url:
        return asyncio.run(_measure(url, 1000 if quick else 4000))
