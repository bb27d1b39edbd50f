"""Coordination: types set apart from their shards, for hosts that have code which the shard's owner has not."""

from __future__ import annotations

import pytest

from ...errors import NotAMemberError
from ...ports.coordination import CoordinationAdapter, Member, ShardLease, TypeLease
from .base import Harness, Suite, scenario

__all__ = ["TypesApartSuite"]

H = Harness[CoordinationAdapter]


async def fleet_of_three(h: H) -> CoordinationAdapter:
    """Hosts ``a`` without code for ``T`` and ``b`` and ``c`` with it; ``a`` owns shard 1, nobody shard 2."""
    fleet = h.adapter
    if type(fleet).set_apart is CoordinationAdapter.set_apart:
        pytest.skip("the adapter sets no types apart: every host of its fleet must serve the same")
    for name, serves in (("a", ()), ("b", ("T", "U")), ("c", ("T",))):
        await fleet.join(Member(id=name, serves=serves))
    await fleet.claim("a", [1])
    return fleet


class TypesApartSuite(Suite[CoordinationAdapter]):
    """One line of epochs for a shard and its types, and one owner of each at a time."""

    @scenario()
    async def test_a_type_is_claimed_where_the_owner_of_the_shard_does_not_serve_it(self, h: H) -> None:
        fleet = await fleet_of_three(h)
        [lease] = await fleet.claim_types("b", [(1, "T"), (2, "T")])
        assert lease == TypeLease(1, "T", "b", 2)
        assert await fleet.claim_types("b", [(1, "T")]) == [lease]
        assert await fleet.claim_types("c", [(1, "T")]) == []
        assert (await fleet.owners())[1] == ShardLease(1, "a", 1, (lease,))
        assert await fleet.claim("a", [1]) == [ShardLease(1, "a", 1, (lease,))]
        await fleet.claim("c", [2])
        assert await fleet.claim_types("b", [(2, "T")]) == []  # c serves it itself
        assert await fleet.claim_types("b", [(2, "U")]) == [TypeLease(2, "U", "b", 2)]
        with pytest.raises(NotAMemberError):
            await fleet.claim_types("x", [(1, "T")])

    @scenario()
    async def test_epochs_of_a_shard_and_its_types_are_one_line(self, h: H) -> None:
        fleet = await fleet_of_three(h)
        epoch = 1
        for name in "bcb":
            [lease] = await fleet.claim_types(name, [(1, "T")])
            assert lease.epoch > epoch
            epoch = lease.epoch
            await fleet.release_types("a", [(1, "T")])
            await fleet.release_types(name, [(1, "T")])
        await fleet.release("a", [1])
        [shard] = await fleet.claim("c", [1])
        assert shard.epoch > epoch
        assert [found.owner for found in shard.types] == [""]

    @scenario()
    async def test_a_type_is_reunited_with_its_shard_by_whoever_has_both(self, h: H) -> None:
        fleet = await fleet_of_three(h)
        [lease] = await fleet.claim_types("b", [(1, "T")])
        assert await fleet.reunite("b", [(1, "T")]) == {}
        assert await fleet.reunite("a", [(1, "T")]) == {}
        await fleet.release("a", [1])
        [shard] = await fleet.claim("b", [1])
        assert shard.types == (lease,)
        epochs = await fleet.reunite("b", [(1, "T")])
        assert epochs[1] > max(shard.epoch, lease.epoch)
        assert await fleet.claim("b", [1]) == [ShardLease(1, "b", epochs[1])]
        assert await fleet.claim_types("c", [(1, "T")]) == []
        assert await fleet.claim_types("b", [(1, "T")]) == []  # the shard's owner gets only what is set apart

    @scenario()
    async def test_types_set_apart_wait_for_somebody(self, h: H) -> None:
        fleet = await fleet_of_three(h)
        assert await fleet.set_apart("a", [(1, "T"), (2, "T")]) == [TypeLease(1, "T", "", 0)]
        assert await fleet.set_apart("a", [(1, "T")]) == [TypeLease(1, "T", "", 0)]
        assert await fleet.set_apart("b", [(1, "V")]) == []
        [lease] = await fleet.claim_types("c", [(1, "T")])
        await fleet.leave("c")
        assert (await fleet.owners())[1].types == (TypeLease(1, "T", "", lease.epoch),)
        assert (await fleet.claim_types("b", [(1, "T")]))[0].epoch > lease.epoch
