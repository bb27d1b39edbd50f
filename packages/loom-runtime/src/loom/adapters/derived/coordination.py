"""Membership, shard leases and leadership as documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from ...clock import Clock, SystemClock
from ...errors import CoordinationError, DocumentConflictError, NotAMemberError
from ...ports.coordination import CoordinationAdapter, Member, ShardLease
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
        await self._change(
            _SHARDS,
            lambda current: [
                Put(id=document.id, body={"owner": "", "epoch": document.body["epoch"]}, if_match=document.etag)
                for document in current
                if document.body["owner"] == member_id and (shards is None or int(document.id) in shards)
            ],
        )

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
            epoch += 1
            body = {"owner": member_id, "epoch": epoch}
            etag = None if found is None else found.etag
            operations.append(Put(id=str(shard), body=body, if_match=etag, create_only=found is None))
        mine.append(ShardLease(shard, member_id, epoch))
    return mine, operations


def _lease(document: Document) -> ShardLease:
    return ShardLease(int(document.id), document.body["owner"], int(document.body["epoch"]))


def _not_a_member(member_id: str) -> NotAMemberError:
    return NotAMemberError(
        f"{member_id} is not a living member of this fleet; it owns nothing now: join again before anything else",
        member=member_id,
    )


def _contended(what: str, name: str) -> CoordinationError:
    return CoordinationError(f"{what} of {name}: {_ATTEMPTS} rounds in a row met other writers; try again", name=name)
