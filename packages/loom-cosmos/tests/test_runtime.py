"""An application over Cosmos: what its turns cost on the wire, and that they are there afterwards."""

from __future__ import annotations

from pathlib import Path

import msgspec

from loom import Actor, Loom
from loom.plugins import AdapterContext, LoomURL
from loom_cosmos.documents import CosmosDocumentStore
from loom_cosmos.journal import CosmosJournalStore


class State(msgspec.Struct):
    balance: int = 0


class Account(Actor[State]):
    async def deposit(self, amount: int) -> int:
        self.state.balance += amount
        return self.state.balance


def over(url: str, tmp_path: Path) -> tuple[Loom, CosmosJournalStore]:
    context, parsed = AdapterContext(), LoomURL.parse(url)
    journal = CosmosJournalStore.from_url(parsed, context)
    documents = CosmosDocumentStore.from_url(parsed, context)
    adapters = {"journal": journal, "documents": documents}
    return Loom(actors=[Account], adapters=adapters, url=f"sqlite:///{tmp_path}/rest.db", env="test"), journal


async def test_a_simple_turn_is_one_request_and_is_there_afterwards(cosmos_url: str, tmp_path: Path) -> None:
    app, journal = over(cosmos_url, tmp_path)
    async with app:
        assert await app.actor(Account, "alice").deposit(1) == 1
        before = {name: spent.requests for name, spent in journal._cosmos.usage.spent.items()}
        for n in range(20):
            assert await app.actor(Account, "alice").deposit(1) == n + 2
        after = {name: spent.requests for name, spent in journal._cosmos.usage.spent.items()}
        assert after["batch"] - before["batch"] == 20
        assert after["read"] == before["read"]
    app, journal = over(cosmos_url, tmp_path)
    async with app:
        assert await app.actor(Account, "alice").deposit(0) == 21
        assert await journal.streams("actor/")
