"""The configurations that production uses: their adapters together, and fleets on them whose hosts die."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from support.configurations import CONFIGURATIONS, FILES, ordered
from support.fleet import hosts
from support.load import Load, carry_out_plan
from support.places import UrlPlace
from support.process import eventually

from loom.guard import DURABLE_PORTS, guard_config, validate_production_config
from loom.plugins import AdapterContext, AdapterRegistry, PortName
from loom.ports import (
    Append,
    BlobStore,
    Collection,
    DocumentStore,
    IdempotencyStore,
    JournalStore,
    LockManager,
    MessageQueue,
    OutgoingMessage,
    SecretsStore,
    SecretValue,
    StateRecord,
    StateStore,
)
from loom.sealing import KEYS, new_key
from loom.settings import load_settings

every_configuration = pytest.mark.parametrize("configuration", CONFIGURATIONS, indirect=True)


@pytest.mark.crash
@every_configuration
async def test_a_fleet_of_which_one_host_dies_and_one_leaves(configuration: UrlPlace) -> None:
    """Calls, messages, steps, reminders, runs with children and signals; every one happens once, and what is stored
    says so.
    """
    place = configuration
    async with (
        hosts(place, 3) as (_, two, three),
        Load(place, callers=2, accounts=6, careful=True, ordered=ordered(place)) as load,
    ):
        planned = asyncio.ensure_future(carry_out_plan(place))
        await load.more(60)
        await two.kill()
        await load.more(2, load.accounts)
        await three.stop()
        await load.more(2, load.accounts)
        await planned
        await load.finish()
    (await place.journal()).settled()
    print(f"\n{load.count} calls, {len(load.errors)} repeated, the slowest took {load.slowest:.2f} s")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_guard_refuses_nothing_of_a_configuration(name: str) -> None:
    """The file as it is shown, with all packages installed, shared by three machines where it is not SQLite."""
    settings = load_settings(toml_path=FILES / f"{name}.toml", environ={})
    config = guard_config(settings, AdapterRegistry(), hosts=1 if name == "sqlite" else 3, environ={})
    assert [f"{one.code}: {one.reason}" for one in validate_production_config(config) if one.severity == "refuse"] == []
    assert all(config.ports[port].spec is not None for port in DURABLE_PORTS), "every durable port is served"


@every_configuration
async def test_the_adapters_do_one_job_together_and_once(
    configuration: UrlPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers take jobs from the queue, each job by all ports (see ``Worker``); one job comes a second time."""
    monkeypatch.setenv(KEYS, new_key("of-the-test"))  # seals where there is no vault
    key = SecretValue("the key of reports")
    jobs = [f"job-{n}" for n in range(4)]
    async with AsyncExitStack() as stack:
        workers = [await Worker.open(configuration, stack) for _ in range(2)]
        one, two = workers
        await two.secrets.set("report-key", key)
        await one.queue.send_many([OutgoingMessage(queue="jobs", id=job, body=job.encode()) for job in jobs])
        work = await asyncio.gather(*(worker.work_until(jobs) for worker in workers))
        assert sorted(job for done in work for job in done) == jobs, "each is done by one of them"
        assert await two.queue.send(OutgoingMessage(queue="jobs", id="repeated", body=b"job-0"))
        assert await two.next_job() == ["job-0"]
        for job in jobs:
            document = await one.documents.get("reports", "all", job)
            info = await two.blobs.info(f"reports/{job}")
            assert document is not None
            assert info is not None
            signature = signature_of(report_of(job), key)
            told = {"etag": info.etag, "size": len(report_of(job)), "signature": signature}
            assert document.body == told, "the report of the one time"
            assert await two.blobs.get(f"reports/{job}") == report_of(job)
        entries = await one.journal.read("reports")
        assert sorted(entry.data.decode() for entry in entries) == jobs
        fences = [entry.fence for entry in entries]
        assert fences == sorted(set(fences)), "each job had the lock anew, and nobody wrote with an older fence"
        found = await two.state.load("Report", "all")
        assert found is not None
        assert (found.seq, found.state) == (4, {"last": entries[-1].data.decode()})


class Worker:
    """Does jobs as an application does that uses the ports themselves: queue, idempotency key, secret, blob, document,
    lock, journal, state; and acks last.
    """

    def __init__(self, ports: Mapping[PortName, Any]) -> None:
        self.queue: MessageQueue = ports["queue"]
        self.journal: JournalStore = ports["journal"]
        self.locks: LockManager = ports["locks"]
        self.documents: DocumentStore = ports["documents"]
        self.blobs: BlobStore = ports["blobs"]
        self.state: StateStore = ports["state"]
        self.idempotency: IdempotencyStore = ports["idempotency"]
        self.secrets: SecretsStore = ports["secrets"]

    @classmethod
    async def open(cls, place: UrlPlace, stack: AsyncExitStack) -> Worker:
        settings, context = load_settings(toml_path=place.toml, environ={}), AdapterContext()
        ports: dict[PortName, Any] = {}
        for port in ("queue", "journal", "locks", "documents", "blobs", "state", "idempotency", "secrets"):
            opened = AdapterRegistry().open(port, settings.url_for(port)[0], context)
            ports[port] = await stack.enter_async_context(opened)
        await ports["documents"].ensure([Collection("reports")])
        return cls(ports)

    async def work_until(self, jobs: list[str]) -> list[str]:
        """Take jobs until the journal has all of them; those that this worker did."""
        done: list[str] = []

        async def missing() -> list[str]:
            done.extend(await self.next_job())
            found = {entry.data.decode() for entry in await self.journal.read("reports")}
            return [job for job in jobs if job not in found]

        await eventually(missing, "all jobs are done")
        return done

    async def next_job(self) -> list[str]:
        """One job, if there is one."""
        for delivery in await self.queue.receive(["jobs"], limit=1, lease=60.0, wait=0.2):
            await self.queue.begin([delivery])
            job = delivery.body.decode()
            record = await self.idempotency.begin(job)
            if not record.completed:
                await self._do(job)
                await self.idempotency.complete(record, b"done")
            assert await self.queue.ack([delivery]) == [True]
            return [job]
        return []

    async def _do(self, job: str) -> None:
        report = report_of(job)

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(report), 100_000):
                yield report[start : start + 100_000]

        info = await self.blobs.put(f"reports/{job}", chunks(), create_only=True)
        signature = signature_of(report, (await self.secrets.get("report-key")).value)
        body = {"etag": info.etag, "size": info.size, "signature": signature}
        await self.documents.put("reports", "all", job, body, create_only=True)
        lease = await self.locks.acquire("reports", 60.0, wait=60.0)
        assert lease is not None
        head = await self.journal.head("reports")
        await self.journal.append(
            Append("reports", head.seq, head.entry_id, f"entry-{job}", job.encode(), fence=lease.token)
        )
        await self.state.save(StateRecord("Report", "all", {"last": job}, head.seq + 1, 0.0))
        assert await self.locks.release(lease)


def signature_of(report: bytes, key: SecretValue) -> str:
    return hmac.new(key.reveal().encode(), report, "sha256").hexdigest()


def report_of(job: str) -> bytes:
    """Longer than what a store takes in one piece."""
    return f"{job} ".encode() * 200_000
