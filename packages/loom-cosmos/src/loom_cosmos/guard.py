"""The guard's rules about the live account: what its settings take from what the adapters declare."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from loom.guard import DURABLE_PORTS, Finding, GuardConfig, GuardRule, PortConfig, Severity
from loom.plugins import PORTS

if TYPE_CHECKING:
    from .client import Cosmos
    from .facts import AccountFacts

__all__ = ["cosmos_rules"]


class CosmosRule(GuardRule):
    """A rule about the account under each durable port that rests on Cosmos. Looks only at what was opened."""

    async def check(self, config: GuardConfig) -> Iterable[Finding]:
        findings: list[Finding] = []
        known: dict[str, AccountFacts] = {}
        told: set[tuple[str, str]] = set()
        for name in (port for port in PORTS if port in DURABLE_PORTS):
            port, cosmos = config.ports.get(name), cosmos_of(config.adapters.get(name))
            if port is None or cosmos is None:
                continue
            endpoint = cosmos.options.endpoint
            if endpoint not in known:
                from .facts import account_facts  # only now: who has no Cosmos needs no driver

                known[endpoint] = await account_facts(cosmos)
            for finding in self.judge(port, cosmos, known[endpoint]):
                # One account serves many ports; a refusal is told of each, a warning of the first.
                mark = (endpoint, name if finding.severity == "refuse" else "")
                if mark not in told:
                    told.add(mark)
                    findings.append(finding)
        return findings

    @abstractmethod
    def judge(self, port: PortConfig, cosmos: Cosmos, account: AccountFacts) -> Iterator[Finding]:
        """What speaks against this account under this port."""

    def _finding(self, port: PortConfig, cosmos: Cosmos, severity: Severity, reason: str) -> Finding:
        remedy = self.remedy.replace("ACCOUNT", cosmos.options.account)
        return self.finding(port.port, severity, f"{port.shown}: {reason}", remedy=remedy)


class MultiWriteRule(CosmosRule):
    """Whether two regions may both accept the same turn."""

    code = "cosmos-multi-write"
    severity = "refuse"
    summary = "several regions take writes: two hosts may each commit a turn, and one is dropped when the regions meet"
    remedy = "az cosmosdb update --name ACCOUNT --resource-group GROUP --enable-multiple-write-locations false"

    def judge(self, port: PortConfig, cosmos: Cosmos, account: AccountFacts) -> Iterator[Finding]:
        if account.multi_write:
            regions = ", ".join(account.writable)
            yield self._finding(
                port, cosmos, "refuse", f"{regions} take writes at once, so compare-and-set decides nothing"
            )


class ConsistencyRule(CosmosRule):
    """Whether a host sees what it has written."""

    code = "cosmos-consistency"
    severity = "refuse (weaker than session) or warn (session)"
    summary = "the account's consistency lets reads lag behind acknowledged writes"
    remedy = "az cosmosdb update --name ACCOUNT --resource-group GROUP --default-consistency-level Strong"

    def judge(self, port: PortConfig, cosmos: Cosmos, account: AccountFacts) -> Iterator[Finding]:
        from .facts import PROMISES

        promise = PROMISES.get(account.consistency, "")
        if account.consistency in ("ConsistentPrefix", "Eventual"):
            yield self._finding(port, cosmos, "refuse", f"consistency {account.consistency}: {promise}")
        elif account.consistency == "Session":
            reason = f"consistency Session: {promise}; read-only calls may be answered late after an actor has moved"
            yield self._finding(port, cosmos, "warn", reason)
        elif account.consistency == "BoundedStaleness" and len(account.readable) > 1:
            yield self._finding(port, cosmos, "warn", f"consistency BoundedStaleness: {promise}")


class KeyRule(CosmosRule):
    """Whether whoever reads the configuration may do anything with the account."""

    code = "cosmos-key"
    severity = "warn"
    summary = "an account key is used: it lets its holder do everything, and does not end"
    remedy = (
        "leave the key out and give the host's identity the data role: az cosmosdb sql role assignment create "
        "--account-name ACCOUNT --resource-group GROUP --scope / --principal-id ID "
        "--role-definition-name 'Cosmos DB Built-in Data Contributor'"
    )

    def judge(self, port: PortConfig, cosmos: Cosmos, account: AccountFacts) -> Iterator[Finding]:
        if cosmos.options.key:
            yield self._finding(port, cosmos, "warn", "it signs in by an account key")


def cosmos_of(adapter: Any) -> Cosmos | None:
    """The client under an adapter of this package, or under the documents that it is made over."""
    for holder in (adapter, getattr(adapter, "_documents", None)):
        found = getattr(holder, "_cosmos", None)
        if found is not None:
            from .client import Cosmos  # only now: who has no Cosmos needs no driver

            if isinstance(found, Cosmos):
                return found
    return None


def cosmos_rules() -> list[GuardRule]:
    """All rules, in the order in which they are told."""
    return [MultiWriteRule(), ConsistencyRule(), KeyRule()]
