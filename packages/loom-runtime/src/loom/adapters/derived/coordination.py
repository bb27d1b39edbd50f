"""Membership, shard leases and leadership as documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from ...clock import Clock, SystemClock
from ...errors import CoordinationError, DocumentConflictError, NotAMemberError
from ...ports.coordination import CoordinationAdapter, Member, ShardLease, TypeLease
from ...ports.documents import Collection, Delete, Document, DocumentStore, Operation, Put, Query
from ...ports.port import check_key
from .base import DerivedStore
from .liveness import HeartbeatLiveness, Liveness

__all__ = ["DocumentCoordination"]

_COLLECTION = "coordination"
_SETTINGS, _MEMBERS, _SHARDS, _LEADERS = "settings", "members", "shards", "leaders"
_BATCH = 100
_PAGE = 1000
_ATTEMPTS = 100
"""Rounds of compare-and-set before giving up. Each lost round means that another member has got on."""

Plan = Callable[[list[Document]], list[Operation]]
Units = Iterable[tuple[int, str]]


class DocumentCoordination(DerivedStore, CoordinationAdapter):
    """A CoordinationAdapter over any DocumentStore.

    Every change is a compare-and-set on documents that were just read, up to 100 of them in one atomic batch: 256
    shards are claimed in two queries and three batches. Without ``liveness`` members live by their heartbeats.
    """

    collections: ClassVar[tuple[Collection, ...]] = (Collection(_COLLECTION),)

    def __init__(
        self,
        documents: DocumentStore,
        *,
        clock: Clock | None = None,
        member_ttl: float = 10.0,
        liveness: Liveness | None = None,
        owned: bool = False,
    ) -> None:
        super().__init__(documents, owned=owned)
        self._clock = clock or SystemClock()
        self.member_ttl = member_ttl
        self._liveness = liveness or HeartbeatLiveness(member_ttl, self._clock)

    async def close(self) -> None:
        if self._started:
            await self._liveness.close()
        await super().close()

    async def shard_count(self, wanted: int) -> int:
        if wanted < 0:
            raise ValueError(f"shard_count({wanted}): a fleet has at least one shard; 0 only asks")
        if wanted == 0:
            stored = await self._documents.get(_COLLECTION, _SETTINGS, "shard_count")
            return 0 if stored is None else int(stored.body["count"])
        try:
            document = await self._documents.put(
                _COLLECTION, _SETTINGS, "shard_count", {"count": wanted}, create_only=True
            )
        except DocumentConflictError:
            found = await self._documents.get(_COLLECTION, _SETTINGS, "shard_count")
            if found is None:
                raise
            document = found
        return int(document.body["count"])

    async def join(self, member: Member) -> None:
        check_key("member id", member.id)
        await self._liveness.enter(member.id)
        await self._put_member(member.id, msgspec.json.decode(msgspec.json.encode(member)))

    async def heartbeat(self, member_id: str) -> None:
        check_key("member id", member_id)
        for _ in range(_ATTEMPTS):
            document = await self._documents.get(_COLLECTION, _MEMBERS, member_id)
            if document is None or await self._dead([document]):
                raise _not_a_member(member_id)
            if self._liveness.ttl is None:
                return
            try:
                await self._put_member(member_id, document.body["member"], if_match=document.etag)
                return
            except DocumentConflictError:
                continue
        raise _contended("heartbeat", member_id)

    async def leave(self, member_id: str) -> None:
        check_key("member id", member_id)
        # The record goes first: after it nobody can claim in this member's name, so nothing is claimed behind our back.
        await self._documents.delete(_COLLECTION, _MEMBERS, member_id)
        await self._free(member_id, None)
        await self._change(
            _LEADERS,
            lambda leaders: [
                Delete(id=leader.id, if_match=leader.etag) for leader in leaders if leader.body["owner"] == member_id
            ],
        )
        await self._liveness.leave(member_id)

    async def members(self) -> list[Member]:
        documents = await self._all(_MEMBERS)
        dead = await self._dead(documents)
        return [msgspec.convert(d.body["member"], Member) for d in documents if d.id not in dead]

    async def last_seen(self) -> dict[str, float]:
        if self._liveness.ttl is None:
            return {}  # heartbeats are not written where members live by something else
        records = await self._all(_MEMBERS)
        dead = await self._dead(records)
        return {record.id: float(record.body["seen_at"]) for record in records if record.id not in dead}

    async def claim(self, member_id: str, shards: Sequence[int]) -> list[ShardLease]:
        check_key("member id", member_id)
        wanted = sorted(set(shards))
        if wanted and wanted[0] < 0:
            raise ValueError(f"claim: shard {wanted[0]} is negative")
        for _ in range(_ATTEMPTS):
            records = await self._all(_MEMBERS)
            dead = await self._dead(records)
            alive = {record.id for record in records} - dead
            if member_id not in alive:
                raise _not_a_member(member_id)
            current = {int(document.id): document for document in await self._all(_SHARDS)}
            mine, operations = _plan(member_id, wanted, current, alive)
            if await self._apply(_SHARDS, operations):
                await self._bury([record for record in records if record.id in dead])
                return mine
        raise _contended("claim", member_id)

    async def release(self, member_id: str, shards: Iterable[int]) -> None:
        check_key("member id", member_id)
        await self._free(member_id, set(shards))

    async def owners(self) -> dict[int, ShardLease]:
        leases = (_lease(document) for document in await self._all(_SHARDS))
        return {lease.shard: lease for lease in sorted(leases, key=lambda lease: lease.shard) if lease.owner}

    async def set_apart(self, member_id: str, units: Units) -> list[TypeLease]:
        check_key("member id", member_id)
        wanted = _by_shard(units)

        def plan(current: list[Document]) -> list[Operation]:
            operations: list[Operation] = []
            for document, types in _of(wanted, current):
                apart = _types(document)
                new = {name: {"owner": "", "epoch": 0} for name in types if name not in apart}
                if new and document.body["owner"] == member_id:
                    operations.append(_put(document, types=apart | new))
            return operations

        await self._change(_SHARDS, plan)
        owned = {lease.shard: lease for lease in (await self.owners()).values() if lease.owner == member_id}
        return [
            lease for shard in wanted if shard in owned for lease in owned[shard].types if lease.type in wanted[shard]
        ]

    async def claim_types(self, member_id: str, units: Units) -> list[TypeLease]:
        check_key("member id", member_id)
        wanted = _by_shard(units)
        for _ in range(_ATTEMPTS):
            records = await self._all(_MEMBERS)
            dead = await self._dead(records)
            serves = {record.id: set(record.body["member"]["serves"]) for record in records if record.id not in dead}
            if member_id not in serves:
                raise _not_a_member(member_id)
            mine, operations = _plan_types(member_id, wanted, await self._all(_SHARDS), serves)
            if await self._apply(_SHARDS, operations):
                return mine
        raise _contended("claim_types", member_id)

    async def release_types(self, member_id: str, units: Units) -> None:
        check_key("member id", member_id)
        wanted = _by_shard(units)

        def plan(current: list[Document]) -> list[Operation]:
            operations: list[Operation] = []
            for document, types in _of(wanted, current):
                freed = _without_owner(_types(document), member_id, types)
                if freed is not None:
                    operations.append(_put(document, types=freed))
            return operations

        await self._change(_SHARDS, plan)

    async def reunite(self, member_id: str, units: Units) -> dict[int, int]:
        check_key("member id", member_id)
        wanted = _by_shard(units)
        epochs: dict[int, int] = {}

        def plan(current: list[Document]) -> list[Operation]:
            operations: list[Operation] = []
            for document, types in _of(wanted, current):
                apart = _types(document)
                ended = {name for name in types if name in apart and apart[name]["owner"] == member_id}
                if ended and document.body["owner"] == member_id:
                    epoch = epochs[int(document.id)] = _highest(document) + 1
                    left = {name: lease for name, lease in apart.items() if name not in ended}
                    operations.append(_put(document, epoch=epoch, types=left))
            return operations

        await self._change(_SHARDS, plan)
        return epochs

    async def lead(self, role: str, member_id: str) -> bool:
        check_key("role", role)
        check_key("member id", member_id)
        for _ in range(_ATTEMPTS):
            leader = await self._documents.get(_COLLECTION, _LEADERS, role)
            asked = {member_id} if leader is None else {member_id, leader.body["owner"]}
            records = [await self._documents.get(_COLLECTION, _MEMBERS, name) for name in sorted(asked)]
            present = [record for record in records if record is not None]
            alive = {record.id for record in present} - await self._dead(present)
            if member_id not in alive:
                raise _not_a_member(member_id)
            if leader is not None and leader.body["owner"] in alive:
                return bool(leader.body["owner"] == member_id)
            etag = None if leader is None else leader.etag
            operation = Put(id=role, body={"owner": member_id}, if_match=etag, create_only=leader is None)
            if await self._apply(_LEADERS, [operation]):
                return True
        raise _contended("lead", member_id)

    async def _put_member(self, member_id: str, member: dict[str, Any], if_match: str | None = None) -> None:
        body = {"member": member, "seen_at": self._clock.now()}
        # Who died is told by the liveness; the document's own TTL only sweeps up after members that nobody replaced.
        ttl = None if self._liveness.ttl is None else 100 * self._liveness.ttl
        await self._documents.put(_COLLECTION, _MEMBERS, member_id, body, if_match=if_match, ttl=ttl)

    async def _dead(self, records: Sequence[Document]) -> set[str]:
        return await self._liveness.dead({record.id: record.body["seen_at"] for record in records})

    async def _bury(self, records: Sequence[Document]) -> None:
        for record in records:
            if await self._apply(_MEMBERS, [Delete(id=record.id, if_match=record.etag)]):
                await self._liveness.forget(record.id)

    async def _free(self, member_id: str, shards: set[int] | None) -> None:
        """Free the shards; with ``shards`` None everything, types that are set apart included."""

        def plan(current: list[Document]) -> list[Operation]:
            operations: list[Operation] = []
            for document in current:
                owned = document.body["owner"] == member_id and (shards is None or int(document.id) in shards)
                freed = _without_owner(_types(document), member_id, None) if shards is None else None
                if owned or freed is not None:
                    owner = "" if owned else document.body["owner"]
                    operations.append(_put(document, owner=owner, types=_types(document) if freed is None else freed))
            return operations

        await self._change(_SHARDS, plan)

    async def _change(self, partition: str, plan: Plan) -> None:
        for _ in range(_ATTEMPTS):
            if await self._apply(partition, plan(await self._all(partition))):
                return
        raise _contended("change", partition)

    async def _apply(self, partition: str, operations: list[Operation]) -> bool:
        """Whether all of it was written; a batch that met a conflict leaves the others to be planned again."""
        whole = True
        for start in range(0, len(operations), _BATCH):
            try:
                await self._documents.batch(_COLLECTION, partition, operations[start : start + _BATCH])
            except DocumentConflictError:
                whole = False
        return whole

    async def _all(self, partition: str) -> list[Document]:
        found: list[Document] = []
        cursor: str | None = None
        while True:
            page = await self._documents.query(_COLLECTION, Query(partition=partition, limit=_PAGE, cursor=cursor))
            found.extend(page.documents)
            cursor = page.cursor
            if cursor is None:
                return found


def _plan(
    member_id: str, wanted: Sequence[int], current: dict[int, Document], alive: set[str]
) -> tuple[list[ShardLease], list[Operation]]:
    """What the member will own of ``wanted`` once the operations are applied."""
    mine: list[ShardLease] = []
    operations: list[Operation] = []
    for shard in wanted:
        found = current.get(shard)
        owner, epoch = ("", 0) if found is None else (found.body["owner"], int(found.body["epoch"]))
        if owner != member_id:
            if owner in alive:
                continue
            if found is None:
                epoch = 1
                operations.append(Put(id=str(shard), body={"owner": member_id, "epoch": epoch}, create_only=True))
            else:
                epoch = _highest(found) + 1
                operations.append(_put(found, owner=member_id, epoch=epoch))
        mine.append(ShardLease(shard, member_id, epoch, () if found is None else _type_leases(found)))
    return mine, operations


def _plan_types(
    member_id: str, wanted: dict[int, set[str]], current: list[Document], serves: dict[str, set[str]]
) -> tuple[list[TypeLease], list[Operation]]:
    """What the member will have of ``wanted`` once the operations are applied. ``serves`` are the living members."""
    mine: list[TypeLease] = []
    operations: list[Operation] = []
    for document, types in _of(wanted, current):
        apart, epoch, owner = dict(_types(document)), _highest(document), document.body["owner"]
        changed = False
        for name in sorted(types):
            found = apart.get(name)
            holder = "" if found is None else found["owner"]
            if holder != member_id:
                at_home = found is None if owner == member_id else name in serves.get(owner, ())
                if holder in serves or at_home:
                    continue
                epoch += 1
                apart[name] = {"owner": member_id, "epoch": epoch}
                changed = True
            mine.append(TypeLease(int(document.id), name, member_id, int(apart[name]["epoch"])))
        if changed:
            operations.append(_put(document, types=apart))
    return mine, operations


def _by_shard(units: Units) -> dict[int, set[str]]:
    wanted: dict[int, set[str]] = {}
    for shard, name in units:
        wanted.setdefault(shard, set()).add(name)
    return wanted


def _of(wanted: dict[int, set[str]], current: list[Document]) -> list[tuple[Document, set[str]]]:
    return [(document, wanted[int(document.id)]) for document in current if int(document.id) in wanted]


def _types(document: Document) -> dict[str, Any]:
    found: dict[str, Any] = document.body.get("types", {})
    return found


def _highest(document: Document) -> int:
    """The highest epoch that the shard or a type of it has."""
    return max([int(document.body["epoch"]), *(int(lease["epoch"]) for lease in _types(document).values())])


def _put(
    document: Document, *, owner: str | None = None, epoch: int | None = None, types: dict[str, Any] | None = None
) -> Put:
    types = _types(document) if types is None else types
    body: dict[str, Any] = {
        "owner": document.body["owner"] if owner is None else owner,
        "epoch": document.body["epoch"] if epoch is None else epoch,
    }
    if types:
        body["types"] = types
    return Put(id=document.id, body=body, if_match=document.etag)


def _without_owner(apart: dict[str, Any], member_id: str, names: set[str] | None) -> dict[str, Any] | None:
    """The types with those of the member given back; None when it has none of them."""
    freed = {
        name: {"owner": "", "epoch": lease["epoch"]}
        for name, lease in apart.items()
        if lease["owner"] == member_id and (names is None or name in names)
    }
    return apart | freed if freed else None


def _type_leases(document: Document) -> tuple[TypeLease, ...]:
    shard = int(document.id)
    return tuple(TypeLease(shard, name, t["owner"], int(t["epoch"])) for name, t in sorted(_types(document).items()))


def _lease(document: Document) -> ShardLease:
    return ShardLease(int(document.id), document.body["owner"], int(document.body["epoch"]), _type_leases(document))


def _not_a_member(member_id: str) -> NotAMemberError:
    return NotAMemberError(
        f"{member_id} is not a living member of this fleet; it owns nothing now: join again before anything else",
        member=member_id,
    )


def _contended(what: str, name: str) -> CoordinationError:
    return CoordinationError(f"{what} of {name}: {_ATTEMPTS} rounds in a row met other writers; try again", name=name)
