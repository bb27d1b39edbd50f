"""Coordination, each broken in one way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from loom.adapters.memory.coordination import InMemoryCoordinationAdapter
from loom.clock import Clock
from loom.errors import NotAMemberError
from loom.ports.coordination import ShardLease
from loom.ports.documents import DocumentStore, Operation, Put

from . import documents as broken


class GivesAShardToTwo(InMemoryCoordinationAdapter):
    """Tells everybody who asks that the shard is theirs."""

    async def claim(self, member_id: str, shards: Sequence[int]) -> list[ShardLease]:
        mine = {lease.shard: lease for lease in await super().claim(member_id, shards)}
        owners = await self.owners()
        return [mine.get(shard) or ShardLease(shard, member_id, owners[shard].epoch) for shard in sorted(set(shards))]


class ClaimsOverOthers(InMemoryCoordinationAdapter):
    """Writes what it planned though others have claimed since it looked."""

    async def _apply(self, partition: str, operations: list[Operation]) -> bool:
        await asyncio.sleep(0)
        blind = [
            Put(id=operation.id, body=operation.body) if isinstance(operation, Put) else operation
            for operation in operations
        ]
        return await super()._apply(partition, blind)


class EpochsStandStill(InMemoryCoordinationAdapter):
    """Hands a shard on under the epoch that its last owner had."""

    async def _apply(self, partition: str, operations: list[Operation]) -> bool:
        for operation in operations:
            if isinstance(operation, Put) and "epoch" in operation.body:
                operation.body["epoch"] = 1
        return await super()._apply(partition, operations)


class EpochsRestartAfterRelease(InMemoryCoordinationAdapter):
    """Forgets a shard, and with it its epoch, when it is released."""

    async def _apply(self, partition: str, operations: list[Operation]) -> bool:
        done = await super()._apply(partition, operations)
        for operation in operations:
            if isinstance(operation, Put) and operation.body["owner"] == "":
                await self._documents.delete("coordination", partition, operation.id)
        return done


class EpochsGrowWithEveryClaim(InMemoryCoordinationAdapter):
    """Fences an owner off its own shards when it claims them again."""

    async def claim(self, member_id: str, shards: Sequence[int]) -> list[ShardLease]:
        await self.release(member_id, shards)
        return await super().claim(member_id, shards)


class HasTwoLeaders(InMemoryCoordinationAdapter):
    """Every candidate leads."""

    async def lead(self, role: str, member_id: str) -> bool:
        await super().lead(role, member_id)
        return True


class NobodyDies(InMemoryCoordinationAdapter):
    """Leaves the shards of a dead member with it."""

    async def claim(self, member_id: str, shards: Sequence[int]) -> list[ShardLease]:
        owners = await self.owners()
        return await super().claim(
            member_id, [shard for shard in shards if shard not in owners or owners[shard].owner == member_id]
        )


class RevivesTheDead(InMemoryCoordinationAdapter):
    """Lets a member that was declared dead go on as if nothing had happened."""

    async def heartbeat(self, member_id: str) -> None:
        found = await self._documents.get("coordination", "members", member_id)
        if found is None:
            raise NotAMemberError(f"{member_id} never joined", member=member_id)
        await self._put_member(member_id, found.body["member"])


class ForgetsTheShardCount(InMemoryCoordinationAdapter):
    """Lets the last host that starts decide on the number of shards."""

    async def shard_count(self, wanted: int) -> int:
        await self._documents.delete("coordination", "settings", "shard_count")
        return await super().shard_count(wanted)


class LeavesItsShardsBehind(InMemoryCoordinationAdapter):
    """Takes a member out of the list and leaves it everything it owned."""

    async def leave(self, member_id: str) -> None:
        await self._documents.delete("coordination", "members", member_id)


class LetsStrangersClaim(InMemoryCoordinationAdapter):
    """Does not ask whether the claimer is a member."""

    async def claim(self, member_id: str, shards: Sequence[int]) -> list[ShardLease]:
        try:
            return await super().claim(member_id, shards)
        except NotAMemberError:
            return []


class IsNotDurable(InMemoryCoordinationAdapter):
    """Declares that it is, over documents that are not."""

    def __init__(
        self, documents: DocumentStore | None = None, *, clock: Clock | None = None, member_ttl: float = 10.0
    ) -> None:
        super().__init__(documents or broken.IsNotDurable(clock=clock), clock=clock, member_ttl=member_ttl)

    async def close(self) -> None:
        await super().close()
        await self._documents.close()
