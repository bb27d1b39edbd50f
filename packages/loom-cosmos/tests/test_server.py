"""What the server of these tests does without our corrections, and with them."""

from __future__ import annotations

import itertools

import pytest
from azure.core import MatchConditions
from azure.cosmos import PartitionKey
from azure.cosmos.aio import CosmosClient
from azure.cosmos.exceptions import CosmosAccessConditionFailedError, CosmosResourceExistsError

from loom_cosmos.options import EMULATOR_KEY
from loom_cosmos.testing import CosmosServer
from loom_cosmos.transport import Transport

_numbers = itertools.count(1)


@pytest.mark.parametrize("which", ["plain_server", "corrected_server"])
async def test_what_both_do_right(which: str, request: pytest.FixtureRequest) -> None:
    server: CosmosServer = request.getfixturevalue(which.replace("corrected", "cosmos"))
    endpoint = f"https://127.0.0.1:{server.port}/"
    async with CosmosClient(endpoint, EMULATOR_KEY, connection_verify=False, transport=Transport()) as client:
        database = await client.create_database_if_not_exists(f"both{next(_numbers)}")
        container = await database.create_container_if_not_exists("items", PartitionKey("/pk"))
        first = await container.create_item({"id": "a", "pk": "p", "n": 1})
        with pytest.raises(CosmosResourceExistsError):
            await container.create_item({"id": "a", "pk": "p", "n": 2})
        second = await container.replace_item(
            "a", {"id": "a", "pk": "p", "n": 2}, etag=first["_etag"], match_condition=MatchConditions.IfNotModified
        )
        assert second["_etag"] != first["_etag"]
        with pytest.raises(CosmosAccessConditionFailedError):
            await container.replace_item(
                "a", {"id": "a", "pk": "p", "n": 3}, etag=first["_etag"], match_condition=MatchConditions.IfNotModified
            )
        assert (await container.read_item("a", "p"))["n"] == 2
        for n in range(3, 6):
            await container.upsert_item({"id": str(n), "pk": "p", "n": n})
        query = "SELECT * FROM c WHERE c.pk = @pk AND c.n >= @n ORDER BY c.n DESC"
        parameters: list[dict[str, object]] = [{"name": "@pk", "value": "p"}, {"name": "@n", "value": 3}]
        found = [item["n"] async for item in container.query_items(query, parameters=parameters, partition_key="p")]
        assert found == [5, 4, 3]
        await container.delete_item("a", "p")
