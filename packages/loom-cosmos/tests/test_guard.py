"""The guard's rules over accounts with the settings that they are about; and the facts for the doctor."""

from __future__ import annotations

import pytest

from loom.guard import Finding, GuardConfig, PortConfig
from loom.plugins import AdapterContext, LoomURL
from loom_cosmos.guard import cosmos_rules
from loom_cosmos.journal import CosmosJournalStore
from loom_cosmos.state import CosmosStateStore
from loom_cosmos.testing import CosmosServer

REGIONS = [
    {"name": "West Europe", "databaseAccountEndpoint": ""},
    {"name": "North Europe", "databaseAccountEndpoint": ""},
]


async def _findings(server: CosmosServer) -> dict[str, Finding]:
    url = LoomURL.parse(server.url("guard"))
    async with CosmosJournalStore.from_url(url, AdapterContext()) as journal:
        config = GuardConfig(
            ports={"journal": PortConfig(port="journal", source="LOOM_URL", url=url)}, adapters={"journal": journal}
        )
        found = [finding for rule in cosmos_rules() for finding in await rule.check(config)]
    return {finding.code: finding for finding in found}


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        ("Strong", ""),
        ("BoundedStaleness", ""),
        ("Session", "warn"),
        ("ConsistentPrefix", "refuse"),
        ("Eventual", "refuse"),
    ],
)
async def test_consistency(server: CosmosServer, level: str, severity: str) -> None:
    server.control(account={"userConsistencyPolicy": {"defaultConsistencyLevel": level}})
    finding = (await _findings(server)).get("cosmos-consistency")
    assert (finding.severity if finding else "") == severity
    if finding:
        assert level in finding.reason


async def test_several_regions_that_take_writes(server: CosmosServer) -> None:
    assert "cosmos-multi-write" not in await _findings(server)
    server.control(account={"writableLocations": REGIONS, "enableMultipleWriteLocations": True})
    finding = (await _findings(server))["cosmos-multi-write"]
    assert finding.severity == "refuse"
    assert "West Europe, North Europe" in finding.reason
    assert "--enable-multiple-write-locations false" in finding.remedy


async def test_a_key_is_warned_of_and_not_shown(server: CosmosServer) -> None:
    finding = (await _findings(server))["cosmos-key"]
    assert finding.severity == "warn"
    assert "role assignment" in finding.remedy


async def test_nothing_opened_and_nothing_of_ours_is_no_finding() -> None:
    url = LoomURL.parse("cosmos://account.documents.azure.com/loom")
    config = GuardConfig(ports={"journal": PortConfig(port="journal", source="LOOM_URL", url=url)})
    assert [finding for rule in cosmos_rules() for finding in await rule.check(config)] == []


async def test_facts_tell_account_consistency_and_what_was_spent(server: CosmosServer) -> None:
    async with CosmosStateStore.from_url(LoomURL.parse(server.url("guard")), AdapterContext()) as state:
        await state.load("Account", "alice")
        facts = await state.facts()
    assert "guard" in facts["account"]
    assert facts["consistency"].startswith("Session: a host sees its own writes")
    assert "read: 1 requests" in facts["spent"] or "RU" in facts["spent"]
    assert "ms" in facts["round trip"]
