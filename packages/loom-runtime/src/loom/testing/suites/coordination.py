"""What every CoordinationAdapter must do: members, shards, leaders, and what happens when a member dies."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest

from ...errors import InvalidKeyError, NotAMemberError
from ...plugins.spec import Durability, Feature, Reach
from ...ports.coordination import CoordinationAdapter, Member, ShardLease
from .base import Harness, Suite, eventually, scenario
from .child import report, run_child
from .coordination_types import TypesApartSuite
from .keys import BAD_KEYS, HOSTILE_KEYS

__all__ = ["CoordinationSuite"]

H = Harness[CoordinationAdapter]


async def join_and_wait(store: CoordinationAdapter, name: str, first: str) -> None:
    """Child: join, claim 16 shards and lead, report it, and stay alive until killed."""
    await store.join(Member(id=name))
    owned = await store.claim(name, range(int(first), int(first) + 16))
    report([[lease.shard, lease.epoch] for lease in owned] + [await store.lead(f"role-{name}", name)])
    while True:
        await store.heartbeat(name)
        await asyncio.sleep(0.05)


async def claim_and_report(store: CoordinationAdapter, name: str) -> None:
    """Child: claim all shards against others and report those won; go on until the parent ends the input."""
    await store.join(Member(id=name))
    report([[lease.shard, lease.epoch] for lease in await store.claim(name, range(256))])
    while True:
        await store.heartbeat(name)
        await asyncio.sleep(0.05)


async def die(h: H, *dead: CoordinationAdapter, survivors: dict[str, CoordinationAdapter]) -> None:
    """Let the members of ``dead`` die, as a process dies: their clients end, and their time passes."""
    ttl = h.adapter.member_ttl
    for client in dead:
        await client.close()
    for _ in range(4):
        await h.pass_time(ttl / 3)
        for member_id, client in survivors.items():
            await client.heartbeat(member_id)


class _Members(Suite[CoordinationAdapter]):
    @scenario()
    async def test_the_number_of_shards_is_set_once(self, h: H) -> None:
        other = await h.second()
        assert await other.shard_count(0) == 0, "asking stores nothing"
        counts = await asyncio.gather(*((h.adapter, other)[n % 2].shard_count(64 + n) for n in range(6)))
        assert await other.shard_count(0) == counts[0]
        assert len(set(counts)) == 1
        assert counts[0] in range(64, 70)
        assert await other.shard_count(7) == counts[0]
        with pytest.raises(ValueError, match=r"."):
            await h.adapter.shard_count(-1)

    @scenario()
    async def test_joining_changing_and_leaving(self, h: H) -> None:
        other = await h.second()
        assert await h.adapter.members() == []
        a = Member(id="a", serves=("Account", "transfer"), host="h1", pid=7, version="1.2", started_at=5.25)
        b = Member(id="b")
        await other.join(b)
        await h.adapter.join(a)
        assert await h.adapter.members() == await other.members() == [a, b]
        draining = msgspec.structs.replace(a, draining=True, serves=())
        await h.adapter.join(draining)
        assert await other.members() == [draining, b]
        await h.adapter.heartbeat("a")
        await h.adapter.leave("a")
        await h.adapter.leave("a")
        await h.adapter.leave("never")
        assert await other.members() == [b]
        with pytest.raises(NotAMemberError):
            await h.adapter.heartbeat("a")
        await h.adapter.join(a)
        assert await other.members() == [a, b]

    @scenario()
    async def test_hostile_ids_are_kept_apart_and_bad_ones_refused(self, h: H) -> None:
        for n, key in enumerate(HOSTILE_KEYS):
            await h.adapter.join(Member(id=key, pid=n))
            assert len(await h.adapter.claim(key, [n])) == 1
        assert [member.id for member in await h.adapter.members()] == sorted(HOSTILE_KEYS)
        for n, key in enumerate(HOSTILE_KEYS):
            assert await h.adapter.lead(key, key) is True
            assert (await h.adapter.owners())[n].owner == key
            await h.adapter.heartbeat(key)
        for key in BAD_KEYS:
            with pytest.raises(InvalidKeyError):
                await h.adapter.join(Member(id=key))
            with pytest.raises(InvalidKeyError):
                await h.adapter.lead(key, "a")

    @scenario()
    async def test_who_is_no_member_owns_and_leads_nothing(self, h: H) -> None:
        await h.adapter.join(Member(id="a"))
        for call in (h.adapter.heartbeat("x"), h.adapter.claim("x", [1]), h.adapter.lead("role", "x")):
            with pytest.raises(NotAMemberError):
                await call
        await h.adapter.release("x", [1])
        assert await h.adapter.owners() == {}


class _Shards(Suite[CoordinationAdapter]):
    @scenario()
    async def test_claiming_keeping_and_releasing(self, h: H) -> None:
        for name in "ab":
            await h.adapter.join(Member(id=name))
        assert await h.adapter.claim("a", []) == []
        assert await h.adapter.claim("a", [3, 1, 2]) == [ShardLease(n, "a", 1) for n in (1, 2, 3)]
        assert await h.adapter.claim("a", [3, 4]) == [ShardLease(3, "a", 1), ShardLease(4, "a", 1)]
        assert await h.adapter.claim("b", [2, 5]) == [ShardLease(5, "b", 1)]
        await h.adapter.release("b", [1, 2])
        await h.adapter.release("a", iter([2, 5, 77]))
        owners = await h.adapter.owners()
        assert owners == {
            1: ShardLease(1, "a", 1), 3: ShardLease(3, "a", 1), 4: ShardLease(4, "a", 1), 5: ShardLease(5, "b", 1),
        }  # fmt: skip

    @scenario()
    async def test_an_epoch_grows_with_every_change_of_owner(self, h: H) -> None:
        for name in "ab":
            await h.adapter.join(Member(id=name))
        epoch = 0
        for round_ in range(10):
            name = "ab"[round_ % 2]
            [lease] = await h.adapter.claim(name, [7])
            assert lease.epoch > epoch
            assert await h.adapter.claim(name, [7]) == [lease]
            epoch = lease.epoch
            await h.adapter.release(name, [7])
            assert 7 not in await h.adapter.owners()

    @scenario()
    async def test_members_that_race_for_all_shards_get_disjoint_sets(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        names = ["a", "b", "c", "d"]
        for n, name in enumerate(names):
            await clients[n % 2].join(Member(id=name))
        epochs = [0] * 256
        for round_ in range(5):
            order = list(range(round_ % 3, 256)) + list(range(round_ % 3))
            results = await asyncio.gather(
                *(clients[n % 2].claim(name, order[:: (-1) ** n]) for n, name in enumerate(names))
            )
            owners = await clients[round_ % 2].owners()
            assert len(owners) == 256
            assert sorted(lease.shard for result in results for lease in result) == list(range(256))
            for name, result in zip(names, results, strict=True):
                for lease in result:
                    assert owners[lease.shard] == lease
                    assert lease.owner == name
                    assert lease.epoch > epochs[lease.shard]
                    epochs[lease.shard] = lease.epoch
            await asyncio.gather(*(clients[n % 2].release(name, range(256)) for n, name in enumerate(names)))
            assert await clients[0].owners() == {}

    @scenario()
    async def test_leaving_frees_everything(self, h: H) -> None:
        for name in "ab":
            await h.adapter.join(Member(id=name))
        await h.adapter.claim("a", range(130))
        await h.adapter.claim("b", [200])
        assert await h.adapter.lead("role", "a") is True
        await h.adapter.leave("a")
        assert await h.adapter.owners() == {200: ShardLease(200, "b", 1)}
        assert await h.adapter.lead("role", "b") is True
        leases = await h.adapter.claim("b", range(130))
        assert leases == [ShardLease(n, "b", 2) for n in range(130)]

    @scenario()
    async def test_a_cancelled_claim_leaves_the_adapter_usable(self, h: H) -> None:
        for name in "ab":
            await h.adapter.join(Member(id=name))
        for n in range(20):
            call = asyncio.create_task(h.adapter.claim("a", range(256)))
            for _ in range(n):
                await asyncio.sleep(0)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
        mine = await h.adapter.claim("a", range(256))
        assert [lease.shard for lease in mine] == list(range(256))
        assert {lease.epoch for lease in mine} == {1}
        assert await h.adapter.claim("b", range(256)) == []


class _Leaders(Suite[CoordinationAdapter]):
    @scenario()
    async def test_of_racing_candidates_one_leads(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        for n in range(4):
            await clients[n % 2].join(Member(id=f"m{n}"))
        for round_ in range(50):
            results = await asyncio.gather(*(clients[n % 2].lead(f"role{round_}", f"m{n}") for n in range(4)))
            assert sorted(results) == [False, False, False, True]
            again = await asyncio.gather(*(clients[n % 2].lead(f"role{round_}", f"m{n}") for n in range(4)))
            assert again == results


class _Death(Suite[CoordinationAdapter]):
    @scenario()
    async def test_what_a_dead_member_had_goes_to_the_living(self, h: H) -> None:
        other = await h.second()
        await h.adapter.join(Member(id="living"))
        await other.join(Member(id="dead"))
        await other.claim("dead", range(130))
        await h.adapter.claim("living", [200])
        assert await other.lead("role", "dead") is True
        assert await h.adapter.lead("role", "living") is False
        assert await h.adapter.claim("living", range(130)) == []
        await die(h, other, survivors={"living": h.adapter})
        assert [member.id for member in await h.adapter.members()] == ["living"]
        assert (await h.adapter.owners())[5] == ShardLease(5, "dead", 1)
        assert await h.adapter.lead("role", "living") is True
        leases = await h.adapter.claim("living", [*range(130), 200])
        assert leases == [*(ShardLease(n, "living", 2) for n in range(130)), ShardLease(200, "living", 1)]
        with pytest.raises(NotAMemberError):
            await h.adapter.heartbeat("dead")

    @scenario()
    async def test_the_living_who_race_for_a_dead_members_shards_get_disjoint_sets(self, h: H) -> None:
        doomed, two = await h.second(), await h.second()
        clients = {"one": h.adapter, "two": two}
        for name, client in clients.items():
            await client.join(Member(id=name))
        for round_ in range(3):
            doomed = doomed if round_ == 0 else await h.second()
            await doomed.join(Member(id=f"doomed{round_}"))
            mine = await doomed.claim(f"doomed{round_}", range(256))
            assert len(mine) == 256
            await die(h, doomed, survivors=clients)
            results = await asyncio.gather(*(client.claim(name, range(256)) for name, client in clients.items()))
            assert sorted(lease.shard for result in results for lease in result) == list(range(256))
            before = {lease.shard: lease.epoch for lease in mine}
            assert all(lease.epoch == before[lease.shard] + 1 for result in results for lease in result)
            for name, client in clients.items():
                await client.release(name, range(256))

    @scenario(Feature.TTL)
    async def test_a_member_without_heartbeats_is_dead_and_says_so(self, h: H) -> None:
        other = await h.second()
        ttl = h.adapter.member_ttl
        await h.adapter.join(Member(id="silent"))
        await other.join(Member(id="steady"))
        await h.adapter.claim("silent", [1, 2])
        for _ in range(4):
            await h.pass_time(ttl / 3)
            await other.heartbeat("steady")
        assert [member.id for member in await other.members()] == ["steady"]
        for call in (
            h.adapter.heartbeat("silent"), h.adapter.claim("silent", [3]), h.adapter.lead("role", "silent"),
        ):  # fmt: skip
            with pytest.raises(NotAMemberError):
                await call
        assert [lease.epoch for lease in await other.claim("steady", [1, 2, 3])] == [2, 2, 1]
        await h.adapter.join(Member(id="silent"))
        assert await h.adapter.claim("silent", [1, 2, 4]) == [ShardLease(4, "silent", 1)]

    @scenario(Feature.TTL)
    async def test_heartbeats_keep_a_member_alive(self, h: H) -> None:
        await h.adapter.join(Member(id="a"))
        await h.adapter.claim("a", [1])
        for _ in range(6):
            await h.pass_time(h.adapter.member_ttl / 2)
            await h.adapter.heartbeat("a")
        assert await h.adapter.claim("a", [1]) == [ShardLease(1, "a", 1)]


class _Processes(Suite[CoordinationAdapter]):
    @scenario(durability=Durability.PROCESS)
    async def test_owners_and_epochs_are_there_after_reopening(self, h: H) -> None:
        await h.adapter.shard_count(99)
        await h.adapter.join(Member(id="a"))
        await h.adapter.claim("a", [1, 2])
        await h.adapter.release("a", [2])
        store = await h.reopen()
        assert await store.shard_count(5) == 99
        assert await store.owners() == {1: ShardLease(1, "a", 1)}
        await die(h, survivors={})
        await store.join(Member(id="b"))
        assert await store.claim("b", [1, 2, 3]) == [
            ShardLease(1, "b", 2), ShardLease(2, "b", 2), ShardLease(3, "b", 1),
        ]  # fmt: skip

    @scenario(reach=Reach.HOST, url=True)
    async def test_what_a_killed_process_had_can_be_claimed(self, h: H) -> None:
        assert h.url is not None
        await h.adapter.join(Member(id="living"))
        async with (
            run_child(join_and_wait, h.adapter, h.url, "one", "0") as one,
            run_child(join_and_wait, h.adapter, h.url, "two", "16") as two,
        ):
            for child, first in ((one, 0), (two, 16)):
                assert await child.read() == [*([n, 1] for n in range(first, first + 16)), True]
            assert [member.id for member in await h.adapter.members()] == ["living", "one", "two"]
            assert await h.adapter.claim("living", range(32)) == []
            await one.kill()
            await self.until_dead(h, "one", {"living": h.adapter})
            assert await h.adapter.claim("living", range(32)) == [ShardLease(n, "living", 2) for n in range(16)]
            assert await h.adapter.lead("role-one", "living") is True
            assert await h.adapter.lead("role-two", "living") is False

    @scenario(reach=Reach.HOST, url=True)
    async def test_processes_that_race_for_all_shards_get_disjoint_sets(self, h: H) -> None:
        assert h.url is not None
        async with (
            run_child(claim_and_report, h.adapter, h.url, "one") as one,
            run_child(claim_and_report, h.adapter, h.url, "two") as two,
        ):
            won = {"one": dict(await one.read()), "two": dict(await two.read())}
            assert sorted([*won["one"], *won["two"]]) == list(range(256))
            owners = await h.adapter.owners()
            assert all(owners[shard].owner == name for name, shards in won.items() for shard in shards)

    @staticmethod
    async def until_dead(h: H, name: str, survivors: dict[str, CoordinationAdapter]) -> None:
        """Wait until the member counts as dead, whatever sign of life the adapter goes by."""

        async def dead() -> bool:
            for member_id, client in survivors.items():
                await client.heartbeat(member_id)
            if name not in [member.id for member in await h.adapter.members()]:
                return True
            await h.pass_time(h.adapter.member_ttl / 10)
            return False

        await eventually(dead, f"{name} counts as dead")


class CoordinationSuite(_Members, _Shards, TypesApartSuite, _Leaders, _Death, _Processes):
    """All that a CoordinationAdapter must do. Declare ``Feature.TTL`` where members live by their heartbeats."""
