"""``loom cosmos init``, and the version that each container states."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.cosmos import PartitionKey
from typer.testing import CliRunner

from loom.cli.tree import build
from loom.errors import ConfigurationError, StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL
from loom_cosmos.client import Cosmos, upsert
from loom_cosmos.containers import JOURNAL
from loom_cosmos.journal import CosmosJournalStore
from loom_cosmos.options import CosmosOptions
from loom_cosmos.schema import SCHEMA_VERSION, state_schema, stated_schema
from loom_cosmos.setup import plan
from loom_cosmos.testing import CosmosServer

_numbers = itertools.count(1)


@pytest.fixture
def url(server: CosmosServer) -> str:
    """A database that is not there yet."""
    return server.url(f"init{next(_numbers)}", retry_for=2)


@pytest.fixture
async def cosmos(url: str) -> AsyncIterator[Cosmos]:
    client = Cosmos(CosmosOptions.from_url(LoomURL.parse(url)))
    await client.start()
    yield client
    await client.close()


def loom(*arguments: str, code: int = 0, **environment: str) -> str:
    found = CliRunner().invoke(build(), ["cosmos", *arguments], env=environment)
    assert found.exit_code == code, found.output
    return found.output


async def test_hosts_that_start_at_once_make_it_together(url: str) -> None:
    """Each finds nothing, and all but one find at the next moment that another has made it."""
    clients = [Cosmos(CosmosOptions.from_url(LoomURL.parse(url))) for _ in range(8)]
    await asyncio.gather(*(client.start() for client in clients))
    await asyncio.gather(*(client.use(JOURNAL) for client in clients))
    stated = await stated_schema(clients[0], JOURNAL)
    await asyncio.gather(*(client.close() for client in clients))
    assert stated is not None
    assert stated.version == SCHEMA_VERSION


def test_init_shows_then_makes_and_then_finds_nothing_to_do(url: str) -> None:
    shown = loom("init", url, "--dry-run").splitlines()
    assert [line for line in shown if line.startswith("would ")] == [
        f"would create the database {LoomURL.parse(url).path.strip('/')!r}",
        "would create the container 'documents', partitioned by /pk",
        "would create the container 'journal', partitioned by /pk",
        "would create the container 'locks', partitioned by /pk",
    ]
    assert sum("az cosmosdb sql" in line for line in shown) == 4
    assert loom("init", url, "--dry-run").splitlines() == shown, "nothing was made"
    assert loom("init", url).count("done: ") == 4
    assert loom("init", url).strip() == f"{LoomURL.parse(url)} is set up"
    found = json.loads(loom("init", "--json", LOOM_URL="sqlite:///loom.db", LOOM_JOURNAL_URL=url))
    assert found == {"url": str(LoomURL.parse(url)), "dry_run": False, "steps": []}


def test_init_asks_for_a_database_where_none_is_named() -> None:
    assert "LOOM_JOURNAL_URL" in loom("init", code=2, LOOM_URL="sqlite:///loom.db", LOOM_JOURNAL_URL="")


def test_who_may_not_gets_the_commands(url: str, server: CosmosServer) -> None:
    server.control(denied="POST")
    said = loom("init", url, code=1)
    assert "az cosmosdb sql database create --account-name" in said
    server.control()


def test_the_command_is_listed_and_loads_no_driver() -> None:
    program = (
        "import sys\nfrom loom.cli.tree import build\n"
        "try: build()(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'azure', 'aiohttp', 'loom_cosmos.client'} & set(sys.modules), 'the driver was imported'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Look after databases in Azure Cosmos DB" in done.stdout


async def test_a_newer_layout_is_refused_by_hosts_and_by_init(url: str, cosmos: Cosmos) -> None:
    await cosmos.use(JOURNAL)
    stated = await stated_schema(cosmos, JOURNAL)
    assert stated is not None
    assert stated.version == SCHEMA_VERSION
    assert await state_schema(cosmos, JOURNAL, SCHEMA_VERSION + 1, stated)
    assert not await state_schema(cosmos, JOURNAL, SCHEMA_VERSION, stated), "it has another ETag now"
    for create in (True, False):
        store = CosmosJournalStore.from_url(LoomURL.parse(url), AdapterContext(create=create))
        with pytest.raises(ConfigurationError, match="version 2, and this loom-cosmos knows version 1; upgrade"):
            await store.start()
        await store.close()
    with pytest.raises(ConfigurationError, match="upgrade loom-cosmos"):
        await plan(cosmos, migrate=True)


async def test_a_container_that_states_nothing_is_of_the_first_version(url: str, cosmos: Cosmos) -> None:
    """``az`` has made it: it is stated by the first host that may write."""
    await cosmos.make_database()
    assert cosmos._database is not None
    await cosmos._database.create_container(JOURNAL.name, PartitionKey(path="/pk"), indexing_policy=JOURNAL.policy)
    async with CosmosJournalStore.from_url(LoomURL.parse(url), AdapterContext(create=False)):
        assert await stated_schema(cosmos, JOURNAL) is None
    [step] = await plan(cosmos, containers=[JOURNAL])
    assert step.what == "state version 1 in the container 'journal'"
    async with CosmosJournalStore.from_url(LoomURL.parse(url), AdapterContext()) as store:
        assert await plan(cosmos, containers=[JOURNAL]) == []
        await step.run()  # what was planned before somebody else did it
        assert await store.streams() == [], "the document is no stream"


async def test_migrations_need_a_word_and_run_in_order_and_once(cosmos: Cosmos) -> None:
    """Two made-up ones, as there is none yet; two operators at once."""
    await cosmos.use(JOURNAL)
    done: list[int] = []

    def migration(old: int) -> Any:
        async def run(_: Cosmos, spec: Any) -> None:
            done.append(old)
            await asyncio.sleep(0)

        return run

    wanted: dict[str, Any] = {"version": 3, "containers": [JOURNAL], "migrations": {n: migration(n) for n in (1, 2)}}
    with pytest.raises(ConfigurationError, match="version 1"):
        await plan(cosmos, **wanted)
    ours, theirs = await plan(cosmos, migrate=True, **wanted), await plan(cosmos, migrate=True, **wanted)
    assert [step.what.partition("from")[2] for step in ours] == [" version 1 to 2", " version 2 to 3"]
    for mine, other in zip(ours, theirs, strict=True):
        await mine.run()
        await other.run()
    assert done == [1, 2], "what another has done is not done again"
    stated = await stated_schema(cosmos, JOURNAL)
    assert stated is not None
    assert stated.version == 3
    assert await plan(cosmos, migrate=True, **wanted) == []


async def test_a_migration_that_breaks_off_begins_again(cosmos: Cosmos) -> None:
    await cosmos.use(JOURNAL)
    attempts: list[int] = []

    async def fragile(_: Cosmos, spec: Any) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise StoreUnavailableError("the account went away")

    wanted: dict[str, Any] = {"version": 2, "containers": [JOURNAL], "migrations": {1: fragile}, "migrate": True}
    [step] = await plan(cosmos, **wanted)
    with pytest.raises(StoreUnavailableError):
        await step.run()
    [step] = await plan(cosmos, **wanted)
    await step.run()
    assert await plan(cosmos, **wanted) == []


async def test_another_partition_key_is_named(url: str, cosmos: Cosmos) -> None:
    await cosmos.make_database()
    assert cosmos._database is not None
    await cosmos._database.create_container(JOURNAL.name, PartitionKey(path="/tenant"))
    store = CosmosJournalStore.from_url(LoomURL.parse(url), AdapterContext())
    for call in (store.start, lambda: plan(cosmos)):
        with pytest.raises(ConfigurationError, match=r"partitioned by /tenant, and Loom needs /pk.* container delete"):
            await call()


async def test_a_version_that_says_nothing_is_not_guessed(cosmos: Cosmos) -> None:
    await cosmos.use(JOURNAL)
    place = "loom-schema"
    await cosmos.write(JOURNAL, place, [upsert({"id": place, "pk": place, "version": None})])
    with pytest.raises(ConfigurationError, match="states no version"):
        await stated_schema(cosmos, JOURNAL)
