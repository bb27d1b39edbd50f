"""Each rule: what it refuses, what it warns of, and what it lets pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest

from loom.adapters.derived.state import DocumentStateStore
from loom.adapters.filesystem.blobs import FileBlobStore
from loom.adapters.memory.coordination import InMemoryCoordinationAdapter
from loom.adapters.memory.documents import InMemoryCosmos
from loom.adapters.memory.journal import InMemoryJournalStore
from loom.adapters.sqlite.database import Database
from loom.adapters.sqlite.documents import SqliteDocumentStore
from loom.adapters.sqlite.journal import SqliteJournalStore
from loom.guard import DURABLE_PORTS, ConfigRule, Finding, GuardConfig, validate_production_config
from loom.guard.sharing import ClockSkewRule
from loom.plugins import AdapterSpec, Durability, Feature, Reach, hookimpl
from loom.plugins.spec import UNBACKED_PORTS
from loom.ports import JournalStore, Member
from loom.testing.clock import ManualClock

Configure = Callable[..., GuardConfig]


class Plugin:
    """A plugin with the given specs."""

    def __init__(self, *specs: AdapterSpec) -> None:
        self.specs = specs

    @hookimpl
    def loom_register_adapters(self) -> Iterable[AdapterSpec]:
        return self.specs


def journal_spec(**facts: object) -> AdapterSpec:
    given = {"durability": Durability.REPLICATED, "reach": Reach.NETWORK, **facts}
    return AdapterSpec(port="journal", scheme="far", target="far.away:Journal", **given)  # type: ignore[arg-type]


def found(config: GuardConfig) -> list[tuple[str, str, str | None]]:
    return [(finding.code, finding.severity, finding.port) for finding in validate_production_config(config)]


def of_code(config: GuardConfig, code: str) -> list[Finding]:
    return [finding for finding in validate_production_config(config) if finding.code == code]


def test_sqlite_on_a_local_disk_has_no_findings(configure: Configure) -> None:
    assert found(configure()) == []


def test_memory_is_refused_on_every_durable_port_at_once_with_what_would_do(configure: Configure) -> None:
    findings = of_code(configure("memory://"), "ephemeral")
    assert {finding.port for finding in findings} == DURABLE_PORTS
    assert all(finding.severity == "refuse" for finding in findings)
    [journal] = [finding for finding in findings if finding.port == "journal"]
    assert "LOOM_JOURNAL_URL" in journal.remedy
    assert "installed: sqlite://" in journal.remedy
    assert "redis:// (pip install loom-redis)" in journal.remedy
    assert "cosmos:// (pip install loom-cosmos)" in journal.remedy


def test_among_several_hosts_only_what_the_network_reaches_would_do(configure: Configure) -> None:
    [finding] = [f for f in of_code(configure("memory://", hosts=2), "ephemeral") if f.port == "journal"]
    assert "sqlite" not in finding.remedy


def test_an_instance_counts_as_much_as_a_url(configure: Configure) -> None:
    config = configure(instances={"journal": InMemoryJournalStore()})
    assert ("ephemeral", "refuse", "journal") in found(config)
    [finding] = of_code(config, "ephemeral")
    assert "InMemoryJournalStore (argument journal)" in finding.reason


def test_a_subclass_of_a_known_adapter_is_what_its_base_is(configure: Configure) -> None:
    class Mine(InMemoryJournalStore):
        pass

    assert ("ephemeral", "refuse", "journal") in found(configure(instances={"journal": Mine()}))


def test_an_adapter_over_documents_is_what_they_are(configure: Configure, tmp_path: Path) -> None:
    over_memory = DocumentStateStore(InMemoryCosmos())
    assert ("ephemeral", "refuse", "state") in found(configure(instances={"state": over_memory}))
    over_sqlite = DocumentStateStore(SqliteDocumentStore(Database(tmp_path / "x.db")))
    assert found(configure(instances={"state": over_sqlite})) == []


def test_an_instance_that_declares_nothing_is_refused_and_one_that_does_is_believed(configure: Configure) -> None:
    class Unknown(JournalStore):
        append_many = heads = read = read_snapshot = write_snapshot = trim = streams = None  # type: ignore[assignment]

    class Declared(Unknown):
        adapter_spec = journal_spec()

    assert found(configure(instances={"journal": Unknown()})) == [("undeclared", "refuse", "journal")]
    assert found(configure(instances={"journal": Declared()})) == []


def test_data_that_outlives_only_the_process_is_a_warning(configure: Configure) -> None:
    config = configure(urls={"journal": "far://"}, plugins=(Plugin(journal_spec(durability=Durability.PROCESS)),))
    assert found(config) == [("process-durability", "warn", "journal")]


def test_mixing_what_forgets_with_what_remembers_warns_everywhere(configure: Configure) -> None:
    [finding] = of_code(configure(urls={"queue": "memory://"}), "mixed-durability")
    assert finding.everywhere
    assert "queue forget" in finding.reason
    assert not of_code(configure("memory://"), "mixed-durability")


def test_test_only_is_refused_absolutely(configure: Configure) -> None:
    spec = journal_spec(features=frozenset({Feature.TEST_ONLY}))
    [finding] = of_code(configure(urls={"journal": "far://"}, plugins=(Plugin(spec),)), "test-only")
    assert (finding.severity, finding.absolute) == ("refuse", True)


def test_an_armed_crash_point_is_refused_absolutely(configure: Configure) -> None:
    [finding] = of_code(configure(environ={"LOOM_CRASH_AT": "append.before"}), "crash-point")
    assert (finding.severity, finding.absolute) == ("refuse", True)


def test_what_one_host_sees_is_refused_when_there_are_several(configure: Configure) -> None:
    assert {finding.port for finding in of_code(configure(hosts=2), "reach")} == set(configure().ports) - UNBACKED_PORTS
    assert not of_code(configure(hosts=1), "reach")
    config = configure(urls={"journal": "far://"}, plugins=(Plugin(journal_spec()),), hosts=3)
    assert "journal" not in {finding.port for finding in of_code(config, "reach")}


def test_what_others_rely_on_is_absolute(configure: Configure) -> None:
    findings = of_code(configure(hosts=2), "reach")
    assert {finding.port for finding in findings if finding.absolute} == {"journal", "queue"}


def test_a_port_that_nobody_serves_is_refused_where_hosts_need_it(configure: Configure) -> None:
    config = configure(urls={"journal": "redis://localhost", "blobs": "azblob://localhost"})
    assert found(config) == [("unserved", "refuse", "journal")]
    assert "pip install loom-redis" in validate_production_config(config)[0].reason


def test_two_plugins_on_one_scheme_are_told_not_raised(configure: Configure) -> None:
    config = configure(plugins=(Plugin(AdapterSpec(port="journal", scheme="sqlite", target="a.b:C",
                                                   durability=Durability.NONE, reach=Reach.PROCESS)),))  # fmt: skip
    [finding] = validate_production_config(config)
    assert (finding.code, finding.port) == ("unserved", "journal")
    assert "loom-p0" in finding.reason


@pytest.mark.parametrize("filesystem", ["tmpfs", "ramfs", "overlay", "nfs", "nfs4", "cifs", "fuse.s3fs"])
def test_sqlite_on_a_file_system_that_does_not_keep_it_is_refused(configure: Configure, filesystem: str) -> None:
    config = configure("sqlite:////data/loom.db", mounts=f"/dev/a / ext4 rw 0 0\nx /data {filesystem} rw 0 0\n")
    findings = of_code(config, "file-system")
    assert findings[0].port == "journal"
    assert findings[0].severity == "refuse"
    assert f"/data/loom.db (argument url) lies on {filesystem}" in findings[0].reason
    assert all(finding.lowers == (Durability.PROCESS if filesystem in ("tmpfs", "ramfs", "overlay") else None)
               for finding in findings)  # fmt: skip


def test_blobs_on_a_network_file_system_only_warn(configure: Configure) -> None:
    config = configure(urls={"blobs": "file:///data/blobs"}, mounts="/dev/a / ext4 rw 0 0\nx /data nfs rw 0 0\n")
    assert found(config) == [("file-system", "warn", "blobs")]
    instance = configure(instances={"blobs": FileBlobStore("/data/b")}, mounts="a / ext4 rw\nx /data tmpfs rw 0 0\n")
    assert found(instance) == [("file-system", "refuse", "blobs")]


def test_files_are_looked_for_through_instances_too(configure: Configure) -> None:
    journal = SqliteJournalStore(Database("/data/j.db", synchronous="OFF"))
    config = configure(instances={"journal": journal}, mounts="/dev/a / ext4 rw 0 0\nx /data tmpfs rw 0 0\n")
    assert found(config) == [("file-system", "refuse", "journal"), ("sqlite-synchronous", "refuse", "journal")]


def test_without_a_list_of_mounts_nothing_is_said(configure: Configure) -> None:
    assert found(configure(mounts=None)) == []


@pytest.mark.parametrize(("mode", "severity"), [("OFF", "refuse"), ("off", "refuse"), ("NORMAL", "warn")])
def test_sqlite_that_does_not_wait_for_the_disk(configure: Configure, mode: str, severity: str) -> None:
    config = configure(f"sqlite:///loom.db?synchronous={mode}")
    assert found(config) == [("sqlite-synchronous", severity, "journal")]
    assert validate_production_config(config)[0].lowers == Durability.PROCESS
    assert found(configure("sqlite:///loom.db?synchronous=EXTRA")) == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://far.example/", True),
        ("redis://:hunter2@far.example", True),
        ("far://x?endpoint=http://far.example", True),
        ("redis://localhost", False),
        ("rediss://far.example", False),
        ("redis+cluster://far.example?tls=true", False),
        ("https://far.example/", False),
    ],
)
def test_plain_text_that_leaves_the_machine_warns(configure: Configure, url: str, told: bool) -> None:
    findings = of_code(configure(urls={"journal": url}), "clear-text")
    assert bool(findings) == told
    assert "hunter2" not in repr(findings)


def test_one_url_for_many_ports_is_told_once(configure: Configure) -> None:
    assert len(of_code(configure("redis://far.example"), "clear-text")) == 1


def test_experimental_adapters_warn(configure: Configure) -> None:
    config = configure(urls={"journal": "far://"}, plugins=(Plugin(journal_spec(maturity="experimental")),))
    assert found(config) == [("experimental", "warn", "journal")]


def test_a_rule_that_raises_is_a_finding_without_what_it_said(configure: Configure) -> None:
    class Broken(ConfigRule):
        code = "broken"

        def inspect(self, config: GuardConfig) -> Iterable[Finding]:
            raise RuntimeError("redis://:hunter2@host")

    [finding] = validate_production_config(configure(), [Broken()])
    assert (finding.code, finding.severity) == ("rule-failed", "warn")
    assert "hunter2" not in str(finding)


async def test_a_host_whose_clock_is_ahead_warns(configure: Configure) -> None:
    clock = ManualClock()
    coordination = InMemoryCoordinationAdapter(clock=clock)
    await coordination.start()
    await coordination.join(Member(id="other"))
    rule = ClockSkewRule(lambda: clock.now() - 3.0)
    config = msgspec.structs.replace(configure("memory://"), adapters={"coordination": coordination})
    [finding] = await rule.check(config)
    assert (finding.code, finding.severity, finding.port) == ("clock-skew", "warn", "coordination")
    assert "the clock of other is at least 3.0 s ahead of this host's" in finding.reason
    assert not list(await ClockSkewRule(clock.now).check(config))
    assert not list(await rule.check(configure("memory://")))
